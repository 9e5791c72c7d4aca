"""What an operator does in the simulation: redrives, discards, replaces, holds and resumes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import UTC, datetime
from random import Random
from typing import Any, Final

from dynamodb_outbox import FailedSelector, OutboxEventBus
from reliability.simulation.faults import Kind
from reliability.simulation.handlers import in_spite_of_faults
from reliability.simulation.scenario import TYPES, Action

WHO: Final[dict[str, Any]] = {"reason": "simulated", "by": "operator"}
RATE: Final = 20.0
TRIES: Final = 100
RESUMES: Final = (0.0, 1.0, 20.0, 60.0, 120.0)
"""When all holds are ended, in seconds after the faults: one that was asked for before may be stored later."""


class Operator:
    """Makes the calls of an operator in a process, in spite of faults."""

    def __init__(self, bus: OutboxEventBus, *, begin: Callable[[Coroutine[Any, Any, bool]], Any]) -> None:
        self._bus = bus
        self._begin = begin

    def act(self, action: Action, keys: Sequence[str], random: Random, *, now: float) -> None:
        """Make the call of an action; `keys` are the ids of all events."""
        match action.kind:
            case Kind.SKIP:
                self._do(self._skip(random))
            case Kind.REDRIVE:
                self._do(self._redrive_listed() if action.amount < 0.5 else self._redrive_selected())
            case Kind.DISCARD if keys:
                ids = random.sample(keys, min(len(keys), 1 + int(action.amount * 5)))
                self._do(self._bus.discard_events(ids, **WHO))
            case Kind.REPLACE if keys:
                self._do(self._bus.replace_event(random.choice(keys), {"n": -1}, **WHO))
            case Kind.HOLD:
                seconds = random.choice([None, random.uniform(1, 30)])
                until = None if seconds is None else datetime.fromtimestamp(now + seconds, UTC)
                self._do(self._bus.hold(_chosen(action), until=until, **WHO))
            case Kind.RESUME:
                self._do(self._bus.resume(_chosen(action)))
            case _:
                pass  # there is no event

    def resume_all(self) -> None:
        """End all holds, and try again until that succeeds."""
        self._begin(self._resume_all())

    async def _resume_all(self) -> bool:
        for event_type in (None, *TYPES):
            for _ in range(TRIES):
                if await in_spite_of_faults(self._bus.resume(event_type)):
                    break
                await asyncio.sleep(1)
        return True

    def unblock(self, random: Random) -> None:
        """Retry or skip the dead letters that block keys."""
        self._do(self._skip(random) if random.random() < 0.3 else self._redrive_listed())

    async def _skip(self, random: Random) -> None:
        failed = await self._bus.get_failed_events()
        blocking = [event.id for event in failed if event.blocks_key]
        await self._bus.skip_events(random.sample(blocking, (len(blocking) + 1) // 2))

    def _do(self, work: Awaitable[object]) -> None:
        self._begin(in_spite_of_faults(work))

    async def _redrive_listed(self) -> None:
        failed = await self._bus.get_failed_events()
        await self._bus.retry_events([event.id for event in failed])

    async def _redrive_selected(self) -> None:
        await self._bus.retry_events(FailedSelector(), rate=RATE)


def _chosen(action: Action) -> str | None:
    """Choose a type, or all types."""
    return (*TYPES, None)[int(action.amount * (len(TYPES) + 1))]
