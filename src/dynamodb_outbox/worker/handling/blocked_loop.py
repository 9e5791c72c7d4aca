"""Detects a handler that blocks the event loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator
from time import perf_counter
from types import coroutine
from typing import Any


def as_coroutine(steps: Awaitable[Any]) -> Coroutine[Any, Any, Any]:
    """Return what a handler returned as a coroutine, which `timed_steps` can step."""
    return steps if isinstance(steps, Coroutine) else _awaited(steps)


async def _awaited(steps: Awaitable[Any]) -> Any:
    return await steps


@coroutine
def timed_steps(
    steps: Coroutine[Any, Any, Any], longest: float, report: Callable[[float], None]
) -> Generator[Any, Any, Any]:
    """Await a coroutine, and return its result. Report each step that blocked the event loop for too long.

    A step is too long with more than `longest` seconds.
    A step runs from one `await` that waits to the next. It is reported when it ends, because nothing else in the loop
    runs meanwhile. A thread that watches the loop could report it earlier, but would cost every process something.
    """
    error: BaseException | None = None
    while True:
        started = perf_counter()
        try:
            awaited = steps.send(None) if error is None else steps.throw(error)
        except StopIteration as end:
            return end.value
        finally:
            seconds = perf_counter() - started
            if seconds > longest:
                report(seconds)
        try:
            yield awaited
            error = None
        except BaseException as thrown:  # a cancellation is thrown into the handler, as `await` would
            error = thrown
