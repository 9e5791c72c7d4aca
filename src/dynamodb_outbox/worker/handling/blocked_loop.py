"""Noticing a handler that holds up the event loop."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from time import perf_counter
from types import coroutine
from typing import Any


@coroutine
def timed_steps(
    steps: Coroutine[Any, Any, None], longest: float, report: Callable[[float], None]
) -> Generator[Any, Any, None]:
    """Await a coroutine, and report each of its steps that held up the loop for longer (seconds).

    The step is known only when it ends: nothing of this loop runs meanwhile, and a thread that watched it would
    cost every process something.
    """
    error: BaseException | None = None
    while True:
        started = perf_counter()
        try:
            awaited = steps.send(None) if error is None else steps.throw(error)
        except StopIteration:
            return
        finally:
            seconds = perf_counter() - started
            if seconds > longest:
                report(seconds)
        try:
            yield awaited
            error = None
        except BaseException as thrown:  # a cancellation is thrown into the handler, as `await` would
            error = thrown
