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

    @property
    def worker(self) -> Worker | None:
        """The worker that was started and has not ended, if there is one."""
        return self._worker

    @property
    def running(self) -> bool:
        """Whether a worker polls. It is false as soon as a stop is asked for."""
        return self._worker is not None and self._worker.running

    async def start(self) -> None:
        """Start a worker. Raises `UsageError` if one runs already."""
        if self._worker is not None and not self._worker.is_done:
            raise UsageError("the bus is started already; await bus.stop() before starting it again")
        self._reminder.work_begins()
        self._worker = Worker(self._setup)
        try:
            await self._worker.start()
        except BaseException:  # also when cancelled: nothing is started then
            self._worker = None
            raise

    async def stop(self, timeout: float | None) -> None:
        """Stop the worker, if there is one. A cancelled wait changes nothing: the stop goes on."""
        if (worker := self._worker) is not None:
            await worker.stop(timeout)
            self._forget_ended(worker)

    async def end(self, timeout: float | None, *, shielded: bool) -> None:
        """Stop the worker, and return when nothing of it is left, whatever cancels the wait; see `Worker.end`."""
        if (worker := self._worker) is not None:
            try:
                await worker.end(timeout, shielded=shielded)
            finally:
                self._forget_ended(worker)

    async def run_once(self) -> int:
        """Poll once without a worker. Raises `UsageError` if one runs, or inside a handler."""
        self.refuse_inside("bus.run_once()")
        if self._worker is not None and not self._worker.is_done:
            raise UsageError("run_once is for a bus without a running worker; await bus.stop() first")
        self._reminder.work_begins()
        return await Worker(self._setup).run_once()

    def refuse_inside(self, call: str) -> None:
        """Raise `UsageError` if the running task is a handler of this bus: the call would wait for the handler."""
        if self._setup.is_inside:
            raise UsageError(
                f"{call} was called inside a handler (or a task or callback of one), and would wait for the handler "
                "itself; let the handler return, and call it where the bus is used"
            )

    def forget(self) -> None:
        """Forget a worker whose event loop is closed: nothing of it runs any more."""
        self._worker = None

    def _forget_ended(self, worker: Worker) -> None:
        if self._worker is worker and worker.is_done:
            self._worker = None
