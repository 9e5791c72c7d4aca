"""Short histories for the tests of the checker: one event, told in a few lines."""

from __future__ import annotations

from operator import attrgetter
from typing import Any, Self

from reliability.checker import Limits, Violation, check
from reliability.history import (
    Claimed,
    EmitAcknowledged,
    EmitAsked,
    FinalState,
    HandlerEnded,
    HandlerStarted,
    LeaseRenewed,
    Outcome,
    Record,
    Recovered,
    Result,
    Settled,
    Stored,
    StoredWindow,
    WindowWritten,
    WorkerStarted,
    Written,
)

LEASE = 10.0
LIMITS = Limits(longest_backoff=2.0, slack=1.0)


def stored(status: str = "COMPLETED", *, retries: int = 0, sort_key: float | None = None, **facts: Any) -> Stored:
    """An item; `sort_key` is in seconds."""
    millis = None if sort_key is None else round(sort_key * 1000)
    facts = {"event_id": "e", "indexed": status != "COMPLETED", **facts}
    return Stored(status=status, retry_count=retries, sort_key=millis, **facts)


class HistoryBuilder:
    """What happens to the event `e`; times are seconds, and every method adds records."""

    def __init__(self, *workers: str, **options: Any) -> None:
        self.records: list[Record] = []
        self.final: dict[str, Stored] = {}
        self.left: tuple[str, ...] = ()
        self.windows: dict[str, StoredWindow] = {}
        self.until = 100.0
        given = {"lease": LEASE, "poll_interval": 1.0, "max_retries": 2, "base_backoff": 1.0, **options}
        for worker in workers or ("w1", "w2"):
            self.add(WorkerStarted(at=0.0, worker=worker, **given))

    def add(self, *records: Record) -> Self:
        self.records += records
        return self

    def emit(self, at: float = 0.5, *, due_at: float | None = None) -> Self:
        return self.add(EmitAsked(at=at, event_id="e", due_at=due_at), EmitAcknowledged(at=at + 0.1, event_id="e"))

    def claim(self, at: float, worker: str = "w1", *, attempt: int = 1, began_at: float | None = None) -> Self:
        began = at - 0.1 if began_at is None else began_at
        claim = Claimed(
            at=at,
            event_id="e",
            worker=worker,
            token=token_of(worker, attempt),
            attempt=attempt,
            lease_expires_at=began + LEASE,
            began_at=began,
        )
        return self.add(claim)

    def start(self, at: float, worker: str = "w1", *, attempt: int = 1, handler: str = "h") -> Self:
        facts = {"event_id": "e", "worker": worker, "token": token_of(worker, attempt), "handler": handler}
        return self.add(HandlerStarted(at=at, attempt=attempt, **facts))  # type: ignore[arg-type]  # of each test

    def end(self, at: float, result: str = "succeeded", worker: str = "w1", *, attempt: int = 1, **facts: Any) -> Self:
        facts = {"event_id": "e", "worker": worker, "token": token_of(worker, attempt), "handler": "h", **facts}
        return self.add(HandlerEnded(at=at, attempt=attempt, result=Result(result), **facts))

    def settle(
        self, at: float, outcome: str = "complete", worker: str = "w1", *, attempt: int = 1, **facts: Any
    ) -> Self:
        facts = {"began_at": at - 0.1, **facts}
        token = token_of(worker, attempt)
        return self.add(
            Settled(at=at, event_id="e", worker=worker, token=token, outcome=Outcome(outcome), attempt=attempt, **facts)
        )

    def attempt(
        self, at: float, result: str, outcome: str, worker: str = "w1", *, number: int = 1, **facts: Any
    ) -> Self:
        """A claim, a call of the handler, and its outcome, within 0.4 s."""
        return (
            self.claim(at, worker, attempt=number)
            .start(at + 0.1, worker, attempt=number)
            .end(at + 0.2, result, worker, attempt=number)
            .settle(at + 0.4, outcome, worker, attempt=number, **facts)
        )

    def renew(self, at: float, expires_at: float, worker: str = "w1", *, attempt: int = 1) -> Self:
        renewal = LeaseRenewed(
            at=at,
            event_id="e",
            worker=worker,
            token=token_of(worker, attempt),
            lease_expires_at=expires_at,
            began_at=at - 0.1,
        )
        return self.add(renewal)

    def recover(self, at: float, worker: str = "w2", *, failed: bool = False) -> Self:
        return self.add(Recovered(at=at, event_id="e", worker=worker, failed=failed, began_at=at - 0.1))

    def write(self, at: float, before: Stored | None, after: Stored | None, worker: str = "") -> Self:
        return self.add(Written(at=at, event_id="e", before=before, after=after, worker=worker))

    def window(self, at: float, before: StoredWindow | None, after: StoredWindow | None, worker: str = "w1") -> Self:
        return self.add(WindowWritten(at=at, window="w", before=before, after=after, worker=worker))

    def ends(self, status: str = "COMPLETED", *, at: float = 100.0, **facts: Any) -> Self:
        self.until = at
        if status != "COMPLETED":
            facts = {"sort_key": at, **facts}
        self.final = {"e": stored(status, **facts)}
        return self

    def violations(self, limits: Limits = LIMITS) -> list[Violation]:
        history = sorted(self.records, key=attrgetter("at"))
        final = FinalState(at=self.until, events=self.final, left=self.left, windows=self.windows)
        return check(history, final, limits=limits)

    def broken(self, limits: Limits = LIMITS) -> str:
        """The letters of the invariants that are broken, in the order of the alphabet."""
        return "".join(sorted({violation.invariant for violation in self.violations(limits)}))


def token_of(worker: str, attempt: int) -> str:
    return f"{worker}-{attempt}"
