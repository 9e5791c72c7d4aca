"""Clients of the simulated engine, with the methods that the library calls of aiobotocore's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

from reliability.simulation.engine import OPERATIONS, Engine


class _Events:
    """The hooks of a client that never repeats anything by itself."""

    def register(self, event: str, handler: Callable[..., object], *, unique_id: str | None = None) -> None:
        """Take a hook, and never call it."""


class Client:
    """A client whose calls go where `send` takes them."""

    def __init__(self, send: Callable[[str, dict[str, Any]], Awaitable[Any]]) -> None:
        self._send = send
        config = SimpleNamespace(retries={"mode": "standard", "total_max_attempts": 1}, max_pool_connections=1_000)
        self.meta = SimpleNamespace(config=config, events=_Events())

    def __getattr__(self, operation: str) -> Callable[..., Awaitable[Any]]:
        if operation not in OPERATIONS:
            raise AttributeError(operation)
        return partial(self._call, operation)

    def _call(self, operation: str, **parameters: Any) -> Awaitable[Any]:
        return self._send(operation, parameters)


def direct_client(engine: Engine) -> Any:
    """Make a client that is answered at once, in whatever event loop it is used."""

    async def send(operation: str, parameters: dict[str, Any]) -> Any:
        return engine.execute(operation, parameters)

    return Client(send)
