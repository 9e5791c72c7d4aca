"""The conduct of the demo: following the histories, killing a worker in the middle, knowing when all is done."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Sequence
from typing import Final

from dynamodb_outbox import DynamoDBOutbox, EventStatus
from examples.demo.display import Display, Snapshot, WorkerView
from examples.demo.history import HistoryReader, What
from examples.demo.ledger import Ledger
from examples.demo.plan import DemoError
from examples.demo.processes import Child
from examples.demo.verdict import Kill

TICK_SECONDS: Final = 0.05
COUNT_SECONDS: Final = 1.0
PATIENCE_SECONDS: Final = 60.0
"""How long nothing may happen: several leases, so that a machine under load is not mistaken for a loss."""
KILL_AT: Final = 0.35
"""The part of the events that is handled when a worker is killed."""


class Conductor:
    """Watches the processes at work, and kills one of the workers."""

    def __init__(
        self,
        *,
        outbox: DynamoDBOutbox,
        history: HistoryReader,
        emitter: Child,
        workers: Sequence[Child],
        total: int,
        display: Display,
        started: float,
    ) -> None:
        self.ledger = Ledger()
        self.kill: Kill | None = None
        self._outbox = outbox
        self._history = history
        self._emitter = emitter
        self._workers = workers
        self._total = total
        self._display = display
        self._counts = dict.fromkeys((EventStatus.PENDING, EventStatus.PROCESSING, EventStatus.FAILED), 0)
        self._completed = 0
        self._started = started
        self._progress = (0, 0)
        self._progress_at = started

    async def run(self) -> None:
        """Return once every event has ended, or patience has. Raises `DemoError` if a process fails."""
        next_count = 0.0
        while time.monotonic() - self._progress_at < PATIENCE_SECONDS:
            self._read()
            self._check_processes()
            if self._seconds >= next_count:
                await self._count()
                next_count = self._seconds + COUNT_SECONDS
                self._read()
            if self.kill is None and (self.ledger.handled >= KILL_AT * self._total):
                self._kill_a_worker()
            self._display.show(self._snapshot())
            if self.kill is not None and self._all_ended():
                return
            await asyncio.sleep(TICK_SECONDS)
        self._display.say(f"Nothing has happened for {PATIENCE_SECONDS:g} s; no more waiting.")

    async def stop_workers(self) -> None:
        """Let the workers that are left end in good order, and read the last of their histories."""
        left = [worker for worker in self._workers if worker.running]
        for worker in left:
            worker.send(signal.SIGTERM)
        for worker in left:
            await asyncio.to_thread(worker.wait, 10.0)
            worker.check()
        self._read()
        await self._count()
        self._display.show(self._snapshot())

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._started

    def _read(self) -> None:
        self.ledger.add(self._history.read_new())
        progress = (len(self.ledger.emitted), self.ledger.handled)
        if progress != self._progress:
            self._progress, self._progress_at = progress, time.monotonic()

    async def _count(self) -> None:
        for status in self._counts:
            self._counts[status] = await self._outbox.count(status)

    def _check_processes(self) -> None:
        self._emitter.check()
        for worker in self._workers:
            if not self._was_killed(worker):
                worker.check()
                if not worker.running:
                    raise DemoError(f"{worker.name} ended by itself")

    def _was_killed(self, worker: Child) -> bool:
        return self.kill is not None and self.kill.pid == worker.pid

    def _kill_a_worker(self) -> None:
        """Kill the busiest worker with SIGKILL, in the middle of its work if it has any."""
        worker = max(self._workers, key=lambda worker: self.ledger.running(worker.pid))
        # Stopped, it cannot finish what its history shows as begun before the SIGKILL arrives.
        worker.send(signal.SIGSTOP)
        self._read()
        running = self.ledger.running(worker.pid)
        if not running and not self._all_ended():
            worker.send(signal.SIGCONT)
            return
        worker.send(signal.SIGKILL)
        worker.wait(5.0)
        self.kill = Kill(pid=worker.pid, at=time.time(), running=running)
        handlers = "1 handler runs" if running == 1 else f"{running} handlers run"
        self._display.say(
            f"{worker.name} (process {worker.pid}) is killed with SIGKILL while {handlers} in it; it may also hold "
            "events that it has claimed and not begun, or handled and not settled"
        )

    def _all_ended(self) -> bool:
        unfinished = self._counts[EventStatus.PENDING] + self._counts[EventStatus.PROCESSING]
        ended = self.ledger.handled + self._counts[EventStatus.FAILED]
        return not self._emitter.running and not unfinished and ended >= self._total == len(self.ledger.emitted)

    def _snapshot(self) -> Snapshot:
        pending, processing, failed = self._counts.values()
        emitted = len(self.ledger.emitted)
        # A handler ends a moment before its event is COMPLETED, and the index holds no completed events.
        self._completed = max(self._completed, min(self.ledger.handled, emitted - pending - processing - failed))
        return Snapshot(
            seconds=self._seconds,
            total=self._total,
            emitted=emitted,
            pending=pending,
            processing=processing,
            completed=self._completed,
            failed=failed,
            retries=self.ledger.retries,
            recovered=self.ledger.recovered,
            workers=tuple(self._view(worker) for worker in self._workers),
        )

    def _view(self, worker: Child) -> WorkerView:
        executions = self.ledger.of_process(worker.pid)
        return WorkerView(
            name=worker.name,
            pid=worker.pid,
            handling=sum(execution.result is None for execution in executions),
            handled=sum(execution.result is What.DONE for execution in executions),
            killed=self._was_killed(worker),
        )
