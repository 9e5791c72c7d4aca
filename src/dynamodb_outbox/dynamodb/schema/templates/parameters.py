"""The parameters of the templates."""

from __future__ import annotations

from typing import Final

from dynamodb_outbox.dynamodb.schema.shards import SHARD_ATTRIBUTE
from dynamodb_outbox.dynamodb.schema.table import SHARDED_INDEX, STATUS_INDEX, STATUS_KEY, TableSchema

DEFAULT_SCHEMA: Final = TableSchema(
    table_name="events-outbox", indexes={STATUS_INDEX: STATUS_KEY, SHARDED_INDEX: SHARD_ATTRIBUTE}
)
"""The table with both indexes. A parameter chooses one of them, or both during a move to shards."""

TABLE_NAME_PATTERN: Final = "[a-zA-Z0-9_.-]{3,255}"
ABOUT_TABLE_NAME: Final = "The table_name of the DynamoDBOutbox"
ABOUT_PROJECTION: Final = "ALL copies whole events into the index; KEYS_ONLY makes large events cheaper"
ABOUT_INDEX_KEYS: Final = "The key of the index: status, or statusShard with shards; both during a move to shards"
DEFAULT_INDEX_KEY: Final = STATUS_KEY
BOTH: Final = "both"
INDEX_KEYS: Final = (*DEFAULT_SCHEMA.indexes.values(), BOTH)
