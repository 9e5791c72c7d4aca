"""The events of one emit pass the emit middleware, ten at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextvars import Context, copy_context
from types import coroutine
from typing import Any, Final

from dynamodb_outbox.event import Event
from dynamodb_outbox.middleware import Middleware, run_chain

SIDE_BY_SIDE: Final = 10
"""How many events of one call are in their middleware at once."""


async def pass_middleware(
    events: Sequence[Event], middleware: Sequence[Middleware], *, in_transaction: bool
) -> list[Event | None]:
    """Run each event through the middleware, ten at once. Returns the passed events, with None for a dropped event.

    The middleware of each event runs in a copy of the caller's context. The first exception cancels the others, and no
    further event starts.
    """
    fixed = tuple(middleware)
    if not fixed:
        return list(events)
    results: list[Event | None] = [None] * len(events)
    waiting = deque(enumerate(events))

    async def work() -> None:
        while waiting:
            place, event = waiting.popleft()
            results[place] = await _in_context(copy_context(), _pass_one(event, fixed, in_transaction=in_transaction))

    if len(events) > 1:
        # After an error the queue is cleared, because a middleware may swallow the cancellation of its task.
        await _run_side_by_side(work, most=min(SIDE_BY_SIDE, len(events)), stop=waiting.clear)
    else:
        await work()
    return results


async def _pass_one(event: Event, middleware: Sequence[Middleware], *, in_transaction: bool) -> Event | None:
    passed: Event | None = None

    async def accept(event: Event) -> None:
        nonlocal passed
        passed = event

    await run_chain(middleware, event, accept, in_transaction=in_transaction)
    return passed


async def _run_side_by_side(
    work: Callable[[], Coroutine[Any, Any, None]], *, most: int, stop: Callable[[], None]
) -> None:
    """Run the work in one task, and in `most` tasks once the first must wait. Each takes events until none is left."""
    tasks = [asyncio.create_task(work(), name="dynamodb-outbox emit middleware")]
    try:
        await asyncio.sleep(0)
        if not tasks[0].done():
            tasks += [asyncio.create_task(work(), name="dynamodb-outbox emit middleware") for _ in range(1, most)]
        pending = set(tasks)
        while pending:
            # Not `gather`: it raises the caller's cancellation only once all tasks have ended.
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task in done:
                    task.result()
    except BaseException:
        stop()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


@coroutine
def _in_context(context: Context, steps: Coroutine[Any, Any, Event | None]) -> Generator[Any, Any, Event | None]:
    """Await a coroutine whose steps run in a context. A task for each event does the same, but costs ten times more."""
    error: BaseException | None = None
    while True:
        try:
            awaited = context.run(steps.send, None) if error is None else context.run(steps.throw, error)
        except StopIteration as end:
            result: Event | None = end.value
            return result
        try:
            yield awaited
            error = None
        except BaseException as thrown:  # throw a cancellation into the middleware, as `await` does
            error = thrown
