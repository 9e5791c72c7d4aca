"""What a bus gives its workers, and the stages they make of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field

from dynamodb_outbox.emitter import Emitter
from dynamodb_outbox.handlers import HandlerRegistry
from dynamodb_outbox.middleware import Middleware
from dynamodb_outbox.port import Outbox
from dynamodb_outbox.reporting import ErrorReporter
from dynamodb_outbox.worker.dispatch import Dispatcher
from dynamodb_outbox.worker.handling.context import HandlingContext
from dynamodb_outbox.worker.handling.lease import LeaseKeeper
from dynamodb_outbox.worker.reports import Reports
from dynamodb_outbox.worker.settle_queue import OnSettled, SettleQueue
from dynamodb_outbox.worker.timing import Timing
from dynamodb_outbox.worker.unhandled import UnhandledTypes

_delivering: ContextVar[WorkerSetup | None] = ContextVar("dynamodb_outbox_delivering", default=None)
"""The setup of the worker or of the `run_once` that the running task belongs to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSetup:
    """The neighbours of a worker; one setup serves every worker and every `run_once` of a bus."""

    outbox: Outbox
    registry: HandlerRegistry
    emitter: Emitter
    middleware: Sequence[Middleware]
    unhandled: UnhandledTypes
    reporter: ErrorReporter
    on_settled: OnSettled
    timing: Timing = field(default_factory=Timing)

    def enter(self) -> None:
        """Mark the running task as one that delivers events of this bus, and all that it starts."""
        _delivering.set(self)

    @property
    def is_inside(self) -> bool:
        """Whether the running task is a handler of this bus, or a callback, or was started by one."""
        return _delivering.get() is self

    def stages(
        self, *, on_settled: OnSettled, is_cancelled: Callable[[], bool]
    ) -> tuple[Reports, SettleQueue, Dispatcher]:
        """Make the stages that every claim passes; this `on_settled` is told by them, and has to tell the setup's."""
        outbox = self.outbox
        reports = Reports(self.reporter)
        settles = SettleQueue(outbox, on_settled=on_settled, report=reports.report)
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
        )
        return reports, settles, Dispatcher(context, settles=settles, unhandled=self.unhandled)
