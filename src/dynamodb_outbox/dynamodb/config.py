"""Where the events are in DynamoDB, and how they are written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, get_args

from dynamodb_outbox.dynamodb.conditional.probe import WriteMode
from dynamodb_outbox.dynamodb.schema.shards import MAX_SHARDS, SHARD_ATTRIBUTE, Shards
from dynamodb_outbox.dynamodb.schema.table import SHARDED_INDEX, STATUS_INDEX, STATUS_KEY, TableSchema
from dynamodb_outbox.errors import ConfigurationError, shown
from dynamodb_outbox.validation import check_bool, check_int, check_seconds

_NAME: Final = re.compile(r"[a-zA-Z0-9_.-]{3,255}")
_YEAR: Final = 31_536_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DynamoDBConfig:
    """The options of a `DynamoDBOutbox` that are its own. Raises `ConfigurationError`."""

    table_name: str
    status_index_name: str | None
    former_index_name: str | None
    shards: int
    conditional_writes: WriteMode
    group_emits: bool
    retention: float | None

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
                f"former_index_name={shown(self.former_index_name)}: it must be the index that a table had before it "
                f"got shards, beside {self.index_name!r}, with shards of 2 or more"
            )
        if self.conditional_writes not in get_args(WriteMode):
            raise ConfigurationError(
                f"conditional_writes={shown(self.conditional_writes)}: it must be 'auto', 'batch' or 'single'"
            )
        check_bool("group_emits", self.group_emits)
        if self.retention is not None:
            check_seconds("retention", self.retention, 0, 100 * _YEAR)

    @property
    def index_name(self) -> str:
        """The name of the index; the default tells its key, so that a table may have both in a move."""
        return self.status_index_name or (STATUS_INDEX if self.shards == 1 else SHARDED_INDEX)

    @property
    def placement(self) -> Shards:
        """Where an event is in the index."""
        return Shards(self.shards)

    @property
    def schema(self) -> TableSchema:
        """What the table has to be."""
        indexes = {self.index_name: STATUS_KEY if self.shards == 1 else SHARD_ATTRIBUTE}
        if self.former_index_name is not None:
            indexes[self.former_index_name] = STATUS_KEY
        return TableSchema(table_name=self.table_name, indexes=indexes, time_to_live=self.retention is not None)
