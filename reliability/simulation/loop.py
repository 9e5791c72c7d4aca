"""Virtual time: event loops that share a timeline, each the whole world of one simulated process.

A loop per process keeps faults honest. A process that is killed is a loop that is never run again, a suspended one
is a loop that is run later; no code of the process can notice, or clean up. What asyncio promises within a loop is
kept, callbacks are run in the order of their scheduling; between processes there is no order, so it is drawn.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import sys
from asyncio.events import _set_running_loop as set_running_loop  # what run_forever does, and it is not used here
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import contextmanager, suppress
from random import Random
from typing import TYPE_CHECKING, Any, Final

RESOLUTION: Final = 1e-6
"""Times closer than this are the same, as far as timers go."""
LONGEST_STANDSTILL: Final = 200_000
"""Steps without any progress of the time that count as an endless loop."""


class StandstillError(Exception):
    """Nothing can happen any more, or things happen without end while the time stands still."""


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
        # What the base class has for its subclasses; the stubs do not tell of it.
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
        self.set_task_factory(lambda loop, coro, **options: NumberedTask(coro, loop=loop, **options))
        self._suspended_until = -math.inf
        self._dead = False

    def time(self) -> float:
        """Tell the time of the timeline."""
        return self._timeline.now

    def suspend(self, seconds: float) -> None:
        """Run nothing for so many seconds, as if the process had been stopped by a signal."""
        self._suspended_until = max(self._suspended_until, self._timeline.now + seconds)

    def kill(self) -> None:
        """Run nothing any more."""
        self._dead = True

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
        """When the loop has something to run: a time in the past if it has already, infinity if never."""
        if self._dead:
            return math.inf
        # One that is cancelled is waited for in vain, which harms nobody.
        next_at = -math.inf if self._ready else self._scheduled[0].when() if self._scheduled else math.inf
        return max(next_at, self._suspended_until)

    def step(self) -> None:
        """Run what is ready."""
        with self._running():
            self._run_once()

    @contextmanager
    def _running(self) -> Generator[None]:
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(firstiter=self._asyncgen_firstiter_hook, finalizer=self._asyncgen_finalizer_hook)
        set_running_loop(self)
        try:
            yield
        finally:
            set_running_loop(None)
            sys.set_asyncgen_hooks(*hooks)

    def bury(self) -> None:
        """Close the loop, and the coroutines that it leaves behind, so that nothing of them runs later."""
        left = asyncio.all_tasks(self)
        self.close()
        with self._running():
            for task in left:
                setattr(task, "_log_destroy_pending", False)  # noqa: B010 - the stubs do not know it
                # What a coroutine does about its end concerns a process that is not there any more.
                with suppress(BaseException):
                    task.get_coro().close()

    def _process_events(self, event_list: list[Any]) -> None:
        """There are no files, and so no events of files."""

    def _write_to_self(self) -> None:
        """There are no other threads that would have to be heard."""


class _NoFiles:
    def select(self, timeout: float | None) -> list[Any]:
        return []


class Timeline:
    """The time, what happens in the world at a time, and the loops of the processes."""

    def __init__(self, random: Random) -> None:
        self.now = 0.0
        self.steps = 0
        self._random = random
        self._loops: list[VirtualLoop] = []
        self._scheduled: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()

    def new_loop(self) -> VirtualLoop:
        """Make the loop of a new process."""
        loop = VirtualLoop(self)
        self._loops.append(loop)
        return loop

    def call_at(self, when: float, callback: Callable[[], object]) -> None:
        """Have something happen in the world, at a time. What it raises ends the run."""
        heapq.heappush(self._scheduled, (max(when, self.now), next(self._order), callback))

    def call_later(self, delay: float, callback: Callable[[], object]) -> None:
        """Have something happen in the world, after so many seconds."""
        self.call_at(self.now + delay, callback)

    def run_until(self, done: Callable[[], bool]) -> None:
        """Let time pass until a condition holds, which is looked at whenever something has happened."""
        standstill = 0
        while not done():
            runnable = [loop for loop in self._loops if loop.next_at <= self.now + RESOLUTION]
            if runnable:
                standstill += 1
                if standstill > LONGEST_STANDSTILL:
                    raise StandstillError(f"{standstill} steps at {self.now:g} s, and no end")
                self.steps += 1
                (runnable[0] if len(runnable) == 1 else self._random.choice(runnable)).step()
            elif self._advance():
                standstill = 0

    def _advance(self) -> bool:
        """Go to the next thing that happens; tells whether the time has moved."""
        next_at = min((loop.next_at for loop in self._loops), default=math.inf)
        if self._scheduled:
            next_at = min(next_at, self._scheduled[0][0])
        if math.isinf(next_at):
            raise StandstillError(f"nothing is left to happen at {self.now:g} s")
        before, self.now = self.now, max(self.now, next_at)
        while self._scheduled and self._scheduled[0][0] <= self.now:
            heapq.heappop(self._scheduled)[2]()
        return self.now > before

    def bury(self) -> None:
        """Close all loops."""
        for loop in self._loops:
            loop.bury()
        self._loops.clear()
        self._scheduled.clear()
