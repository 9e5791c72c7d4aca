"""Parses requests, and checks them as DynamoDB does before it reads an item."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from reliability.simulation.evaluation import Scope, UnknownExpressionError
from reliability.simulation.expressions import ParsedCondition, Used, parse_condition
from reliability.simulation.responses import INVALID, Refusal
from reliability.simulation.table import Table
from reliability.simulation.values import AttributeValue, Item, item_size

Parameters = Mapping[str, Any]

MAX_ITEM_BYTES: Final = 409_600
ALL_OLD: Final = "ALL_OLD"
_EXPRESSION: Final = frozenset({"ExpressionAttributeNames", "ExpressionAttributeValues"})
_CONDITIONAL: Final = _EXPRESSION | {"TableName", "ConditionExpression", "ReturnValuesOnConditionCheckFailure"}

PUT: Final = _CONDITIONAL | {"Item"}
DELETE: Final = _CONDITIONAL | {"Key"}
UPDATE: Final = _CONDITIONAL | {"Key", "UpdateExpression"}
"""The parameters of a single write, or of a write in a transaction."""
BATCH_GET: Final = frozenset({"Keys", "ConsistentRead", "ProjectionExpression", "ExpressionAttributeNames"})
GET: Final = BATCH_GET - {"Keys"} | {"TableName", "Key"}
QUERY: Final = _EXPRESSION | {
    "TableName",
    "IndexName",
    "KeyConditionExpression",
    "ProjectionExpression",
    "Select",
    "Limit",
    "ScanIndexForward",
    "ExclusiveStartKey",
    "ReturnConsumedCapacity",
}


class UnknownRequestError(Exception):
    """A request with a parameter or value that the simulated backend does not support."""


def check_parameters(parameters: Parameters, known: frozenset[str]) -> None:
    """Raise `UnknownRequestError` for a parameter that would be ignored."""
    unknown = parameters.keys() - known
    if unknown:
        raise UnknownRequestError(f"the parameters {sorted(unknown)} are not known here")


def invalid(message: str) -> Refusal:
    """Make the refusal of a request that is not valid."""
    return Refusal(INVALID, message)


def key_of(table: Table, key: Mapping[str, AttributeValue]) -> str:
    """Read the key of an item, which is a text here. Raises `Refusal`."""
    if set(key) != {table.key_name} or table.key_types[table.key_name] not in key[table.key_name]:
        raise invalid("The provided key element does not match the schema")
    value: str = key[table.key_name]["S"]
    if not value:
        raise invalid(
            "One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain an "
            f"empty string value. Key: {table.key_name}"
        )
    return value


def check_item(table: Table, item: Item, *, what: str = "Item size") -> None:
    """Check the keys and the size of an item. Raises `Refusal`."""
    if table.key_name not in item:
        raise invalid(f"One or more parameter values were invalid: Missing the key {table.key_name} in the item")
    for index in table.indexes.values():
        for name in (index.schema.partition_key, index.schema.sort_key):
            if name in item and table.key_types[name] not in item[name]:
                (actual,) = item[name]
                raise invalid(
                    f"One or more parameter values were invalid: Type mismatch for Index Key {name} "
                    f"Expected: {table.key_types[name]} Actual: {actual} IndexName: {index.schema.name}"
                )
    if item_size(item) > MAX_ITEM_BYTES:
        raise invalid(f"{what} has exceeded the maximum allowed size")


def scope_of(item: Item, parameters: Parameters) -> Scope:
    """Collect the names and values for the expressions of a request."""
    return Scope(item, parameters.get("ExpressionAttributeNames", {}), parameters.get("ExpressionAttributeValues", {}))


def condition_of(parameters: Parameters) -> ParsedCondition | None:
    """Parse the optional condition of a write."""
    text = parameters.get("ConditionExpression")
    return None if text is None else parse_condition(text)


def check_used(parameters: Parameters, *used: Used) -> None:
    """Check that every given placeholder is used, because DynamoDB refuses unused placeholders."""
    names = set[str]().union(*(each.names for each in used))
    values = set[str]().union(*(each.values for each in used))
    if parameters.get("ExpressionAttributeNames", {}).keys() - names:
        raise UnknownExpressionError("Value provided in ExpressionAttributeNames unused in expressions")
    if parameters.get("ExpressionAttributeValues", {}).keys() - values:
        raise UnknownExpressionError("Value provided in ExpressionAttributeValues unused in expressions")
