"""Virtual time: event loops that share a timeline, one loop for each simulated process.

Separate loops make faults realistic. A killed process is a loop that never runs again, and a suspended process is a
loop that runs later; its code cannot notice this, or clean up. Within a loop, callbacks run in the order of their
scheduling, as asyncio guarantees. The order between processes is drawn at random.
"""

from __future__ import annotations

import asyncio
import gc
import heapq
import itertools
import math
import sys
import warnings

# These replace parts of run_forever and of tasks, because the timeline runs the loops and closes the tasks.
from asyncio.events import _set_running_loop as set_running_loop
from asyncio.tasks import _enter_task as enter_task
from asyncio.tasks import _leave_task as leave_task
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

from anyio._backends._asyncio import _task_states
from sniffio import thread_local

from reliability.simulation.identity import Identity

RESOLUTION: Final = 1e-9
"""The resolution that asyncio adds to the time when it checks for due timers; it must be positive."""
MOST_CLOSES: Final = 10
"""How often a coroutine is closed."""
LONGEST_STANDSTILL: Final = 200_000
"""The number of steps at the same time that counts as an endless loop."""


class StandstillError(Exception):
    """The timeline has nothing left to run, or runs endlessly without progress of the time."""


class NumberedTask(asyncio.Task[Any]):
    """A task with a reproducible hash: asyncio and anyio keep tasks in sets, and cancel them in their order."""

    _numbers = itertools.count()

    def __init__(self, coro: Coroutine[Any, Any, Any], **options: Any) -> None:
        self._number = next(self._numbers)
        super().__init__(coro, **options)

    def __hash__(self) -> int:
        return self._number

    @classmethod
    def count_anew(cls) -> None:
        """Begin at 0 again."""
        cls._numbers = itertools.count()


class VirtualLoop(asyncio.base_events.BaseEventLoop):
    """The event loop of one process: it has no files, no threads, and the time of its timeline."""

    if TYPE_CHECKING:
        # Attributes of the base class that the type stubs do not have.
        _ready: deque[asyncio.Handle]
        _scheduled: list[asyncio.TimerHandle]

        def _run_once(self) -> None: ...
        def _asyncgen_firstiter_hook(self, agen: AsyncGenerator[Any]) -> None: ...
        def _asyncgen_finalizer_hook(self, agen: AsyncGenerator[Any]) -> None: ...

    def __init__(self, timeline: Timeline) -> None:
        super().__init__()
        self._timeline = timeline
        self._clock_resolution = RESOLUTION
        self._selector = _NoFiles()
        self.set_debug(False)
        self.set_task_factory(self._new_task)
        self._tasks: WeakSet[NumberedTask] = WeakSet()
        self._suspended_until = -math.inf
        self._dead = False
        self._doom: tuple[int, Callable[[], None]] | None = None
        self.identity = Identity()
        self._running = _Running(self, self._asyncgen_firstiter_hook, self._asyncgen_finalizer_hook)

    def time(self) -> float:
        """Tell the time of the timeline."""
        return self._timeline.now

    def suspend(self, seconds: float) -> None:
        """Do not run the loop for a number of seconds, as if a signal had suspended the process."""
        self._suspended_until = max(self._suspended_until, self._timeline.now + seconds)

    def kill(self) -> None:
        """Run nothing any more."""
        self._dead = True
        self._timeline.forget(self)

    def doom(self, steps: int, strike: Callable[[], None]) -> None:
        """Call a function after a number of steps, between any two awaits of the process; 0 means never."""
        self._doom = (steps, strike) if steps else None

    @property
    def is_suspended(self) -> bool:
        """Whether the process is suspended."""
        return self._suspended_until > self._timeline.now

    @property
    def is_dead(self) -> bool:
        """Whether the process was killed."""
        return self._dead

    @property
    def next_at(self) -> float:
        """The time of the next step: in the past if the loop can run now, infinity if it has nothing to run."""
        # The first timer may be cancelled; waiting for it does no harm.
        next_at = -math.inf if self._ready else self._scheduled[0].when() if self._scheduled else math.inf
        return max(next_at, self._suspended_until)

    @property
    def waiting(self) -> str:
        """Describe what is to be run next."""
        return f"{list(self._ready)[:3]} {self._scheduled[:1]}"

    def step(self) -> None:
        """Run what is ready."""
        with self._running:
            self._run_once()
        if self._doom is not None:
            left, strike = self._doom
            self._doom = (left - 1, strike) if left > 1 else None
            if self._doom is None:
                strike()

    def _new_task(self, _: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> NumberedTask:
        task = NumberedTask(coro, loop=self, **options)
        self._tasks.add(task)
        return task

    @property
    def tasks(self) -> set[asyncio.Task[Any]]:
        """The unfinished tasks. `asyncio.all_tasks` would search the tasks of all loops of all runs."""
        return {task for task in self._tasks if not task.done()}

    def bury(self) -> None:
        """Close the loop and its coroutines, so that they do not run later."""
        left = sorted(self.tasks, key=hash)
        self.close()
        with self._running, warnings.catch_warnings():
            # Coroutines that the tasks start while they are closed are never awaited.
            warnings.simplefilter("ignore", RuntimeWarning)
            for task in left:
                self._close(task)

    def _close(self, task: asyncio.Task[Any]) -> None:
        """Close the coroutine of a task, and ignore its errors, because its process is dead."""
        setattr(task, "_log_destroy_pending", False)  # noqa: B010 - the stubs do not know it
        coroutine: Any = task.get_coro()
        enter_task(self, task)
        try:
            # A task that catches GeneratorExit and continues is closed again.
            for _ in range(MOST_CLOSES):
                with suppress(BaseException):
                    coroutine.close()
        finally:
            leave_task(self, task)
            # The state that anyio keeps refers to the task, and would keep the task and its whole world alive.
            _task_states.pop(task, None)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Record an error that was never retrieved, unless the process is dead."""
        if not self._dead and not self.is_closed():
            self._timeline.unseen.append(context)

    def _process_events(self, event_list: list[Any]) -> None:
        """Do nothing, because there are no files."""

    def _write_to_self(self) -> None:
        """Do nothing, because there are no other threads."""


class _Running:
    """Makes a loop the running loop. It is entered for every step, so it allocates nothing."""

    def __init__(self, loop: VirtualLoop, *asyncgen_hooks: Any) -> None:
        self._loop = loop
        self._hooks = asyncgen_hooks

    def __enter__(self) -> None:
        self._loop.identity.__enter__()
        sys.set_asyncgen_hooks(*self._hooks)
        set_running_loop(self._loop)
        # anyio asks for the running library at each call, and would detect it each time.
        thread_local.name = "asyncio"

    def __exit__(self, *_: object) -> None:
        thread_local.name = None
        set_running_loop(None)
        sys.set_asyncgen_hooks(None, None)
        self._loop.identity.__exit__()


class _NoFiles:
    def select(self, timeout: float | None) -> list[Any]:
        return []


class Timeline:
    """The virtual time, the scheduled functions, and the loops of the processes."""

    def __init__(self, random: Random) -> None:
        self.now = 0.0
        self.steps = 0
        self.unseen: list[dict[str, Any]] = []
        """The errors that were never retrieved, as asyncio reports them."""
        self._random = random
        self._loops: list[VirtualLoop] = []
        self._dead: list[VirtualLoop] = []
        self._scheduled: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()

    def new_loop(self) -> VirtualLoop:
        """Make the loop of a new process."""
        loop = VirtualLoop(self)
        self._loops.append(loop)
        return loop

    def forget(self, loop: VirtualLoop) -> None:
        """Remove a dead loop; it is kept until `bury`."""
        self._loops.remove(loop)
        self._dead.append(loop)

    def call_at(self, when: float, callback: Callable[[], object]) -> None:
        """Call a function at a time of the timeline. An exception of the function ends the run."""
        heapq.heappush(self._scheduled, (max(when, self.now), next(self._order), callback))

    def call_later(self, delay: float, callback: Callable[[], object]) -> None:
        """Call a function after a number of seconds of the timeline."""
        self.call_at(self.now + delay, callback)

    def run_until(self, done: Callable[[], bool]) -> None:
        """Let time pass until a condition holds; the condition is checked after each step."""
        standstill = 0
        while True:
            self._happen()
            if done():
                return
            runnable: list[VirtualLoop] = []
            soonest = math.inf
            for loop in self._loops:
                next_at = loop.next_at
                if next_at <= self.now:
                    runnable.append(loop)
                elif next_at < soonest:
                    soonest = next_at
            if runnable:
                standstill += 1
                if standstill > LONGEST_STANDSTILL:
                    raise StandstillError(f"{standstill} steps at {self.now:g} s, and no end: {runnable[0].waiting}")
                self.steps += 1
                (runnable[0] if len(runnable) == 1 else self._random.choice(runnable)).step()
            else:
                standstill = 0
                self._advance(soonest)

    def _advance(self, to: float) -> None:
        """Run the next step of a loop, or the next scheduled function."""
        if self._scheduled:
            to = min(to, self._scheduled[0][0])
        if math.isinf(to):
            raise StandstillError(f"nothing is left to happen at {self.now:g} s")
        self.now = max(self.now, to)

    def _happen(self) -> None:
        """Call the scheduled functions that are due."""
        while self._scheduled and self._scheduled[0][0] <= self.now:
            heapq.heappop(self._scheduled)[2]()

    def bury(self) -> None:
        """Close all loops."""
        for loop in (*self._loops, *self._dead):
            loop.bury()
        self._loops.clear()
        self._dead.clear()
        self._scheduled.clear()
        # Collect garbage now, because finalizers would otherwise run in the loops of the next world.
        with warnings.catch_warnings():
            # A killed process never awaits the coroutines that it had not started.
            warnings.simplefilter("ignore", RuntimeWarning)
            gc.collect()
