"""All that the doctor has seen. A part that could not be read is None or empty, and its error is in `errors`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeVar

from dynamodb_outbox.cli.settings import Settings
from dynamodb_outbox.cli.values import many
from dynamodb_outbox.dynamodb.inspecting.facts import (
    Connection,
    Permission,
    Scanned,
    SeenWindow,
    SeenWorker,
    ShardLag,
    TableFacts,
    TimeToLive,
)
from dynamodb_outbox.repairs import Hold
from dynamodb_outbox.stored_events import EventState, Sample, StoredEvent

E = TypeVar("E", bound=Exception)
Role = Literal["emit", "worker", "operator", "all"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumed:
    """Facts that the user gives: the role whose credentials are used, and options of the service."""

    role: Role = "operator"
    retention: float | None = None
    lease: float = 30.0
    slow: float = 0.25
    """A small read that takes longer is slow, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AppFacts:
    """The bus of `--app`: its types, its table, its options, and warnings about its client."""

    types: tuple[str, ...]
    table_name: str | None
    lease: float
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """The event of `--emit-probe`: whether a worker took it."""

    event_id: str
    seconds: float
    state: EventState | None
    was_taken: bool


@dataclass(slots=True, kw_only=True)
class Evidence:
    """Everything that was read, at `now`."""

    settings: Settings
    assumed: Assumed
    now: datetime
    versions: Mapping[str, str] = field(default_factory=dict[str, str])
    identity: str | None = None
    connection: Connection | None = None
    table: TableFacts | None = None
    time_to_live: TimeToLive | None = None
    point_in_time_recovery: bool | None = None
    needed: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """The IAM actions that each role needs."""
    permissions: tuple[Permission, ...] = ()
    workers: tuple[SeenWorker, ...] | None = None
    windows: tuple[SeenWindow, ...] | None = None
    lags: tuple[ShardLag, ...] | None = None
    emitted_shards: int | None = None
    """The number of shards by which events were stored, if the index is divided and `settings` do not say it."""
    sample: Sample | None = None
    later: Sample | None = None
    holds: tuple[Hold, ...] | None = None
    events: dict[EventState, tuple[StoredEvent, ...]] = field(default_factory=dict[EventState, tuple[StoredEvent, ...]])
    """Some events of each state, the oldest first; dead letters the latest first."""
    blocking: tuple[StoredEvent, ...] | None = None
    """The dead letters that block their ordering keys, of the latest ones; the latest first."""
    scanned: Scanned | None = None
    app: AppFacts | None = None
    probe: Probe | None = None
    throttles: list[str] = field(default_factory=list[str])
    """The operations of calls that were throttled, and repeated until they succeeded or the time was over."""
    errors: dict[str, Exception] = field(default_factory=dict[str, Exception])

    def of(self, state: EventState) -> tuple[StoredEvent, ...]:
        """Return the events of a state that were read."""
        return self.events.get(state, ())

    def errors_of(self, kind: type[E]) -> Iterator[E]:
        """Return the errors of a class."""
        return (error for error in self.errors.values() if isinstance(error, kind))

    def age(self, moment: datetime | None) -> float:
        """Return how many seconds ago a time was; 0 for None and for a time ahead."""
        return 0.0 if moment is None else max((self.now - moment).total_seconds(), 0.0)

    @property
    def is_held(self) -> bool:
        """Whether a hold of all events is in force."""
        return any(hold.type is None for hold in self.holds or ())

    @property
    def running(self) -> tuple[StoredEvent, ...]:
        """The events that workers hold, as far as they were read."""
        return self.of(EventState.PROCESSING)

    @property
    def signs_of_life(self) -> list[str]:
        """The proofs that a worker runs: a lease, a window or an announcement that is not old."""
        signs = [f"{name} holds {many(count, 'event')}" for name, count in self._holders().items()]
        open_windows = [window for window in self.windows or () if window.lease_expires_at > self.now]
        if open_windows:
            signs.append(f"{many(len(open_windows), 'window')} of workers with a current lease")
        recent = [worker for worker in self.workers or () if self.age(worker.announced_at) < self.assumed.lease]
        if recent:
            signs.append(f"{many(len(recent), 'announcement')} of workers in the last {self.assumed.lease:g} s")
        return signs

    def _holders(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for event in self.running:
            name = event.claimed_by or "a worker"
            counts[name] = counts.get(name, 0) + 1
        return counts
