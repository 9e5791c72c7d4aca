"""A client that notes the requests of the library, so that the floor can make the same ones."""

from __future__ import annotations

import marshal
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

OPERATIONS: Final = frozenset(
    {"put_item", "batch_write_item", "update_item", "batch_execute_statement", "query", "transact_write_items"}
)


def packed(arguments: dict[str, Any]) -> bytes:
    """Pack the arguments of a request. Marshal takes the least time, and that is billed to the library."""
    return marshal.dumps(arguments)


def unpacked(arguments: bytes) -> dict[str, Any]:
    """Unpack what `packed` has made in this process."""
    content: dict[str, Any] = marshal.loads(arguments)  # noqa: S302 - these bytes never left the process
    return content


@dataclass(frozen=True, slots=True)
class Request:
    """A request, made when the first `after` of those that had ended were answered."""

    operation: str
    arguments: Any
    after: int


@dataclass(slots=True)
class Recording:
    """The requests in the order they were made, and their numbers in the order they were answered."""

    requests: list[Request] = field(default_factory=list[Request])
    ended: list[int] = field(default_factory=list[int])

    @property
    def counts(self) -> Counter[str]:
        """How many requests of each operation there are."""
        return Counter(request.operation for request in self.requests)


class RecordingClient:
    """An aiobotocore client that keeps what it is asked. It costs each request about a microsecond.

    The library keeps no arguments, and the garbage collector would look again and again at those that are kept here,
    at the library's cost. So they are packed, or whatever `kept` makes of them.
    """

    def __init__(self, client: Any, kept: Callable[[dict[str, Any]], Any] = packed) -> None:
        self._client = client
        self._kept = kept
        self.recording = Recording()

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._client, name)
        if name in OPERATIONS:
            attribute = self._recorded(name, attribute)
            setattr(self, name, attribute)
        return attribute

    def _recorded(self, operation: str, method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def call(**arguments: Any) -> Any:
            recording = self.recording
            number = len(recording.requests)
            recording.requests.append(Request(operation, self._kept(arguments), len(recording.ended)))
            try:
                return await method(**arguments)
            finally:
                recording.ended.append(number)

        return call

    def start_over(self) -> None:
        """Forget what was recorded so far."""
        self.recording = Recording()
