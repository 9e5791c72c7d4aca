"""The schema of the table: creates a table, and verifies that a table has the schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import anyio
from botocore.exceptions import ClientError

from dynamodb_outbox.dynamodb.schema.shards import SHARD_ATTRIBUTE
from dynamodb_outbox.dynamodb.transport.caller import Caller
from dynamodb_outbox.dynamodb.transport.classify import code_of
from dynamodb_outbox.errors import InvalidRequestError, StorageError, TableMismatchError, TableNotFoundError

Projection = Literal["ALL", "KEYS_ONLY"]

PARTITION_KEY: Final = "id"
STATUS_KEY: Final = "status"
SORT_KEY: Final = "gsiSortKey"
KEY_TYPES: Final = {PARTITION_KEY: "S", STATUS_KEY: "S", SHARD_ATTRIBUTE: "S", SORT_KEY: "N"}
STATUS_INDEX: Final = "status-gsiSortKey-index"
SHARDED_INDEX: Final = "statusShard-gsiSortKey-index"
TTL_ATTRIBUTE: Final = "expireAt"
NO_TIME_TO_LIVE: Final = (
    f"time to live is not enabled on the attribute {TTL_ATTRIBUTE!r}, but a retention is configured"
)
TABLE_CALL_SECONDS: Final = 30.0
VERIFY_SECONDS: Final = 9.0
"""The time limit of a verification with its two calls. It is short, because an application's start waits for it."""
LEAST_VERIFY_SECONDS: Final = 0.5
ACTIVE_SECONDS: Final = 300.0
FIRST_WAIT: Final = 0.1
LONGEST_WAIT: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSchema:
    """The keys and indexes that the outbox needs. The templates are rendered from the same definition."""

    table_name: str
    indexes: Mapping[str, str]
    """The partition key of each index, by the index's name. The sort key is the same for all."""
    projection: Projection = "ALL"
    time_to_live: bool = False

    def definition(self) -> dict[str, Any]:
        """Render the arguments of `CreateTable`."""
        attributes = (PARTITION_KEY, *self.indexes.values(), SORT_KEY)
        return {
            "TableName": self.table_name,
            "AttributeDefinitions": [
                {"AttributeName": name, "AttributeType": KEY_TYPES[name]} for name in dict.fromkeys(attributes)
            ],
            "KeySchema": [{"AttributeName": PARTITION_KEY, "KeyType": "HASH"}],
            "GlobalSecondaryIndexes": [
                {
                    "IndexName": name,
                    "KeySchema": [
                        {"AttributeName": key, "KeyType": "HASH"},
                        {"AttributeName": SORT_KEY, "KeyType": "RANGE"},
                    ],
                    "Projection": {"ProjectionType": self.projection},
                }
                for name, key in self.indexes.items()
            ],
            "BillingMode": "PAY_PER_REQUEST",
        }

    def differences(self, description: Mapping[str, Any]) -> list[str]:
        """List the differences to the response of `DescribeTable`; an index may project ALL or KEYS_ONLY."""
        types = _types(description)
        found = _differences_of_keys("the table's key", self.definition()["KeySchema"], description["KeySchema"], types)
        for wanted in self.definition()["GlobalSecondaryIndexes"]:
            found += _differences_of_index(wanted, description.get("GlobalSecondaryIndexes", []), types)
        return found

    def has_keys(self, description: Mapping[str, Any], index: str | None = None) -> bool:
        """Tell whether the table, or an index that it has, has the keys that the outbox needs."""
        wanted, actual = _part(self.definition(), index), _part(description, index)
        return not _differences_of_keys("", wanted["KeySchema"], actual["KeySchema"], _types(description))


def _types(description: Mapping[str, Any]) -> dict[str, str]:
    return {entry["AttributeName"]: entry["AttributeType"] for entry in description["AttributeDefinitions"]}


def _part(described: Mapping[str, Any], index: str | None) -> Mapping[str, Any]:
    if index is None:
        return described
    parts: list[Mapping[str, Any]] = described["GlobalSecondaryIndexes"]
    return next(part for part in parts if part["IndexName"] == index)


def _differences_of_index(
    wanted: Mapping[str, Any], indexes: Sequence[Mapping[str, Any]], types: Mapping[str, str]
) -> list[str]:
    name = wanted["IndexName"]
    by_name = {index["IndexName"]: index for index in indexes}
    index = by_name.get(name)
    if index is None:
        others = f" (it has {', '.join(sorted(by_name))})" if by_name else ""
        return [f"the index {name!r} is missing{others}"]
    found = _differences_of_keys(f"the key of the index {name!r}", wanted["KeySchema"], index["KeySchema"], types)
    projection = index["Projection"]["ProjectionType"]
    if projection not in get_args(Projection):
        found.append(f"the index {name!r} projects {projection}, it should be ALL or KEYS_ONLY")
    return found


def _differences_of_keys(
    what: str, wanted: list[dict[str, str]], actual: list[dict[str, str]], types: Mapping[str, str]
) -> list[str]:
    wants = [(key["KeyType"], key["AttributeName"], KEY_TYPES[key["AttributeName"]]) for key in wanted]
    has = [(key["KeyType"], key["AttributeName"], types.get(key["AttributeName"], "?")) for key in actual]
    return [] if wants == has else [f"{what} is {_describe(has)}, it should be {_describe(wants)}"]


def _describe(keys: list[tuple[str, str, str]]) -> str:
    return " + ".join(f"{role} {name} ({kind})" for role, name, kind in keys)


class Table:
    """Creates and verifies the table of an outbox."""

    def __init__(self, caller: Caller, schema: TableSchema) -> None:
        self._caller = caller
        self._schema = schema

    async def create(self, *, projection: Projection, wait: bool) -> None:
        """Create the table. If it exists already, verify it instead."""
        definition = self._schema.definition()
        for index in definition["GlobalSecondaryIndexes"]:
            index["Projection"] = {"ProjectionType": projection}
        try:
            await self._caller.call("create_table", within=TABLE_CALL_SECONDS, **definition)
        except StorageError as error:
            if not _exists_already(error):
                raise
            differences = self._schema.differences(await self._describe())
            if differences:
                raise TableMismatchError(table_name=self._schema.table_name, differences=differences) from None
        if wait or self._schema.time_to_live:
            await self._wait_until_active()
        if self._schema.time_to_live and not await self.has_time_to_live():
            await self._enable_time_to_live()

    async def _enable_time_to_live(self) -> None:
        try:
            await self._caller.call(
                "update_time_to_live",
                within=TABLE_CALL_SECONDS,
                TableName=self._schema.table_name,
                TimeToLiveSpecification={"Enabled": True, "AttributeName": TTL_ATTRIBUTE},
            )
        except StorageError as error:
            # DynamoDB refuses this if another process was first, or if another attribute has time to live.
            if await self.has_time_to_live():
                return
            if type(error) not in (StorageError, InvalidRequestError):
                raise
            raise TableMismatchError(
                table_name=self._schema.table_name, differences=[f"{NO_TIME_TO_LIVE} ({error})"]
            ) from error

    async def verify(self) -> None:
        """Raise `TableMismatchError` with all differences, or `TableNotFoundError`."""
        deadline = anyio.current_time() + VERIFY_SECONDS
        differences = self._schema.differences(await self._describe(within=VERIFY_SECONDS))
        within = max(deadline - anyio.current_time(), LEAST_VERIFY_SECONDS)
        if self._schema.time_to_live and not await self.has_time_to_live(within=within):
            differences.append(NO_TIME_TO_LIVE)
        if differences:
            raise TableMismatchError(table_name=self._schema.table_name, differences=differences)

    async def _describe(self, *, within: float = TABLE_CALL_SECONDS) -> Mapping[str, Any]:
        table: Mapping[str, Any] = await self._caller.call(
            "describe_table", within=within, read=self._read_table, TableName=self._schema.table_name
        )
        return table

    def _read_table(self, response: Mapping[str, Any]) -> Mapping[str, Any]:
        """Read a description. Raises if it cannot be compared, so that the response counts as invalid."""
        table: Mapping[str, Any] = response["Table"]
        self._schema.differences(table)
        if not isinstance(table["TableStatus"], str):
            raise TypeError("the status of the table is not a text")
        return table

    async def has_time_to_live(self, *, within: float = TABLE_CALL_SECONDS) -> bool:
        """Tell whether DynamoDB deletes items after their expiry."""
        description: Mapping[str, Any] = await self._caller.call(
            "describe_time_to_live",
            within=within,
            read=lambda response: dict(response["TimeToLiveDescription"]),
            TableName=self._schema.table_name,
        )
        return (
            description.get("TimeToLiveStatus") in ("ENABLED", "ENABLING")
            and description.get("AttributeName") == TTL_ATTRIBUTE
        )

    async def _wait_until_active(self) -> None:
        delay = FIRST_WAIT
        deadline = anyio.current_time() + ACTIVE_SECONDS
        while not await self._is_active():
            if anyio.current_time() > deadline:
                raise StorageError(
                    f"the table {self._schema.table_name!r} did not become active in {ACTIVE_SECONDS:g} s; "
                    "wait until `aws dynamodb describe-table` shows ACTIVE, then call create_table again"
                )
            await anyio.sleep(delay)
            delay = min(2 * delay, LONGEST_WAIT)

    async def _is_active(self) -> bool:
        try:
            table = await self._describe()
        except TableNotFoundError:
            # DescribeTable is eventually consistent: a new table may not be known yet.
            return False
        indexes = table.get("GlobalSecondaryIndexes", [])
        return table["TableStatus"] == "ACTIVE" and all(i.get("IndexStatus", "ACTIVE") == "ACTIVE" for i in indexes)


def _exists_already(error: StorageError) -> bool:
    return isinstance(error.__cause__, ClientError) and code_of(error.__cause__) == "ResourceInUseException"
