"""Short histories of one ordering key, for the tests of the checker: events `a`, `b`, ... in a queue of key `k`."""

from __future__ import annotations

from dataclasses import replace
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
    Outcome,
    PageWritten,
    QueueWritten,
    Record,
    Result,
    Settled,
    Stored,
    StoredQueue,
    WorkerStarted,
    Written,
)
from tests.reliability.history_builder import LEASE, LIMITS

KEY = "k"


class LineBuilder:
    """What happens to a key. Times are seconds. With a `log`, the backend's log of all changes is in the history."""

    def __init__(self, *, log: bool = True, **options: Any) -> None:
        self.log = log
        self.records: list[Record] = []
        self.events: dict[str, Stored] = {}
        self.queue: StoredQueue | None = None
        self.stray_pages: tuple[str, ...] = ()
        self.tokens: dict[str, str] = {}
        self._calls = 0
        given = {"lease": LEASE, "poll_interval": 1.0, "max_retries": 2, "base_backoff": 1.0, **options}
        for worker in ("w1", "w2"):
            self.add(WorkerStarted(at=0.0, worker=worker, **given))

    def add(self, *records: Record) -> Self:
        self.records += records
        return self

    # What is written

    def write(self, at: float, event_id: str, after: Stored | None, worker: str = "") -> Self:
        before = self.events.pop(event_id, None)
        if after is not None:
            self.events[event_id] = after
        if self.log:
            self.add(Written(at=at, event_id=event_id, before=before, after=after, worker=worker))
        return self

    def change(self, at: float, after: StoredQueue | None, worker: str = "") -> Self:
        before, self.queue = self.queue, after
        if self.log:
            self.add(QueueWritten(at=at, key=KEY, before=before, after=after, worker=worker))
        return self

    def page(self, at: float, number: int, *ids: str) -> Self:
        """Store a page of the queue."""
        return self.add(PageWritten(at=at, key=KEY, epoch="e", number=number, ids=ids)) if self.log else self

    def put(self, at: float, event_id: str, worker: str = "") -> Self:
        """Store an event; no queue has it yet."""
        event = Stored(
            event_id=event_id, status="QUEUED", retry_count=0, sort_key=None, indexed=False, key=KEY, waits=True
        )
        return self.write(at, event_id, event, worker)

    def append(self, at: float, *ids: str, worker: str = "") -> Self:
        """Append events to the queue."""
        if self.queue is None:
            made = StoredQueue(key=KEY, status="PENDING", ids=ids, sort_key=_millis(at))
            return self.change(at, made, worker)
        return self.change(at, replace(self.queue, ids=self.queue.ids + ids), worker)

    def pop(self, at: float, worker: str = "w1", **next_claim: Any) -> Self:
        """Take the front of a queue without a head."""
        assert self.queue is not None
        rest = self.queue.ids[1:]
        if not rest:
            return self.change(at, None, worker)
        pending = {"status": "PENDING", "token": None, "sort_key": _millis(at)}
        kept = replace(self.queue, ids=rest, retry_count=0, handled_by=(), **{**pending, **next_claim})
        return self.change(at, kept, worker)

    # Steps

    def ask(self, at: float, *ids: str, worker: str = "emitter") -> Self:
        """Begin an emit of events in one call."""
        self._calls += 1
        asked = {"worker": worker, "call": self._calls, "ordering_key": KEY}
        return self.add(*(EmitAsked(at=at, event_id=each, number=n, **asked) for n, each in enumerate(ids)))  # type: ignore[arg-type]  # as above

    def emit(self, at: float, *ids: str, worker: str = "emitter") -> Self:
        """Emit events in one call, within 0.1 s."""
        self.ask(at, *ids, worker=worker)
        for each in ids:
            self.put(at + 0.01, each, worker).append(at + 0.02, each, worker=worker)
        return self.add(*(EmitAcknowledged(at=at + 0.1, event_id=each, worker=worker) for each in ids))

    def claim(self, at: float, worker: str = "w1", *, attempt: int = 1, event_id: str | None = None) -> Self:
        """Claim the queue, or act as if it had been claimed for another event."""
        assert self.queue is not None
        token = f"{worker} {at}"
        ends = {"sort_key": _millis(at - 0.1 + LEASE), "token": token}
        self.change(at - 0.05, replace(self.queue, status="PROCESSING", **ends), worker)  # type: ignore[arg-type]  # fields
        return self.claimed(at, event_id or self.queue.front, worker, token=token, attempt=attempt)

    def claimed(self, at: float, event_id: str, worker: str = "w1", *, token: str, attempt: int = 1) -> Self:
        """Record a claim of an event, as its worker knows it."""
        self.tokens[worker] = token
        claim = Claimed(
            at=at,
            event_id=event_id,
            worker=worker,
            token=token,
            attempt=attempt,
            lease_expires_at=at - 0.1 + LEASE,
            began_at=at - 0.1,
        )
        return self.add(claim)

    def start(
        self, at: float, event_id: str, worker: str = "w1", *, token: str | None = None, handler: str = "h"
    ) -> Self:
        facts = {"event_id": event_id, "worker": worker, "token": token or self.tokens[worker], "handler": handler}
        return self.add(HandlerStarted(at=at, attempt=1, **facts))

    def end(
        self, at: float, event_id: str, worker: str = "w1", *, result: str = "succeeded", token: str | None = None
    ) -> Self:
        facts = {"event_id": event_id, "worker": worker, "token": token or self.tokens[worker], "handler": "h"}
        return self.add(HandlerEnded(at=at, attempt=1, result=Result(result), **facts))  # type: ignore[arg-type]  # of each test

    def mark(self, at: float, event_id: str, worker: str = "w1", *, status: str = "COMPLETED") -> Self:
        """Mark an event as ended."""
        event = self.events.get(event_id)
        assert event is not None
        is_failed = status == "FAILED"
        ended = replace(
            event, status=status, waits=False, indexed=is_failed, sort_key=_millis(at) if is_failed else None
        )
        return self.write(at, event_id, ended, worker)

    def settle(self, at: float, event_id: str, outcome: str = "complete", worker: str = "w1", **facts: Any) -> Self:
        facts = {"began_at": at - 0.1, "attempt": 1, "token": self.tokens[worker], **facts}
        return self.add(Settled(at=at, event_id=event_id, worker=worker, outcome=Outcome(outcome), **facts))

    def handle(self, at: float, event_id: str, worker: str = "w1", *, keeps: bool = False) -> Self:
        """Call the handler, mark and pop, within 0.5 s; with `keeps`, claim the next event."""
        token = self.tokens[worker]
        self.start(at, event_id, worker).end(at + 0.1, event_id, worker).mark(at + 0.2, event_id, worker)
        if not keeps:
            return self.pop(at + 0.3, worker).settle(at + 0.4, event_id, worker=worker, began_at=at + 0.15, token=token)
        following = f"{worker} {at + 0.3}"
        self.pop(at + 0.3, worker, status="PROCESSING", token=following, sort_key=_millis(at + 0.3 + LEASE))
        self.settle(at + 0.4, event_id, worker=worker, began_at=at + 0.15, token=token)
        assert self.queue is not None
        return self.claimed(at + 0.4, self.queue.front, worker, token=following)

    def fail(self, at: float, event_id: str, worker: str = "w1") -> Self:
        """Call the handler, which fails for good; the event blocks its key."""
        assert self.queue is not None
        self.start(at, event_id, worker).end(at + 0.1, event_id, worker, result="failed")
        self.change(at + 0.2, replace(self.queue, status="FAILED", sort_key=_millis(at)), worker)
        return self.settle(at + 0.3, event_id, "fail", worker, attempt=3)

    # The verdict

    def violations(self, limits: Limits = LIMITS) -> list[Violation]:
        history = sorted(self.records, key=attrgetter("at"))
        queues = {} if self.queue is None else {KEY: self.queue}
        final = FinalState(at=100.0, events=self.events, queues=queues, stray_pages=self.stray_pages)
        return check(history, final, limits=limits)

    def broken(self) -> str:
        """The letters of the invariants that are broken, in the order of the alphabet."""
        return "".join(sorted({violation.invariant for violation in self.violations()}))


def _millis(at: float) -> int:
    return round(at * 1000)
