"""Tells handlers that a bus has stopped, so that they can close what they opened."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from functools import partial

import anyio

logger = logging.getLogger("dynamodb_outbox")

HOOK = "on_bus_stop"


async def tell_of_stop(handlers: Iterable[object], *, seconds: float) -> None:
    """Await `on_bus_stop()` of each handler that has it, once, all at the same time; give up after `seconds`."""
    # Of the class, because a mock has every attribute.
    hooks = {id(handler): getattr(handler, HOOK) for handler in handlers if hasattr(type(handler), HOOK)}
    with anyio.move_on_after(seconds) as scope:
        async with anyio.create_task_group() as group:
            for hook in hooks.values():
                group.start_soon(partial(_call, hook))
    if scope.cancelled_caught:
        logger.warning("on_bus_stop of a handler did not return within %g s; the bus stops without it", seconds)


async def _call(hook: Callable[[], Awaitable[None]]) -> None:
    try:
        await hook()
    except Exception:
        logger.exception("on_bus_stop of a handler raised an exception; the bus stops nevertheless")
