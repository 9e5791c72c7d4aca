"""One attempt at an event: its handlers run at the same time, each with its own result."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dynamodb_outbox.claims import Claim
from dynamodb_outbox.errors import UnknownVersionError
from dynamodb_outbox.handlers import Registration
from dynamodb_outbox.worker.handling.context import HandlingContext
from dynamodb_outbox.worker.handling.handler_task import HandlerTask
from dynamodb_outbox.worker.handling.lease import Lease
from dynamodb_outbox.worker.handling.results import CancelReason, HandlerResult, Succeeded
from dynamodb_outbox.worker.handling.typed_payloads import TypedPayloads


class Attempt:
    """The handling of one claim. `on_done` is called once, when every handler has a result."""

    __slots__ = ("_context", "_on_done", "_payloads", "lease", "registered", "results", "tasks")

    def __init__(
        self,
        claim: Claim,
        registered: Sequence[Registration],
        *,
        context: HandlingContext,
        on_done: Callable[[Attempt], None],
    ) -> None:
        self._context = context
        self._on_done = on_done
        self.lease = Lease(
            claim,
            options=context.options,
            timing=context.timing,
            on_lost=self._on_lease_lost,
            on_own=context.keeper.on_moved_out,
        )
        self.registered = registered
        self._payloads = TypedPayloads(claim.event)
        self.tasks: list[HandlerTask] = []
        self.results: dict[str, HandlerResult] = {}

    @property
    def claim(self) -> Claim:
        """The claim, with its lease as it is now."""
        return self.lease.claim

    @property
    def unknown_version(self) -> UnknownVersionError | None:
        """The error of the handlers whose classes do not know the version of the payload yet."""
        return self._payloads.unknown_version

    @property
    def is_completed(self) -> bool:
        """Whether a transaction of a handler has completed the event, so that nothing is left to be settled."""
        return self.lease.is_completed

    def start(self) -> None:
        """Call the handlers that have not succeeded yet and have a retry left."""
        claim, retries_of = self.claim, self._context.options.retries_of
        for registration in self.registered:
            # `_Deciding._has_failed_for_good` is the opposite of this condition: change both together.
            if registration.name not in claim.handled_by and claim.attempt <= retries_of(registration.max_retries) + 1:
                task = HandlerTask(
                    registration,
                    self.lease,
                    context=self._context,
                    completes=self._completes,
                    payloads=self._payloads,
                    on_done=self._on_result,
                )
                self.tasks.append(task)
        for task in self.tasks:
            task.start()
        if not self.tasks:
            self._context.keeper.let_go(self.lease)
            self._on_done(self)

    def release(self) -> None:
        """Cancel the handlers that run, because the worker stops."""
        self._cancel(CancelReason.STOP)

    def _on_lease_lost(self) -> None:
        self._cancel(CancelReason.LEASE_LOST)

    def _cancel(self, reason: CancelReason) -> None:
        for task in self.tasks:
            task.cancel(reason)

    def _completes(self, registration: Registration) -> bool:
        """Return whether every handler but this one has succeeded."""
        succeeded = {task.registration for task in self.tasks if task.has_committed}
        succeeded.update(each for each in self.registered if isinstance(self.results.get(each.name), Succeeded))
        return all(
            other is registration or other.name in self.claim.handled_by or other in succeeded
            for other in self.registered
        )

    def _on_result(self, registration: Registration, result: HandlerResult) -> None:
        self.results[registration.name] = result
        if registration.once and isinstance(result, Succeeded):
            self._context.registry.remove_registration(self.claim.event.type, registration)
        if len(self.results) == len(self.tasks):
            self._context.keeper.let_go(self.lease)
            self._on_done(self)
            # Without these references to the attempt, it is freed now, and not by the garbage collector.
            self.tasks.clear()
            self.lease.on_lost = None
