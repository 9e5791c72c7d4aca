"""The options of the DynamoDB outbox: its table and index, and how it writes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, TypedDict, get_args

from dynamodb_outbox.dynamodb.conditional.probe import WriteMode
from dynamodb_outbox.dynamodb.schema.shards import MAX_SHARDS, SHARD_ATTRIBUTE, Shards
from dynamodb_outbox.dynamodb.schema.table import SHARDED_INDEX, STATUS_INDEX, STATUS_KEY, TableSchema
from dynamodb_outbox.errors import ConfigurationError
from dynamodb_outbox.observers import Observer
from dynamodb_outbox.port import FailedKey, Numbers
from dynamodb_outbox.reporting import OnError
from dynamodb_outbox.validation import check_bool, check_int, check_seconds
from dynamodb_outbox.wording import shown

_NAME: Final = re.compile(r"[a-zA-Z0-9_.-]{3,255}")
_YEAR: Final = 31_536_000.0


class OutboxKwargs(TypedDict, total=False):
    """The options of `DynamoDBOutbox` and of `DynamoDBOutbox.connect`. Times are seconds.

    Attributes:
        status_index_name: The global secondary index by status. `None` means `status-gsiSortKey-index`, or
            `statusShard-gsiSortKey-index` with shards.
        batch_size: How many events one poll claims at most.
        poll_interval: How long an idle worker waits between two polls, varied by 10 %. An emit of the same process
            wakes the worker at once.
        max_poll_interval: Lets an idle worker wait longer and longer, up to this interval. An emit of the same
            process resets the interval. `None` keeps it constant. It must not be shorter than `poll_interval`.
        processing_timeout: The lease: how long a claim holds. A handler without a longer `timeout` is cancelled
            shortly before the lease ends.
        max_retries: How many retries follow the first attempt. Then the event becomes FAILED.
        base_backoff: Retry n waits `base_backoff * 2 ** (n - 1)` seconds: 1, 2, 4, 8, 16 s.
        concurrency: How many events one worker handles at once. `None` means `5 * batch_size`.
        claim_on_emit: Stores an event as already claimed if the process that emits it runs a worker with a handler
            for it. The event is handled without a poll, for 4 write units instead of 7.
        window: Stores the events that are claimed on emit outside of the index, which halves their cost to 2 write
            units. The worker keeps one item in the index for them, its window. After a crash, other workers find the
            events by it. A worker that claims few events on emit has no window. `False` stores all events in the
            index. Without `claim_on_emit`, the option changes nothing.
        numbers: How numbers come back: whole numbers as int, all others as float (`"native"`) or as `Decimal`
            (`"decimal"`). A `Decimal` that no float equals needs `"decimal"`.
        failed_key: What a dead letter with an ordering key does to its key: `"block"` lets the later events of the key
            wait until it is retried, skipped or discarded; `"skip"` sets it aside and goes on with the next event.
        unhandled_timeout: How long an event waits for a worker that has a handler for its type. Then it becomes
            FAILED. `None` means that it waits without limit.
        group_emits: Lets concurrent emits of a process share requests.
        conditional_writes: Sends claims and outcomes as batches of 25 PartiQL statements (`"batch"`) or one by one
            (`"single"`). `"auto"` tries a batch first; if DynamoDB refuses it, the outbox logs a warning and sends
            one by one.
        shards: Divides the index. Each shard carries up to 500 events a second.
        former_index_name: The index that the table had before it got shards. Set it only while you move the
            table: see `move_to_shards`.
        retention: DynamoDB deletes a completed event this long after its completion, by time to live. `None` keeps
            completed events. A worker logs a warning if the table has no time to live.
        on_error: Called with every error that is reported instead of raised. It may be async; at most 100 calls run
            at once. `None` logs the errors to the logger `dynamodb_outbox`.
        observers: Functions that are called with an observation for everything that happens.
        clock: Returns the time in epoch seconds. For tests.
        random: Returns a number from 0 to 1, for jitter. For tests.
    """

    status_index_name: str | None
    batch_size: int
    poll_interval: float
    max_poll_interval: float | None
    processing_timeout: float
    max_retries: int
    base_backoff: float
    concurrency: int | None
    claim_on_emit: bool
    window: bool
    numbers: Numbers
    failed_key: FailedKey
    unhandled_timeout: float | None
    group_emits: bool
    conditional_writes: WriteMode
    shards: int
    former_index_name: str | None
    retention: float | None
    on_error: OnError | None
    observers: Iterable[Observer]
    clock: Callable[[], float]
    random: Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class DynamoDBConfig:
    """The options that only `DynamoDBOutbox` has. Raises `ConfigurationError` for an invalid value."""

    table_name: str
    status_index_name: str | None
    former_index_name: str | None
    shards: int
    conditional_writes: WriteMode
    group_emits: bool
    retention: float | None
    window: bool

    def __post_init__(self) -> None:
        for parameter in ("table_name", "status_index_name", "former_index_name"):
            value = getattr(self, parameter)
            if value is None and parameter != "table_name":
                continue
            if not isinstance(value, str) or not _NAME.fullmatch(value):
                raise ConfigurationError(
                    f"{parameter}={shown(value)}: it must have 3 to 255 characters of a-z, A-Z, 0-9, '_', '-' and '.'"
                )
        check_int("shards", self.shards, 1, MAX_SHARDS)
        if self.former_index_name is not None and (self.shards == 1 or self.former_index_name == self.index_name):
            raise ConfigurationError(
                f"former_index_name={shown(self.former_index_name)}: it must be the index that the table had before it "
                f"got shards, not {self.index_name!r}, and shards must be 2 or more"
            )
        if self.conditional_writes not in get_args(WriteMode):
            raise ConfigurationError(
                f"conditional_writes={shown(self.conditional_writes)}: it must be 'auto', 'batch' or 'single'"
            )
        check_bool("group_emits", self.group_emits)
        check_bool("window", self.window)
        if self.retention is not None:
            check_seconds("retention", self.retention, 0, 100 * _YEAR)

    @property
    def index_name(self) -> str:
        """The name of the index. The default contains its key, so that a table in a move can have both indexes."""
        return self.status_index_name or (STATUS_INDEX if self.shards == 1 else SHARDED_INDEX)

    @property
    def placement(self) -> Shards:
        """The shards of the index."""
        return Shards(self.shards)

    @property
    def schema(self) -> TableSchema:
        """The schema that the table must have."""
        indexes = {self.index_name: STATUS_KEY if self.shards == 1 else SHARD_ATTRIBUTE}
        if self.former_index_name is not None:
            indexes[self.former_index_name] = STATUS_KEY
        return TableSchema(table_name=self.table_name, indexes=indexes, time_to_live=self.retention is not None)
