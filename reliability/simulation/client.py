"""Clients of the simulated backend, with the methods of an aiobotocore client that the library calls.

A client may repeat calls, like the clients of botocore; see
https://docs.aws.amazon.com/boto3/latest/guide/retries.html .
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from enum import StrEnum
from functools import partial
from random import Random
from types import SimpleNamespace
from typing import Any, Final

from botocore.exceptions import ClientError, ConnectionError, HTTPClientError  # noqa: A004 - botocore's own name

from reliability.simulation.backend import OPERATIONS, Backend

Hook = Callable[..., object]


class Retries(StrEnum):
    """How a client repeats calls: never, or in one of the modes of botocore."""

    NONE = "one attempt"
    LEGACY = "legacy"
    STANDARD = "standard"


ATTEMPTS: Final = {Retries.NONE: 1, Retries.LEGACY: 10, Retries.STANDARD: 3}
"""The attempts of a DynamoDB client; an owner may configure others."""
_REPEATED_CODES: Final = frozenset(
    {
        "InternalServerError",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "ThrottlingException",
        "TransactionInProgressException",
    }
)


class Events:
    """The hooks of a client. As in botocore, a second hook under one `unique_id` is ignored, whatever its event."""

    def __init__(self) -> None:
        self._hooks: dict[str, list[Hook]] = {}
        self._unique: set[str] = set()

    def register(self, event: str, handler: Hook, *, unique_id: str | None = None) -> None:
        """Have a hook called at an event."""
        if unique_id is not None:
            if unique_id in self._unique:
                return
            self._unique.add(unique_id)
        self._hooks.setdefault(event, []).append(handler)

    def emit(self, event: str, request: Any) -> None:
        """Call the hooks of an event."""
        for hook in self._hooks.get(event, []):
            hook(request=request)


class Client:
    """A client that passes its calls to `send`, and repeats them by its mode."""

    def __init__(
        self,
        send: Callable[[str, dict[str, Any]], Awaitable[Any]],
        *,
        retries: Retries = Retries.NONE,
        random: Random | None = None,
    ) -> None:
        self._send = send
        self._retries = retries
        self._random = random or Random(0)
        mode = "standard" if retries is Retries.NONE else retries.value
        config = SimpleNamespace(
            retries={"mode": mode, "total_max_attempts": ATTEMPTS[retries]}, max_pool_connections=1_000
        )
        self.meta = SimpleNamespace(config=config, events=Events())

    def __getattr__(self, operation: str) -> Callable[..., Awaitable[Any]]:
        if operation not in OPERATIONS:
            raise AttributeError(operation)
        return partial(self._call, operation)

    async def _call(self, operation: str, **parameters: Any) -> Any:
        name = "".join(word.capitalize() for word in operation.split("_"))
        attempt = 1
        while True:
            # Hooks get each attempt before it is sent, and may raise.
            context = {"retries": {"attempt": attempt}}
            self.meta.events.emit(f"request-created.dynamodb.{name}", SimpleNamespace(context=context))
            error: Exception | None = None
            try:
                reply = await self._send(operation, parameters)
            except Exception as raised:
                error = raised
            if error is None:
                return reply if attempt == 1 else _with_attempts(reply, attempt)
            if attempt == ATTEMPTS[self._retries] or not _is_repeated(error):
                if isinstance(error, ClientError) and attempt > 1:
                    error.response = _with_attempts(error.response, attempt)
                raise error
            await asyncio.sleep(self._delay(attempt))
            attempt += 1

    def _delay(self, attempt: int) -> float:
        if self._retries is Retries.LEGACY:
            return self._random.random() * 0.05 * 2.0 ** (attempt - 1)
        return self._random.random() * min(2.0**attempt, 20.0)


def _is_repeated(error: Exception) -> bool:
    if isinstance(error, ClientError):
        return error.response.get("Error", {}).get("Code") in _REPEATED_CODES
    return isinstance(error, (ConnectionError, HTTPClientError))


def _with_attempts(reply: Any, attempt: int) -> Any:
    metadata = {**reply.get("ResponseMetadata", {}), "RetryAttempts": attempt - 1}
    return {**reply, "ResponseMetadata": metadata}


def direct_client(backend: Backend) -> Any:
    """Make a client whose calls return at once, in any event loop."""

    async def send(operation: str, parameters: dict[str, Any]) -> Any:
        return backend.execute(operation, parameters)

    return Client(send)
