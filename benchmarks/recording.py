"""A client that records the requests of the library, so that the baseline can make the same requests."""

from __future__ import annotations

import marshal
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from benchmarks.measure import uncounted

OPERATIONS: Final = frozenset(
    {
        "put_item",
        "update_item",
        "delete_item",
        "query",
        "batch_write_item",
        "batch_get_item",
        "batch_execute_statement",
        "transact_write_items",
    }
)


def packed(arguments: dict[str, Any]) -> bytes:
    """Pack the arguments of a request with marshal, which is quick and leaves no objects behind."""
    return marshal.dumps(arguments)


def unpacked(arguments: bytes) -> dict[str, Any]:
    """Unpack arguments that `packed` has packed in this process."""
    content: dict[str, Any] = marshal.loads(arguments)  # noqa: S302 - these bytes never left the process
    return content


@dataclass(frozen=True, slots=True)
class Request:
    """A request that was made after `after` earlier requests had ended."""

    operation: str
    arguments: Any
    after: int


@dataclass(slots=True)
class Recording:
    """The requests in the order of their start, and their numbers in the order of their end."""

    requests: list[Request] = field(default_factory=list[Request])
    ended: list[int] = field(default_factory=list[int])

    @property
    def counts(self) -> Counter[str]:
        """The number of requests of each operation."""
        return Counter(request.operation for request in self.requests)


class RecordingClient:
    """An aiobotocore client that records requests. It adds some microseconds to each request.

    Recorded arguments would make the garbage collector slower, and its time would count as time of the library. So
    they are packed into bytes, or reduced by `kept`; that is not counted.
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
            recording.requests.append(Request(operation, uncounted(self._kept, arguments), len(recording.ended)))
            try:
                return await method(**arguments)
            finally:
                recording.ended.append(number)

        return call

    def start_over(self) -> None:
        """Forget the recorded requests."""
        self.recording = Recording()
