"""Counts read and write units: as DynamoDB Local reports them, or by the documented rule for statements.

The rule: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/HowItWorks.ReadWriteCapacityMode.html
and, for the index, https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/GSI.html
"""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Literal

from botocore.exceptions import ClientError

from dynamodb_outbox.dynamodb.delivering.announcements import WORKERS_ID
from dynamodb_outbox.dynamodb.items.sizes import size_of
from dynamodb_outbox.dynamodb.items.values import text_size
from dynamodb_outbox.dynamodb.windows.item import WINDOW_IDS

WRITE_STEP: Final = 1024
READ_STEP: Final = 4096
TRANSACTIONAL: Final = 2
"""A transaction costs the units of the table twice, and those of the index once."""
METERED: Final = frozenset({"put_item", "update_item", "delete_item", "batch_write_item", "query", "batch_get_item"})
_INSERTED: Final = re.compile(r"'(\w+)': \?")
INDEX_KEYS: Final = ("status", "gsiSortKey")
PROJECTED_KEYS: Final = ("id", *INDEX_KEYS)

Projection = Literal["ALL", "KEYS_ONLY"]
Item = Mapping[str, Mapping[str, Any]]


def item_bytes(item: Item) -> int:
    """Count the bytes of an item, names and values, as DynamoDB does."""
    return sum(text_size(name) + size_of(value) for name, value in item.items())


def write_units(old: Item | None, new: Item | None, projection: Projection) -> int:
    """Count the units of a write by the rule. `new` is None for a deletion.

    The table counts the larger item, and the index counts the entries that leave and enter it.
    """
    table = _steps(max(item_bytes(each) if each else 0 for each in (old, new)))
    before, after = projected(old, projection), projected(new, projection)
    if before == after:
        return table
    if before and after and all(before[key] == after[key] for key in INDEX_KEYS):
        return table + _steps(max(item_bytes(before), item_bytes(after)))
    return table + sum(_steps(item_bytes(each)) for each in (before, after) if each)


def projected(item: Item | None, projection: Projection) -> dict[str, Mapping[str, Any]] | None:
    """Return the index entry of an item, or None if the item is not in the index."""
    if item is None or not all(key in item for key in INDEX_KEYS):
        return None
    return dict(item) if projection == "ALL" else {name: item[name] for name in PROJECTED_KEYS}


def _steps(size: int) -> int:
    return math.ceil(size / WRITE_STEP)


class MeteringClient:
    """A client that asks for the consumed capacity of every request, and counts the units.

    DynamoDB Local does not report the capacity of PartiQL statements, and reports too much for transactions, so the
    rule counts both. A refused write counts like a write of the unchanged item.
    """

    def __init__(self, client: Any, projection: Projection = "ALL") -> None:
        self._client = client
        self._projection: Projection = projection
        self._items: dict[str, dict[str, Any]] = {}
        self.written = {"backend": 0.0, "rule": 0.0}
        self.read = 0.0
        self.announced = 0.0
        """Units of the announcements that a worker writes; they are not part of the costs of an event."""
        self.upkeep = 0.0
        """Units of the window item of a worker: to open, renew, move and delete the window."""
        self.refused = 0

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._client, name)
        if name in METERED:
            return self._metered(name, attribute)
        if name == "transact_write_items":
            return self._by_transaction(attribute)
        return self._by_rule(attribute) if name == "batch_execute_statement" else attribute

    @property
    def units_by(self) -> str:
        """The sources of the write units."""
        return " + ".join(source for source, units in self.written.items() if units)

    def start_over(self) -> None:
        """Forget the units so far, but not the items."""
        self.written = {"backend": 0.0, "rule": 0.0}
        self.read = self.upkeep = 0.0

    def know(self, items: list[dict[str, Any]]) -> None:
        """Remember items that are already stored."""
        self._items.update({item["id"]["S"]: item for item in items})

    def _metered(self, name: str, method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def call(**arguments: Any) -> Any:
            try:
                reply = await method(**{**arguments, "ReturnConsumedCapacity": "INDEXES"})
            except ClientError as error:
                if error.response["Error"]["Code"] == "ConditionalCheckFailedException":
                    self._refuse(_id_of(arguments))
                raise
            consumed = reply.get("ConsumedCapacity", {})
            units = sum(each["CapacityUnits"] for each in (consumed if isinstance(consumed, list) else [consumed]))
            if name == "query":
                self.read += units
                return reply
            if name == "batch_get_item":
                # DynamoDB bills a read of a missing item, too. DynamoDB Local does not.
                self.read += max(units, *(len(each["Keys"]) for each in arguments["RequestItems"].values()))
                return reply
            self._add(_id_of(arguments), "backend", units)
            if "Item" in arguments:
                self.know([arguments["Item"]])
            for writes in arguments.get("RequestItems", {}).values():
                self.know([write["PutRequest"]["Item"] for write in writes])
            if "orderingKey" in arguments.get("UpdateExpression", ""):
                await self._know_stored(arguments["TableName"], _id_of(arguments))
            return reply

        return call

    def _by_transaction(self, method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def call(**arguments: Any) -> Any:
            writes = [write for entry in arguments["TransactItems"] for write in entry.values()]
            olds = [self._items.get(_id_of(write)) for write in writes]
            reply = await method(**arguments)
            for write, old in zip(writes, olds, strict=True):
                new = await self._know_stored(write["TableName"], _id_of(write))
                table = _steps(max(item_bytes(each) if each else 0 for each in (old, new)))
                units = write_units(old, new, self._projection) + (TRANSACTIONAL - 1) * table
                self._add(_id_of(write), "rule", units)
            return reply

        return call

    def _by_rule(self, method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def call(**arguments: Any) -> Any:
            reply = await method(**arguments)
            for statement, response in zip(arguments["Statements"], reply["Responses"], strict=True):
                if (old := self._old(statement)) is not None and "orderingKey" in old:
                    await self._count_of_key(statement, response, old)
                else:
                    self._count(statement, response)
            return reply

        return call

    def _old(self, statement: dict[str, Any]) -> dict[str, Any] | None:
        if statement["Statement"].startswith("INSERT"):
            return None
        return next((self._items[each["S"]] for each in statement["Parameters"] if each.get("S") in self._items), None)

    async def _count_of_key(self, statement: dict[str, Any], response: dict[str, Any], old: dict[str, Any]) -> None:
        """Count a write of an event with an ordering key, or of the queue of a key, by what is stored after it."""
        if "Error" in response:
            self._refuse(old["id"]["S"])
            return
        table_name = statement["Statement"].split('"')[1]
        new = await self._know_stored(table_name, old["id"]["S"])
        self.written["rule"] += write_units(old, new, self._projection)

    async def _know_stored(self, table_name: str, item_id: str) -> dict[str, Any] | None:
        key = {"id": {"S": item_id}}
        item: dict[str, Any] | None = (
            await self._client.get_item(TableName=table_name, Key=key, ConsistentRead=True)
        ).get("Item")
        self._items.pop(item_id, None)
        if item is not None:
            self.know([item])
        return item

    def _add(self, item_id: str, source: str, units: float) -> None:
        if item_id == WORKERS_ID:
            self.announced += units
        elif item_id.startswith(WINDOW_IDS):
            self.upkeep += units
        else:
            self.written[source] += units

    def _refuse(self, item_id: str, item: Item | None = None) -> None:
        """Count a refused write: of the item as it is stored, or of the new one if the stored one is not known."""
        self.refused += 1
        self._add(item_id, "rule", _steps(max(item_bytes(self._items.get(item_id, item or {})), 1)))

    def _count(self, statement: dict[str, Any], response: dict[str, Any]) -> None:
        if statement["Statement"].startswith("INSERT"):
            self._count_insert(statement, response)
            return
        old = self._old(statement)
        if old is None:
            return  # the probe uses an item that does not exist
        if "Error" in response:
            self._refuse(old["id"]["S"])
            return
        new = response.get("Item") or _completed(old)
        self.written["rule"] += write_units(old, new, self._projection)
        self._items[new["id"]["S"]] = new

    def _count_insert(self, statement: dict[str, Any], response: dict[str, Any]) -> None:
        item = dict(zip(_INSERTED.findall(statement["Statement"]), statement["Parameters"], strict=True))
        item_id = item["id"]["S"]
        if "Error" in response:
            self._refuse(item_id, item)
            return
        self._add(item_id, "rule", write_units(None, item, self._projection))
        self.know([item])


def _id_of(arguments: Mapping[str, Any]) -> str:
    """Return the id of the item that a request writes, or an empty text if it writes several."""
    item_id: str = arguments.get("Key", arguments.get("Item", {})).get("id", {"S": ""})["S"]
    return item_id


def _completed(item: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in item.items() if name != "gsiSortKey"}
    return {**kept, "status": {"S": "COMPLETED"}, "completedOn": item["startedOn"]}
