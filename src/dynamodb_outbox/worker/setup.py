"""The parts that a bus gives its workers, and the stages that a worker builds from them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field

from dynamodb_outbox.emitter import Emitter
from dynamodb_outbox.handlers import HandlerRegistry
from dynamodb_outbox.instrumentation import enter_worker
from dynamodb_outbox.middleware import Middleware
from dynamodb_outbox.port import Outbox
from dynamodb_outbox.reporting import ErrorReporter
from dynamodb_outbox.sampling import Sampler
from dynamodb_outbox.worker.dispatch import Dispatcher
from dynamodb_outbox.worker.handling.context import HandlingContext
from dynamodb_outbox.worker.handling.lease import LeaseKeeper
from dynamodb_outbox.worker.kept_keys import KeptKeys
from dynamodb_outbox.worker.reports import Reports
from dynamodb_outbox.worker.settle_queue import OnSettled, SettleQueue
from dynamodb_outbox.worker.timing import Timing
from dynamodb_outbox.worker.unhandled import UnhandledTypes
from dynamodb_outbox.worker.vitals import Vitals

_delivering: ContextVar[WorkerSetup | None] = ContextVar("dynamodb_outbox_delivering", default=None)
"""The setup of the worker that the running task belongs to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSetup:
    """The neighbours of a worker. All workers of a bus have the same setup."""

    outbox: Outbox
    registry: HandlerRegistry
    emitter: Emitter
    middleware: Sequence[Middleware]
    unhandled: UnhandledTypes
    reporter: ErrorReporter
    on_settled: OnSettled
    sampler: Sampler
    on_beat: Callable[[Vitals], None]
    timing: Timing = field(default_factory=Timing)

    def enter(self) -> None:
        """Mark the running task, and every task that it starts, as a part of a worker of this bus."""
        _delivering.set(self)
        enter_worker(self.outbox.observers.instrumentation)

    @property
    def is_inside(self) -> bool:
        """Whether the running task is a handler or a callback of this bus, or was started by a handler or callback."""
        return _delivering.get() is self

    def stages(
        self,
        *,
        on_settled: OnSettled,
        is_cancelled: Callable[[], bool],
        is_held: Callable[[str], Awaitable[bool]],
        kept_keys: KeptKeys,
    ) -> tuple[Reports, SettleQueue, Dispatcher]:
        """Build the stages that every claim passes. The worker's `on_settled` has to call that of the setup."""
        outbox = self.outbox
        reports = Reports(self.reporter)
        settles = SettleQueue(outbox, on_settled=on_settled, report=reports.report, kept_keys=kept_keys)
        context = HandlingContext(
            options=outbox.options,
            timing=self.timing,
            registry=self.registry,
            middleware=self.middleware,
            observers=outbox.observers,
            emitter=self.emitter,
            keeper=LeaseKeeper(outbox, timing=self.timing, report=reports.report),
            report=reports.report,
            is_cancelled=is_cancelled,
            is_held=is_held,
        )
        return reports, settles, Dispatcher(context, settles=settles, unhandled=self.unhandled)
