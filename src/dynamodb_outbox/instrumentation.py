"""Brackets: what a tracer puts around emits, handler calls and storage calls, so that a span is current meanwhile.

Observers are called after the fact, so they cannot make a span current. An outbox has one `Instrumentation` at most;
`integrations.opentelemetry` sets it. Without one, nothing is built for it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Generic, Protocol, TypeVar

from dynamodb_outbox.event import Event

T = TypeVar("T")
logger: Final = logging.getLogger("dynamodb_outbox")


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerCall:
    """One call of one handler. `attempt` counts from 1 to `max_attempts`."""

    event: Event
    handler: str
    attempt: int
    max_attempts: int


class Instrumentation(Protocol):
    """The brackets of one tracer. What they raise is logged, and changes nothing."""

    def enter_worker(self) -> None:
        """Prepare the context of a worker's task, at its start. All tasks of the worker have copies of this context."""
        ...

    def emitting(self, events: Sequence[Event], *, stores: bool) -> AbstractContextManager[Sequence[Event]]:
        """Surround an emit, in the task of its caller. The emit goes on with the events that the bracket yields.

        `stores` is false in a transaction: its commit stores the events.
        """
        ...

    def committing(self, events: Sequence[Event]) -> AbstractContextManager[object]:
        """Surround the commit of a transaction that stores events."""
        ...

    def handling(self, call: HandlerCall) -> AbstractContextManager[object]:
        """Surround a handler and its middleware, in the task of the handler.

        `__exit__` gets the error that the worker blames the handler for, such as a `HandlerTimeoutError`; a
        `CancelledError` if a stop or a lost lease ended the handler; nothing if its transaction was committed.
        """
        ...

    def storing(self, operation: str) -> AbstractContextManager[object]:
        """Surround a call of the outbox: `publish`, `transact`, `claim`, `settle`, `renew` or `recover`."""
        ...


def enter_worker(instrumentation: Instrumentation | None) -> None:
    """Prepare the context of the running task, which is that of a worker."""
    if instrumentation is None:
        return
    try:
        instrumentation.enter_worker()
    except Exception:
        logger.exception("the instrumentation of the outbox raised an exception; the worker goes on without it")


class Guarded(Generic[T]):
    """A bracket whose own errors are logged. Yields None if the bracket could not be entered."""

    __slots__ = ("_bracket", "_make")

    def __init__(self, make: Callable[[], AbstractContextManager[T]]) -> None:
        self._make = make
        self._bracket: AbstractContextManager[T] | None = None

    def __enter__(self) -> T | None:
        try:
            bracket = self._make()
            value = bracket.__enter__()
        except Exception:
            logger.exception("the instrumentation of the outbox raised an exception; the call goes on without it")
            return None
        self._bracket = bracket
        return value

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bracket is None:
            return
        try:
            self._bracket.__exit__(kind, error, traceback)
        except Exception as failure:
            if failure is not error:
                logger.exception("the instrumentation of the outbox raised an exception at the end of a call")


class GuardedCall(Guarded[object]):
    """The bracket of a handler call. It ends with the error that the worker finds, by `judge`, in what was raised."""

    __slots__ = ("_judge",)

    def __init__(
        self,
        instrumentation: Instrumentation,
        call: HandlerCall,
        *,
        judge: Callable[[BaseException], BaseException | None],
    ) -> None:
        super().__init__(lambda: instrumentation.handling(call))
        self._judge = judge

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, GeneratorExit):
            error = self._judge(error)
            kind = None if error is None else type(error)
        super().__exit__(kind, error, traceback)
