"""Chains of middleware around emits and handler calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from dynamodb_outbox.event import Event

CallNext = Callable[[Event], Awaitable[None]]
Middleware = Callable[[Event, CallNext], Awaitable[None]]
"""`async def m(event, call_next)`: hands on the event or another, drops it by not calling, or raises."""


async def run_chain(middleware: Sequence[Middleware], event: Event, end: CallNext) -> None:
    """Run an event through the middleware, the first one outermost, to the end of the chain."""
    if not middleware:
        await end(event)
        return
    first, *rest = middleware

    async def call_next(event: Event) -> None:
        await run_chain(rest, event, end)

    await first(event, call_next)
