"""Calls of the outbox whose length is observed, and which a tracer may surround."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator, Sequence, Sized
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar

from dynamodb_outbox.errors import StorageError
from dynamodb_outbox.instrumentation import Guarded
from dynamodb_outbox.observers import Observers, StorageCalled

P = ParamSpec("P")
T = TypeVar("T")


_NOTES: ContextVar[Sequence[Callable[[], None]]] = ContextVar("_NOTES", default=())
"""The function to call after a request, if there is one. Tasks that are started in the block have it until its end."""


@contextmanager
def noting_attempts(note: Callable[[], None]) -> Generator[None]:
    """Have a function called at the end of each request to the storage in the block, whatever became of it.

    One call of the outbox may make many requests, and each may be slow. The function hears that the call goes on.
    """
    notes = [note]
    token = _NOTES.set(notes)
    try:
        yield
    finally:
        notes.clear()
        _NOTES.reset(token)


def note_attempt() -> None:
    """Note the end of a request to the storage; see `noting_attempts`."""
    for note in _NOTES.get():
        note()


def observed(
    observers: Observers,
    operation: str,
    events: int,
    call: Callable[P, Coroutine[Any, Any, T]],
    *args: P.args,
    **kwargs: P.kwargs,
) -> Coroutine[Any, Any, T]:
    """Call the outbox, and observe the call if anybody observes. `events` is the number of events in the arguments."""
    if not observers and observers.instrumentation is None:
        return call(*args, **kwargs)
    return _observed(observers, operation, events, lambda: call(*args, **kwargs))


async def _observed(observers: Observers, operation: str, events: int, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
    now = asyncio.get_running_loop().time
    instrumentation = observers.instrumentation
    bracket: AbstractContextManager[object]
    bracket = nullcontext() if instrumentation is None else Guarded(lambda: instrumentation.storing(operation))
    started = now()
    error: BaseException | None = None
    try:
        with bracket:
            result = await call()
    except BaseException as raised:
        error = raised
        raise
    else:
        if isinstance(result, Sized):
            events, error = _answer_in(result)
        return result
    finally:
        if observers:
            observers.notify(StorageCalled(operation=operation, events=events, seconds=now() - started, error=error))
        # The traceback of the error has this frame: a reference from here would be a cycle for the garbage collector.
        del error


def _answer_in(result: Any) -> tuple[int, BaseException | None]:
    """Count the claims or answers of a call, and find the first answer that is an error of the storage."""
    return len(result), next((each for each in result if isinstance(each, StorageError)), None)
