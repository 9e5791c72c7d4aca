"""Transitions as DynamoDB takes them: an `UpdateItem`, an `Update` of a transaction, or a PartiQL statement."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

from dynamodb_outbox.dynamodb.conditional.insert import insert_statement
from dynamodb_outbox.dynamodb.conditional.transitions import Transition, Write
from dynamodb_outbox.dynamodb.items.values import AttributeValue
from dynamodb_outbox.event import EventStatus

_STATUS_VALUES: Final[dict[str, AttributeValue]] = {
    status: {"S": status} for status in (*map(str, EventStatus), "VOID")
}
_PARAMETER: Final = re.compile(r":(\w+)")
_RESERVED: Final = re.compile(r"(?<!:)\b(status|type|window)\b")
"""Names of attributes that are words of DynamoDB's expressions."""
# UpdateItem does not have IS MISSING, and AWS does not document attribute_not_exists for PartiQL.
_NOT_EXISTS: Final = re.compile(r"attribute_not_exists\((\w+)\)")


@lru_cache(maxsize=256)
def _update_shape(transition: Transition) -> tuple[dict[str, Any], tuple[str, ...]]:
    clauses = {
        "SET": transition.set,
        "ADD": tuple(f"{attribute} {members}" for attribute, members in transition.add),
        "REMOVE": transition.remove,
    }
    update = " ".join(f"{clause} {', '.join(parts)}" for clause, parts in clauses.items() if parts)
    shape = {
        "UpdateExpression": _RESERVED.sub(r"#\1", update),
        "ConditionExpression": _RESERVED.sub(r"#\1", transition.condition),
        "ExpressionAttributeNames": {
            f"#{name}": name for name in _RESERVED.findall(f"{update} {transition.condition}")
        },
    }
    return shape, tuple(dict.fromkeys(_PARAMETER.findall(f"{update} {transition.condition}")))


def update_item(write: Write, *, table_name: str, returning: bool) -> dict[str, Any]:
    """Render the arguments of an `UpdateItem`, or of a `DeleteItem` if the transition deletes."""
    shape, parameters = _update_shape(write.transition)
    values = {**_STATUS_VALUES, **write.values}
    arguments = {
        "TableName": table_name,
        "Key": {"id": {"S": write.event_id}},
        "ExpressionAttributeValues": {f":{name}": values[name] for name in parameters},
        "ReturnValues": "ALL_NEW" if returning else "NONE",
        **shape,
    }
    if write.transition.deletes:
        del arguments["UpdateExpression"]
        arguments["ReturnValues"] = "NONE"
    return arguments


def update_transact_item(write: Write, *, table_name: str) -> dict[str, Any]:
    """Render the arguments of an `Update` or `Delete` in a TransactWriteItems."""
    arguments = update_item(write, table_name=table_name, returning=False)
    del arguments["ReturnValues"]
    return {**arguments, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}


@lru_cache(maxsize=256)
def _statement_shape(transition: Transition, table_name: str, *, returning: bool) -> tuple[str, tuple[str, ...]]:
    additions = tuple(f"{attribute} = set_add({attribute}, {members})" for attribute, members in transition.add)
    sets = " ".join(f"SET {assignment}" for assignment in transition.set + additions)
    removes = "".join(f" REMOVE {attribute}" for attribute in transition.remove)
    condition = _NOT_EXISTS.sub(r"\1 IS MISSING", transition.condition)
    text = f"{sets}{removes} WHERE id = :id AND ({condition})"
    suffix = " RETURNING ALL NEW *" if returning else ""
    if transition.deletes:
        text, verb, suffix = f"WHERE id = :id AND ({condition})", "DELETE FROM", ""
    else:
        verb = "UPDATE"
    statement = _PARAMETER.sub("?", _RESERVED.sub(r'"\1"', text))
    return f'{verb} "{table_name}" {statement}{suffix}', tuple(_PARAMETER.findall(text))


def parameters_of(transition: Transition) -> tuple[str, ...]:
    """List the names of the values that each write of a transition must supply."""
    return tuple(name for name in _update_shape(transition)[1] if name not in _STATUS_VALUES)


def statement(write: Write, *, table_name: str, returning: bool) -> dict[str, Any]:
    """Render one statement of a `BatchExecuteStatement`, in documented PartiQL only."""
    # Called twice for every event: one merged mapping is cheaper than a call for each parameter.
    values = {**_STATUS_VALUES, **write.values, "id": {"S": write.event_id}}
    if write.transition.creates:
        pairs = [assignment.split(" = :") for assignment in ("id = :id", *write.transition.set)]
        return insert_statement({name: values[parameter] for name, parameter in pairs}, table_name=table_name)
    text, parameters = _statement_shape(write.transition, table_name, returning=returning)
    return {"Statement": text, "Parameters": [values[name] for name in parameters]}
