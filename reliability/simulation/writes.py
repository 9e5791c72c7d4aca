"""Conditional writes: first computed, then admitted, then applied."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from reliability.simulation import requests
from reliability.simulation.evaluation import Condition, Scope
from reliability.simulation.requests import (
    Parameters,
    check_item,
    check_parameters,
    check_used,
    condition_of,
    invalid,
    key_of,
    scope_of,
)
from reliability.simulation.responses import Refusal, condition_failed, duplicate_item
from reliability.simulation.table import Change, Table
from reliability.simulation.updates import AnyStatement, Deletion, Insert, parse_update
from reliability.simulation.values import AttributeValue, Item


@dataclass(frozen=True, slots=True)
class Write:
    """A computed write: its change, or its refusal, which is billed as well."""

    table: Table
    change: Change
    refusal: Refusal | None = None


def put(table: Table, parameters: Parameters) -> Write:
    """Work out a put."""
    check_parameters(parameters, requests.PUT)
    item: Item = dict(parameters["Item"])
    if table.key_name not in item:
        raise invalid(f"One or more parameter values were invalid: Missing the key {table.key_name} in the item")
    key = key_of(table, {table.key_name: item[table.key_name]})
    check_item(table, item)
    return _conditional(table, key, parameters) or Write(table, table.change(key, item))


def delete(table: Table, parameters: Parameters) -> Write:
    """Work out a deletion."""
    check_parameters(parameters, requests.DELETE)
    key = key_of(table, parameters["Key"])
    return _conditional(table, key, parameters) or Write(table, table.change(key, None))


def check(table: Table, parameters: Parameters) -> Write:
    """Compute a check, which writes nothing."""
    check_parameters(parameters, requests.DELETE)
    key = key_of(table, parameters["Key"])
    return _conditional(table, key, parameters) or Write(table, table.refused(key))


def update(table: Table, parameters: Parameters) -> Write:
    """Compute the result of an update. It creates a missing item, as DynamoDB does."""
    check_parameters(parameters, requests.UPDATE)
    key = key_of(table, parameters["Key"])
    parsed = parse_update(parameters["UpdateExpression"])
    condition = condition_of(parameters)
    check_used(parameters, parsed.used, *([condition.used] if condition else []))
    old = table.items.get(key)
    refused = _refused(table, key, parameters, condition.holds if condition else None)
    if refused is not None:
        return refused
    scope = scope_of({table.key_name: {"S": key}} if old is None else old, parameters)
    new = parsed.apply(scope)
    check_item(table, new, what="Item size to update")
    return Write(table, table.change(key, new))


def insert(table: Table, parsed: Insert, values: Mapping[str, AttributeValue]) -> Write:
    """Compute a PartiQL INSERT, which never replaces an item."""
    item = parsed.item_of(values)
    check_item(table, item)
    key = key_of(table, {table.key_name: item[table.key_name]})
    if key in table.items:
        return Write(table, table.refused(key), duplicate_item())
    return Write(table, table.change(key, item))


def statement(
    table: Table, parsed: AnyStatement, values: Mapping[str, AttributeValue], *, deletes_missing: bool = False
) -> Write:
    """Compute a PartiQL INSERT, UPDATE or DELETE. An UPDATE never creates an item.

    By the documentation of DynamoDB, the DELETE of an item that is missing succeeds. DynamoDB Local refuses it if the
    statement has a condition. `deletes_missing` says which of the two the backend does.
    """
    if isinstance(parsed, Insert):
        return insert(table, parsed, values)
    name, operand = parsed.key
    nothing = Scope({}, {}, values)
    if name(nothing) != table.key_name:
        raise requests.UnknownRequestError("the WHERE of a statement begins with the key of the table here")
    key = key_of(table, {table.key_name: operand(nothing) or {}})
    old = table.items.get(key)
    if old is None and isinstance(parsed, Deletion) and deletes_missing:
        return Write(table, table.change(key, None))
    scope = Scope(old or {}, {}, values)
    if old is None or (parsed.condition is not None and not parsed.condition(scope)):
        return Write(table, table.refused(key), condition_failed(None))
    if isinstance(parsed, Deletion):
        return Write(table, table.change(key, None))
    new = parsed.update.apply(scope)
    check_item(table, new, what="Item size to update")
    return Write(table, table.change(key, new))


OPERATIONS: Final[Mapping[str, Callable[[Table, Parameters], Write]]] = {
    "Put": put,
    "Update": update,
    "Delete": delete,
    "ConditionCheck": check,
}


def _conditional(table: Table, key: str, parameters: Parameters) -> Write | None:
    condition = condition_of(parameters)
    check_used(parameters, *([condition.used] if condition else []))
    return _refused(table, key, parameters, condition.holds if condition else None)


def _refused(table: Table, key: str, parameters: Parameters, condition: Condition | None) -> Write | None:
    old = table.items.get(key)
    if condition is None or condition(scope_of(old or {}, parameters)):
        return None
    wanted = parameters.get("ReturnValuesOnConditionCheckFailure", "NONE") == requests.ALL_OLD
    return Write(table, table.refused(key), condition_failed(old if wanted else None))
