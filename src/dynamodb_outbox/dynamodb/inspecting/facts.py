"""Facts about a table and its surroundings, as the inspector finds them. They judge nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexFacts:
    """An index, as DescribeTable reports it. Units are None for on-demand capacity."""

    name: str
    status: str
    is_backfilling: bool
    projection: str
    read_units: int | None
    write_units: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NeededIndex:
    """An index that the outbox needs, and whether the table has it with the right keys and a usable projection."""

    name: str
    partition_key: str
    exists: bool
    has_keys: bool
    has_projection: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFacts:
    """A table, as DynamoDB describes it.

    `differences` are those to the schema that the outbox needs, `needed_indexes` says the same of each index, and
    `has_keys` of the table's own key. `former_indexes` are indexes of the library that the options of this outbox do
    not use. A fact that DynamoDB did not report is None.
    """

    name: str
    arn: str
    status: str
    differences: tuple[str, ...]
    has_keys: bool
    needed_indexes: tuple[NeededIndex, ...]
    indexes: tuple[IndexFacts, ...]
    former_indexes: tuple[str, ...]
    billing: str
    read_units: int | None
    write_units: int | None
    is_protected: bool | None
    items: int | None
    bytes: int | None
    regions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeToLive:
    """The time to live of a table: its status, such as ENABLED, and the attribute."""

    status: str
    attribute: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """How DynamoDB answers: the median of some calls in seconds, and the clock.

    `skew` is by how many seconds the clock of this machine is ahead of DynamoDB (negative: behind), as far as the
    answers prove it; None if they had no date.
    """

    endpoint: str
    region: str
    latency: float
    skew: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Permission:
    """Whether an IAM action is allowed; None if that could not be found out, with the reason."""

    action: str
    is_allowed: bool | None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenWorker:
    """A worker that has announced itself, and the time of its latest announcement by its clock."""

    name: str
    announced_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenWindow:
    """A window of a worker: its Region, and when its lease ends."""

    id: str
    region: str
    lease_expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardLag:
    """The oldest due event of one shard of the index."""

    shard: int
    due_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Scanned:
    """The findings of a scan of a part of the table: events that no worker can find. Each has some example ids."""

    examined: int
    is_complete: bool
    not_in_index: tuple[str, ...]
    """PENDING without the keys of the index."""
    without_window: tuple[str, ...]
    """PROCESSING in a window whose item is gone."""
    not_in_line: tuple[str, ...] = ()
    """QUEUED for a minute or longer, and in the line of no ordering key."""
