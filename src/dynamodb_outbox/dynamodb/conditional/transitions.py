"""The transitions of an event as conditional writes, one constant for each; guarantees.md has the state diagram.

Each transition is defined once, in the expressions that DynamoDB and PartiQL share. It is rendered as an `UpdateItem`,
as an `Update` of a transaction, or as a statement of a `BatchExecuteStatement`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Final

from dynamodb_outbox.dynamodb.items.values import AttributeValue
from dynamodb_outbox.dynamodb.schema.shards import SHARD_ATTRIBUTE, Shards


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Transition:
    """The shape of a conditional write; `:name` stands for a value that each write supplies.

    A transition that is not `batched` is always an `UpdateItem`, because it is rare or PartiQL cannot express it.
    """

    name: str
    set: tuple[str, ...] = ()
    add: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()
    condition: str
    batched: bool = True

    def also_set(self, *assignments: str) -> Transition:
        """Return the transition with more assignments."""
        return replace(self, set=self.set + assignments)

    def also_remove(self, attribute: str) -> Transition:
        """Return the transition with one more attribute to remove."""
        return replace(self, remove=(*self.remove, attribute))

    def also_add(self, attribute: str, members: str) -> Transition:
        """Return the transition with members to add to a set. A repeat adds nothing more."""
        return replace(self, add=(*self.add, (attribute, members)))


@dataclass(frozen=True, slots=True)
class Write:
    """One transition of one event."""

    transition: Transition
    event_id: str
    values: Mapping[str, AttributeValue] = field(default_factory=dict[str, AttributeValue])


CLAIM: Final = Transition(
    name="claim",
    set=("status = :PROCESSING", "claimToken = :token", "startedOn = :now", "gsiSortKey = :deadline"),
    # The second half lets a repeat succeed if the first attempt was applied but its response was lost.
    condition="(status = :PENDING AND gsiSortKey = :seen) OR (status = :PROCESSING AND claimToken = :token)",
)
# The settles: a write of the outcome of a claim needs the token of the claim. The status half: PENDING, because
# recovery keeps the token until the next claim; the own result, because a repeat after a lost response must succeed;
# RELEASE only from PROCESSING, because a recovered event is due already. SETTLED_FROM in port.py is the same rule for
# other adapters: change both.
COMPLETE: Final = Transition(
    name="complete",
    set=("status = :COMPLETED", "completedOn = :now"),
    remove=("gsiSortKey",),
    condition="claimToken = :token AND status <> :FAILED",
)
RETRY: Final = Transition(
    name="retry",
    set=("status = :PENDING", "retryCount = :retries", "gsiSortKey = :due", "lastError = :error"),
    condition="claimToken = :token AND (status = :PROCESSING OR status = :PENDING)",
)
FAIL: Final = Transition(
    name="fail",
    set=("status = :FAILED", "gsiSortKey = :now", "lastError = :error"),
    condition="claimToken = :token AND status <> :COMPLETED",
)
RELEASE: Final = Transition(
    name="release",
    set=("status = :PENDING", "gsiSortKey = :due"),
    condition="claimToken = :token AND status = :PROCESSING",
)
# A release by a worker that has no handler for the event.
GIVE_BACK: Final = replace(RELEASE, name="give back").also_set("unhandledSince = :since")
COMPLETE_WITH_EXPIRY: Final = COMPLETE.also_set("expireAt = :expiry")
WITH_HANDLED_BY: Final = {
    transition: transition.also_add("handledBy", ":handled") for transition in (RETRY, FAIL, RELEASE, GIVE_BACK)
}
RENEW: Final = Transition(
    name="renew",
    set=("gsiSortKey = :deadline",),
    condition="claimToken = :token AND status = :PROCESSING",
)
# HANDLER_DONE and COMPLETE_BY_HANDLER are part of the user's transaction and apply once. If a repeat is refused because
# an earlier attempt was applied, the returned item shows it.
HANDLER_DONE: Final = Transition(
    name="handler done",
    add=(("handledBy", ":handled"),),
    condition=(
        "claimToken = :token AND status = :PROCESSING "
        "AND (attribute_not_exists(handledBy) OR NOT contains(handledBy, :handler))"
    ),
)
COMPLETE_BY_HANDLER: Final = Transition(
    name="complete by handler",
    set=("status = :COMPLETED", "completedOn = :now"),
    remove=("gsiSortKey",),
    condition=HANDLER_DONE.condition,
)
COMPLETE_BY_HANDLER_WITH_EXPIRY: Final = COMPLETE_BY_HANDLER.also_set("expireAt = :expiry")
# Recovery does not have the token, so its condition compares the deadline that it read. The token stays, so that a
# late outcome of the former worker, other than a release, is accepted until another worker claims the event.
RECOVER: Final = Transition(
    name="recover",
    set=(
        "status = :PENDING",
        "retryCount = if_not_exists(retryCount, :zero) + :one",
        "gsiSortKey = :now",
        "lastError = :error",
    ),
    # A worker without a handler gives an event back at once, so this expired lease belonged to one with a handler.
    remove=("unhandledSince",),
    condition=(
        "status = :PROCESSING AND gsiSortKey = :seen AND (attribute_not_exists(retryCount) OR retryCount < :max)"
    ),
    # AWS does not document if_not_exists for PartiQL.
    batched=False,
)
# Written after RECOVER was too large for the item, or was refused. If it was refused, either another write changed the
# event, so this write is refused, too, or no retry is left.
RECOVER_FAILED: Final = Transition(
    name="recover as failed",
    set=("status = :FAILED", "gsiSortKey = :now", "lastError = :error"),
    condition="status = :PROCESSING AND gsiSortKey = :seen",
    batched=False,
)
# For an item without any room. The sort key stays, because a new one may be longer.
RECOVER_IN_PLACE: Final = Transition(
    name="recover as failed in place",
    set=("status = :FAILED",),
    remove=("lastError", "startedOn"),
    condition=RECOVER_FAILED.condition,
    batched=False,
)
# For a due item without room for the token of a claim. The sort key stays here, too.
FAIL_UNCLAIMED: Final = Transition(
    name="fail unclaimed",
    set=("status = :FAILED", "lastError = :error"),
    condition="status = :PENDING AND gsiSortKey = :seen",
    batched=False,
)
REDRIVE: Final = Transition(
    name="redrive",
    set=("status = :PENDING", "retryCount = :zero", "gsiSortKey = :now"),
    remove=("claimToken", "unhandledSince"),
    condition="status = :FAILED",
)
# Changes only the event's place in the index, not its status. Every other write that sets the status also moves the
# event: see placed().
MOVE: Final = Transition(
    name="move to its shard",
    set=(f"{SHARD_ATTRIBUTE} = :shard",),
    condition=(
        "status = :was AND gsiSortKey = :seen "
        f"AND (attribute_not_exists({SHARD_ATTRIBUTE}) OR {SHARD_ATTRIBUTE} <> :shard)"
    ),
)

_STATUS_VALUES: Final[dict[str, AttributeValue]] = {
    status: {"S": status} for status in ("PENDING", "PROCESSING", "COMPLETED", "FAILED")
}
_PARAMETER: Final = re.compile(r":(\w+)")
_STATUS: Final = re.compile(r"(?<!:)\bstatus\b")
# UpdateItem does not have IS MISSING, and AWS does not document attribute_not_exists for PartiQL.
_NOT_EXISTS: Final = re.compile(r"attribute_not_exists\((\w+)\)")
_STATUS_SET: Final = re.compile(r"status = :(\w+)")


@lru_cache(maxsize=256)
def no_longer_unhandled(transition: Transition) -> Transition:
    """Return the transition for an event that was unhandled until this worker, which has a handler, claimed it."""
    return transition.also_remove("unhandledSince")


_SETTLES_WITH_HANDLER: Final = (
    COMPLETE,
    COMPLETE_WITH_EXPIRY,
    RETRY,
    FAIL,
    RELEASE,
    *(WITH_HANDLED_BY[each] for each in (RETRY, FAIL, RELEASE)),
)
BATCHED: Final = (
    CLAIM,
    *_SETTLES_WITH_HANDLER,
    *map(no_longer_unhandled, _SETTLES_WITH_HANDLER),
    GIVE_BACK,
    WITH_HANDLED_BY[GIVE_BACK],
    RENEW,
    REDRIVE,
    MOVE,
)
"""All transitions that go in batches, with all variants. The probe tries the statement of each.

Add each new transition that has `batched=True`, with its variants; otherwise the probe does not try it.
"""


@lru_cache(maxsize=256)
def _moving(transition: Transition) -> tuple[Transition, str | None]:
    """Return the transition that also moves the event to its shard, and the status of its shard key, or None."""
    status = next((found[1] for found in map(_STATUS_SET.fullmatch, transition.set) if found), None)
    if status is None:
        return transition, None
    if "gsiSortKey" in transition.remove:
        return replace(transition, remove=(*transition.remove, SHARD_ATTRIBUTE)), None
    return transition.also_set(f"{SHARD_ATTRIBUTE} = :shard"), status


def placed(write: Write, shards: Shards) -> Write:
    """Return the write with the event's move to its shard added."""
    transition, status = _moving(write.transition)
    if status is None:
        return replace(write, transition=transition)
    return Write(transition, write.event_id, {**write.values, "shard": shards.key(status, write.event_id)})


@lru_cache(maxsize=256)
def _update_shape(transition: Transition) -> tuple[dict[str, Any], tuple[str, ...]]:
    clauses = {
        "SET": transition.set,
        "ADD": tuple(f"{attribute} {members}" for attribute, members in transition.add),
        "REMOVE": transition.remove,
    }
    update = " ".join(f"{clause} {', '.join(parts)}" for clause, parts in clauses.items() if parts)
    shape = {
        "UpdateExpression": _STATUS.sub("#status", update),
        "ConditionExpression": _STATUS.sub("#status", transition.condition),
        "ExpressionAttributeNames": {"#status": "status"},
    }
    return shape, tuple(dict.fromkeys(_PARAMETER.findall(f"{update} {transition.condition}")))


def update_item(write: Write, *, table_name: str, returning: bool) -> dict[str, Any]:
    """Render the arguments of an `UpdateItem`."""
    shape, parameters = _update_shape(write.transition)
    values = {**_STATUS_VALUES, **write.values}
    return {
        "TableName": table_name,
        "Key": {"id": {"S": write.event_id}},
        "ExpressionAttributeValues": {f":{name}": values[name] for name in parameters},
        "ReturnValues": "ALL_NEW" if returning else "NONE",
        **shape,
    }


def update_transact_item(write: Write, *, table_name: str) -> dict[str, Any]:
    """Render the arguments of an `Update` in a TransactWriteItems."""
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
    statement = _PARAMETER.sub("?", _STATUS.sub('"status"', text))
    suffix = " RETURNING ALL NEW *" if returning else ""
    return f'UPDATE "{table_name}" {statement}{suffix}', tuple(_PARAMETER.findall(text))


def parameters_of(transition: Transition) -> tuple[str, ...]:
    """List the names of the values that each write of a transition must supply."""
    return tuple(name for name in _update_shape(transition)[1] if name not in _STATUS_VALUES)


def statement(write: Write, *, table_name: str, returning: bool) -> dict[str, Any]:
    """Render one statement of a `BatchExecuteStatement`, in documented PartiQL only."""
    text, parameters = _statement_shape(write.transition, table_name, returning=returning)
    # Called twice for every event: one merged mapping is cheaper than a call for each parameter.
    values = {**_STATUS_VALUES, **write.values, "id": {"S": write.event_id}}
    return {"Statement": text, "Parameters": [values[name] for name in parameters]}
