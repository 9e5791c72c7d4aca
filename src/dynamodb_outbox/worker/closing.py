"""Tells handlers that a bus has stopped, so that they can close what they opened."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Final

from dynamodb_outbox.handlers import STOP_HOOK

logger = logging.getLogger("dynamodb_outbox")

_GRACE_SECONDS: Final = 0.5
"""How long a hook that was cancelled may take to end."""
_abandoned: Final[set[asyncio.Task[None]]] = set()
"""The event loop itself has weak references only."""


async def tell_of_stop(handlers: Sequence[Any], *, seconds: float) -> None:
    """Await `on_bus_stop()` of the handlers, all at the same time; give up after `seconds`.

    Each runs in a separate task: a task group would wait for a hook that ignores its cancellation.
    """
    if not handlers:
        return
    tasks = [asyncio.create_task(_call(handler), name=f"{STOP_HOOK} of a handler") for handler in handlers]
    try:
        _, late = await asyncio.wait(tasks, timeout=seconds)
    finally:
        for task in tasks:
            task.cancel()
    if late:
        logger.warning("on_bus_stop of a handler did not return within %g s; the bus stops without it", seconds)
        for task in late:
            _abandoned.add(task)
            task.add_done_callback(_abandoned.discard)
        await asyncio.wait(late, timeout=_GRACE_SECONDS)


async def _call(handler: Any) -> None:
    try:
        await getattr(handler, STOP_HOOK)()
    except Exception:
        logger.exception("on_bus_stop of a handler raised an exception; the bus stops nevertheless")
