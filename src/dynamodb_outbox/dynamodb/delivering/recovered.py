"""What one recovery has done until now, and its errors."""

from __future__ import annotations

from dataclasses import dataclass, field

from dynamodb_outbox.claims import Recovered
from dynamodb_outbox.dynamodb.conditional.recover import RecoverResults
from dynamodb_outbox.dynamodb.transport.classify import concerns_all
from dynamodb_outbox.errors import RecoveryError, StorageError


@dataclass(slots=True)
class RecoveredSoFar:
    """The ids of the events that one recovery has reset and failed until now, and its errors."""

    reset: list[str] = field(default_factory=list[str])
    failed: list[str] = field(default_factory=list[str])
    resumed: list[str] = field(default_factory=list[str])
    errors: list[RecoveryError] = field(default_factory=list[RecoveryError])
    skipped: list[str] = field(default_factory=list[str])
    """The ids of windows that are left for a while, because one of their events could not be written."""

    def add(self, results: RecoverResults) -> None:
        """Add the results of some events. Raises an error that concerns all, such as a throttle, as `fail` does."""
        self.reset += results.reset
        self.failed += results.failed
        for event_id, error in results.errors().items():
            if not concerns_all(error):
                self.errors.append(RecoveryError(event_id=event_id, cause=error))
        if (error_of_all := results.error_of_all()) is not None:
            self.fail(error_of_all)

    def fail(self, error: StorageError) -> None:
        """Raise an error that ends the recovery, unless something is recovered: the next recovery meets it again."""
        if not self.reset and not self.failed:
            raise error

    def result(self) -> Recovered:
        """Return the result of the whole recovery."""
        return Recovered(
            reset=tuple(self.reset),
            failed=tuple(self.failed),
            resumed=tuple(self.resumed),
            errors=tuple(self.errors),
        )
