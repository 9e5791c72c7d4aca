"""The operations that read items from the table, and rows from an index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from reliability.simulation.requests import (
    BATCH_GET,
    GET,
    QUERY,
    Parameters,
    UnknownRequestError,
    check_parameters,
    check_used,
    invalid,
    key_of,
    scope_of,
)
from reliability.simulation.responses import client_error
from reliability.simulation.table import Index, IndexQuery, Table
from reliability.simulation.updates import parse_key_condition, parse_projection
from reliability.simulation.values import Item, item_size, number

if TYPE_CHECKING:
    from reliability.simulation.backend import Backend

MAX_PAGE_BYTES: Final = 1_048_576
MAX_KEYS: Final = 100
UNIT_BYTES: Final = 4_096
"""A read unit is a consistent read of 4 KB, or two others."""


def get_item(backend: Backend, parameters: Parameters) -> dict[str, Any]:
    """Read an item."""
    check_parameters(parameters, GET)
    table = backend.table(parameters["TableName"], "get_item")
    item = table.items.get(key_of(table, parameters["Key"]))
    return {} if item is None else {"Item": _projected([item], parameters)[0]}


def batch_get_item(backend: Backend, parameters: Parameters) -> dict[str, Any]:
    """Read items, without missing items."""
    check_parameters(parameters, frozenset({"RequestItems", "ReturnConsumedCapacity"}))
    responses: dict[str, list[Item]] = {}
    capacity: list[dict[str, Any]] = []
    for name, wanted in parameters["RequestItems"].items():
        check_parameters(wanted, BATCH_GET)
        table = backend.table(name, "batch_get_item")
        keys = [key_of(table, key) for key in wanted["Keys"]]
        if len(keys) > MAX_KEYS:
            raise invalid("Too many items requested for the BatchGetItem call")
        if len(set(keys)) < len(keys):
            raise invalid("Provided list of item keys contains duplicates")
        # DynamoDB returns items in any order.
        found = [table.items[key] for key in sorted(keys) if key in table.items]
        responses[name] = _projected(found, wanted)
        # Each item is rounded up to 4 KB; a key without an item costs as much as the smallest item.
        blocks = sum(-(-item_size(item) // UNIT_BYTES) for item in found) + len(keys) - len(found)
        capacity.append({"TableName": name, "CapacityUnits": blocks if wanted.get("ConsistentRead") else blocks / 2})
    return {"Responses": responses, "UnprocessedKeys": {}, **_capacity(parameters, capacity)}


def query(backend: Backend, parameters: Parameters) -> dict[str, Any]:
    """Read a page of an index."""
    check_parameters(parameters, QUERY)
    table = backend.table(parameters["TableName"], "query")
    index = table.indexes.get(parameters.get("IndexName", ""))
    if index is None:
        message = f"The table does not have the specified index: {parameters.get('IndexName')}"
        raise client_error("ValidationException", message, operation="query")
    wanted = _query_of(index, table, parameters)
    rows, limited = index.page(wanted, replica=backend.choose_replica(), now=backend.clock())
    fitting = _fitting(rows)
    reply: dict[str, Any] = {"Count": len(fitting), "ScannedCount": len(fitting)}
    if limited or len(fitting) < len(rows):
        names = (table.key_name, index.schema.partition_key, index.schema.sort_key)
        reply["LastEvaluatedKey"] = {name: fitting[-1][name] for name in names}
    if parameters.get("Select") != "COUNT":
        reply["Items"] = _projected(fitting, parameters)
    # The size of all rows together is rounded up to 4 KB, whatever the projection expression leaves out.
    blocks = max(-(-sum(map(item_size, fitting)) // UNIT_BYTES), 1)
    return reply | _capacity(parameters, {"TableName": table.name, "CapacityUnits": blocks / 2})


def _capacity(parameters: Parameters, consumed: Any) -> dict[str, Any]:
    wanted = parameters.get("ReturnConsumedCapacity", "NONE")
    if wanted not in {"NONE", "TOTAL"}:
        raise UnknownRequestError(f"ReturnConsumedCapacity={wanted} is not known here")
    return {"ConsumedCapacity": consumed} if wanted == "TOTAL" else {}


def _query_of(index: Index, table: Table, parameters: Parameters) -> IndexQuery:
    parts, used = parse_key_condition(parameters["KeyConditionExpression"])
    projection = parameters.get("ProjectionExpression")
    check_used(parameters, used, *([parse_projection(projection)[1]] if projection else []))
    scope = scope_of({}, parameters)
    partition, sign, bound = None, "", "0"
    for name, comparison, operand in parts:
        value = operand(scope) or {}
        if name(scope) == index.schema.partition_key and comparison == "=":
            partition = value["S"]
        elif name(scope) == index.schema.sort_key and not sign:
            sign, bound = comparison, value["N"]
        else:
            raise UnknownRequestError(f"the condition of {name(scope)} is not known here")
    if partition is None:
        raise invalid("Query condition missed key schema element")
    start = parameters.get("ExclusiveStartKey")
    after = None if start is None else (number(start[index.schema.sort_key]["N"]), start[table.key_name]["S"])
    return IndexQuery(
        partition=partition,
        sign=sign,
        bound=bound,
        after=after,
        limit=parameters.get("Limit"),
        forward=parameters.get("ScanIndexForward", True),
    )


def _fitting(rows: list[Item]) -> list[Item]:
    """Cut a page after the item that exceeds the maximum size."""
    size = 0
    for count, row in enumerate(rows, 1):
        size += item_size(row)
        if size > MAX_PAGE_BYTES:
            return rows[:count]
    return rows


def _projected(rows: list[Item], parameters: Parameters) -> list[Item]:
    text = parameters.get("ProjectionExpression")
    if text is None:
        return [dict(row) for row in rows]
    scope = scope_of({}, parameters)
    names = [name(scope) for name in parse_projection(text)[0]]
    return [{name: row[name] for name in names if name in row} for row in rows]
