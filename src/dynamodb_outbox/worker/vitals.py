"""The vital signs of a worker, for `bus.health()`: whether it lives, and whether its loops turn."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from enum import Enum
from time import monotonic
from typing import Any, Final

from anyio.abc import TaskGroup

from dynamodb_outbox.port import OutboxOptions
from dynamodb_outbox.worker.backoff import LONGEST_POLLING_BACKOFF
from dynamodb_outbox.worker.heartbeat import EventLoopHeartbeat, LoopHeartbeat
from dynamodb_outbox.worker.phase import Phase, Phases

SHORTEST_STUCK: Final = 60.0
STEP_SECONDS: Final = 10.0
"""The time that one step of a loop may take, where DynamoDB does not answer."""
SHORTEST_TOLERANCE: Final = 1.0
"""A busy machine may stop any event loop for that long."""


class LifeStage(Enum):
    """Where a worker is between its start and its end."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    ENDED = "ended"
    FORKED = "forked"
    LOOP_CLOSED = "loop closed"


class Vitals:
    """The notes of the tasks of one worker. Any thread may read them, without a wait and without a request."""

    def __init__(self, options: OutboxOptions, phases: Phases, *, on_beat: Callable[[Vitals], None]) -> None:
        self._phases = phases
        self._process = os.getpid()
        self._event_loop = asyncio.get_running_loop()
        self.loops = {"polling": LoopHeartbeat(), "recovery": LoopHeartbeat()}
        tolerance = max(options.processing_timeout / 2, SHORTEST_TOLERANCE)
        self.event_loop = EventLoopHeartbeat(tolerance=tolerance, on_beat=lambda: on_beat(self))
        longest_sleep = options.max_poll_interval or options.poll_interval
        self.stuck_after = max(SHORTEST_STUCK, 3 * (STEP_SECONDS + LONGEST_POLLING_BACKOFF + longest_sleep))
        """The seconds after which a loop that does not turn never will."""

    def open(self, group: TaskGroup, *, also: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start the heartbeat of the event loop in a task group, and another task for the health of the bus."""
        group.start_soon(self.event_loop.run)
        group.start_soon(also)

    def stage(self, *, is_done: bool) -> LifeStage:
        """Return where the worker is. `is_done` tells whether its task has ended."""
        if os.getpid() != self._process:
            return LifeStage.FORKED
        if self._phases.stop_requested.is_set():
            return LifeStage.STOPPING
        if self.event_loop.beaten_at is None:
            return LifeStage.STARTING
        if is_done:
            return LifeStage.ENDED
        if self._event_loop.is_closed():
            return LifeStage.LOOP_CLOSED
        return LifeStage.RUNNING if self._phases.now is Phase.RUNNING else LifeStage.STOPPING

    @property
    def is_event_loop_stuck(self) -> bool:
        """Whether the event loop has stood still for so long that only a restart helps."""
        return self.event_loop.late > self.stuck_after

    def still_for(self, loop: str) -> float | None:
        """Return for how many seconds a loop has not turned, if that is too long. A wait for a slot is normal.

        None as well once a stop has ended the loops.
        """
        heartbeat = self.loops[loop]
        # In this order: a loop that ends its wait notes its step first.
        if heartbeat.waits_since is not None or self._phases.now > Phase.RUNNING:
            return None
        seconds = monotonic() - heartbeat.turned_at
        return seconds if seconds > self.stuck_after else None

    @property
    def is_live(self) -> bool:
        """Whether the loops turn. The heartbeat file is touched while they do."""
        return not self.is_event_loop_stuck and all(self.still_for(loop) is None for loop in self.loops)
