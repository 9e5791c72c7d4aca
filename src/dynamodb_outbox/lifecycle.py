"""The worker of a bus: start it, stop it, run it once, and forget it when its event loop is closed."""

from __future__ import annotations

from dynamodb_outbox.errors import UsageError
from dynamodb_outbox.start_reminder import StartReminder
from dynamodb_outbox.worker.setup import WorkerSetup
from dynamodb_outbox.worker.worker import Worker


class Lifecycle:
    """Keeps the one worker that a bus may have at a time."""

    def __init__(self, setup: WorkerSetup, *, reminder: StartReminder) -> None:
        self._setup = setup
        self._reminder = reminder
        self._worker: Worker | None = None
        self.was_stopped = False
        """Whether the last worker has ended by a stop."""

    @property
    def worker(self) -> Worker | None:
        """The worker that was started and has not ended, or None."""
        return self._worker

    @property
    def running(self) -> bool:
        """Whether a worker polls. It is false as soon as `stop` is called."""
        return self._worker is not None and self._worker.running

    async def start(self) -> None:
        """Start a worker. Raises `UsageError` if a worker runs already."""
        if self._worker is not None and not self._worker.is_done:
            raise UsageError("the bus is started already; await bus.stop() before starting it again")
        self._reminder.work_begins()
        self._worker = Worker(self._setup)
        try:
            await self._worker.start()
        except BaseException:  # also a cancellation: the worker has not started
            self._worker = None
            raise

    async def stop(self, timeout: float | None) -> None:
        """Stop the worker, if it runs. If the wait is cancelled, the stop goes on."""
        if (worker := self._worker) is not None:
            await worker.stop(timeout)
            self._forget_ended(worker)

    async def end(self, timeout: float | None, *, shielded: bool) -> None:
        """Stop the worker; return when its tasks have ended, even if the wait is cancelled; see `Worker.end`."""
        if (worker := self._worker) is not None:
            try:
                await worker.end(timeout, shielded=shielded)
            finally:
                self._forget_ended(worker)

    async def run_once(self) -> int:
        """Poll once without a running worker. Raises `UsageError` if a worker runs, or inside a handler."""
        self.refuse_inside("bus.run_once()")
        if self._worker is not None and not self._worker.is_done:
            raise UsageError("bus.run_once() needs a bus without a running worker; await bus.stop() first")
        self._reminder.work_begins()
        return await Worker(self._setup).run_once()

    def refuse_inside(self, call: str) -> None:
        """Raise `UsageError` if the running task is a handler of this bus: the call would wait for the handler."""
        if self._setup.is_inside:
            raise UsageError(
                f"{call} was called inside a handler (or its task or callback), and would wait for the handler itself; "
                f"let the handler return, and call {call} outside of handlers"
            )

    def forget(self) -> None:
        """Forget the worker of a closed event loop, because it no longer runs."""
        self._worker = None

    def _forget_ended(self, worker: Worker) -> None:
        if self._worker is worker and worker.is_done:
            self._worker, self.was_stopped = None, True
