"""One life of a process: an outbox and a bus on a separate loop, and a service that emits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from random import Random
from typing import TYPE_CHECKING, Any, Final, TypeVar

from dynamodb_outbox import DynamoDBOutbox, Event, OutboxEventBus
from dynamodb_outbox.errors import HandlerStuckError, OutboxError
from reliability.history import WorkerKilled, WorkerResumed, WorkerStopped, WorkerSuspended
from reliability.recording import Recorder
from reliability.simulation.emitter import Emitter
from reliability.simulation.handlers import Handlers
from reliability.simulation.log import TABLE
from reliability.simulation.operator import Operator
from reliability.simulation.scenario import LARGE_HANDLERS, Emission, Place, Way

if TYPE_CHECKING:
    from reliability.simulation.world import World

R = TypeVar("R")

_SERVICE: Final = "service"
"""The name of the tasks of the service."""
_EMITS: Final = (
    _SERVICE,
    *(f"dynamodb-outbox {name}" for name in ("emit", "emits", "commit", "appends", "queue releases")),
)
EMIT_SECONDS: Final = 200.0
"""How long a service tries to emit an event."""


class Process:
    """A process that runs at a place until it is stopped or killed; its successor has another name."""

    def __init__(self, world: World, place: Place, *, life: int) -> None:
        self.name = f"{place.name}{life}"
        self.random = Random(f"{world.scenario.seed} {self.name}")
        self.place = place.name
        self.works = place.works
        self.is_leaving = False
        """Whether the worker has stopped, so that the service starts no more work."""
        self.has_ended = False
        self.loop = world.timeline.new_loop()
        self.loop.identity.worker = f"simulated/1/{self.name}"
        self.clock_offset = place.clock_offset
        self._world = world
        self._stuck: set[str] = set()
        self._life: asyncio.Task[None] | None = None
        self._stop_asked: asyncio.Event = asyncio.Event()
        self._timeout: float | None = None
        self.recorder = Recorder(world.write, worker=self.name, now=world.now)
        self.outbox = DynamoDBOutbox(
            world.network.client_of(self, retries=place.retries),
            table_name=TABLE,
            clock=lambda: world.now() + self.clock_offset,
            random=self.random.random,
            on_error=self._report,
            **place.options,
        )
        if place.is_old:
            forget_windows(self.outbox)
        self.bus = OutboxEventBus(self.recorder.around(self.outbox), max_handlers=LARGE_HANDLERS)
        self._handlers = Handlers(world.scenario, world.faults, self.random, die=lambda: self.loop.doom(1, self.kill))
        self._lacks = None if world.is_deployed else place.lacks
        self._handlers.register(self.bus, without=self._lacks)
        self._emitter = Emitter(self.bus, self.random, begin=self._begin)
        self.operator = Operator(self.bus, begin=self._begin)

    @property
    def is_dead(self) -> bool:
        """Whether it was killed."""
        return self.loop.is_dead

    @property
    def is_emitting(self) -> bool:
        """Whether a call of its service has not ended, as while it is suspended: an event may still come from it."""
        return not self.is_dead and not self.has_ended and bool(self._emits())

    def start(self, *, most_offset: float) -> None:
        """Start the process; `most_offset` is the largest offset of its clock during its life."""
        if self.works:
            self.recorder.started(self.outbox, clock_offset=most_offset)
        self._life = self._begin(self._run())

    def _begin(self, work: Coroutine[Any, Any, R]) -> asyncio.Task[R]:
        task = self.loop.create_task(work, name=_SERVICE)
        task.add_done_callback(self._raise_what_is_unforeseen)
        return task

    def _raise_what_is_unforeseen(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._world.unforeseen.append(error)

    async def _run(self) -> None:
        if self.works:
            await self.bus.start()
        await self._stop_asked.wait()
        await self.bus.stop(self._timeout)
        self.is_leaving = True
        stopped_at = self._world.now()
        # Emits continue after a stop, because the service or a cancelled handler has started them. They end, but may
        # leave a request behind that goes on without them.
        ends_at = stopped_at + EMIT_SECONDS
        while (emits := self._emits()) and (seconds := ends_at - self._world.now()) > 0:
            await asyncio.wait(emits, timeout=seconds)
        if self.works:
            names = sorted(task.get_name() for task in self.loop.tasks - self._tasks(_SERVICE))
            left = tuple(name for name in names if name not in self._stuck)
            self._world.write(WorkerStopped(at=stopped_at, worker=self.name, tasks=left))
        self.has_ended = True

    def _emits(self) -> set[asyncio.Task[Any]]:
        return {task for name in _EMITS for task in self._tasks(name)} - {self._life}

    def _tasks(self, name: str) -> set[asyncio.Task[Any]]:
        return {task for task in self.loop.tasks if task.get_name() == name}

    def _report(self, error: OutboxError) -> None:
        if isinstance(error, HandlerStuckError):
            self._stuck.add(f"{error.handler} of {error.event_id}")
        self.recorder.report(error)

    def deploy(self) -> None:
        """Register the missing handlers."""
        if self._lacks is not None:
            self._handlers.register_type(self.bus, self._lacks)
            self._lacks = None

    # Its end

    def stop(self, timeout: float | None) -> None:
        """Ask the process to stop within a number of seconds."""
        self._timeout = timeout
        self._stop_asked.set()

    def cancel(self) -> None:
        """Cancel the worker from outside, like a host that shuts down; then stop it."""
        if not self._stop_asked.is_set():
            for task in self._tasks("dynamodb-outbox worker"):
                task.cancel()
            self.stop(None)

    def kill(self) -> None:
        """End it at once."""
        if not self.loop.is_dead and not self.has_ended:
            self.loop.kill()
            if self.works:
                self._world.write(WorkerKilled(at=self._world.now(), worker=self.name))
            self._world.has_died(self)

    def suspend(self, seconds: float) -> None:
        """Let it stand still."""
        world = self._world
        self.loop.suspend(seconds)
        world.write(WorkerSuspended(at=world.now(), worker=self.name))

        def resumed() -> None:
            if not self.is_dead and not self.loop.is_suspended:
                world.write(WorkerResumed(at=world.now(), worker=self.name))

        world.timeline.call_later(seconds, resumed)

    # What the service does

    def emit(self, emission: Emission, makers: Sequence[Callable[[], Event]]) -> None:
        """Have the service emit events: made now, or in a burst, each when it is emitted."""
        if emission.way is Way.BURST:
            self._begin(self._emitter.burst(makers))
            return
        with self.loop.identity:
            events = [make() for make in makers]
        self._begin(self._emitter.emit(emission, events))


def forget_windows(outbox: DynamoDBOutbox) -> None:
    """Let an outbox not see the windows of other workers, like a release that knows no windows."""

    async def recover(rows: Any, done: Any, max_retries: int) -> None:
        """Recover no window."""

    # No option stands for this, because a release that knows windows always recovers them.
    outbox._parts.recovery._windows.recover = recover  # type: ignore[method-assign]  # noqa: SLF001
