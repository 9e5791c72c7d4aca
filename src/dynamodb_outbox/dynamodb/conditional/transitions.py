"""The transitions of an event as conditional writes, one constant for each; guarantees.md has the state diagram.

`repair_transitions.py` has the transitions that an operator causes. REDRIVE is here, because it goes in batches.

Each is defined once, in the expressions that DynamoDB and PartiQL share. `rendering.py` makes requests of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Final

from dynamodb_outbox.dynamodb.items.values import AttributeValue
from dynamodb_outbox.dynamodb.schema.shards import SHARD_ATTRIBUTE, Shards


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Transition:
    """The shape of a conditional write; `:name` stands for a value that each write supplies.

    A transition that is not `batched` is always an `UpdateItem`, because it is rare or PartiQL cannot express it. With
    `creates`, it is a PartiQL INSERT, since an UPDATE refuses an item that does not exist; with `deletes`, a DeleteItem
    or a PartiQL DELETE. With `returning`, the result has the new item.
    """

    name: str
    set: tuple[str, ...] = ()
    add: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()
    condition: str
    batched: bool = True
    creates: bool = False
    deletes: bool = False
    returning: bool = False

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


_ERROR: Final = ("lastError = :error", "errorType = :error_type", "errorHandler = :error_handler")

CLAIM: Final = Transition(
    name="claim",
    set=(
        "status = :PROCESSING",
        "claimToken = :token",
        "claimedBy = :worker",
        "startedOn = :now",
        "gsiSortKey = :deadline",
    ),
    # The second half lets a repeat succeed if the first attempt was applied but its response was lost.
    condition="(status = :PENDING AND gsiSortKey = :seen) OR (status = :PROCESSING AND claimToken = :token)",
    returning=True,
)
# For an item that has room for the token, but not for the name of the worker.
CLAIM_UNNAMED: Final = replace(
    CLAIM,
    set=tuple(each for each in CLAIM.set if not each.startswith("claimedBy ")),
    remove=("claimedBy",),
    batched=False,
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
    set=("status = :PENDING", "retryCount = :retries", "gsiSortKey = :due", *_ERROR),
    condition="claimToken = :token AND (status = :PROCESSING OR status = :PENDING)",
)
FAIL: Final = Transition(
    name="fail",
    set=("status = :FAILED", "gsiSortKey = :now", *_ERROR),
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
    # With the status, because a renewal moves an event of a window into the index: with shards, into its shard.
    set=("status = :PROCESSING", "gsiSortKey = :deadline"),
    condition="claimToken = :token AND status = :PROCESSING",
)
# A renewal of an event that is in a window, by the adapter. It must not shorten a lease that a handler has extended.
MOVE_OUT: Final = Transition(
    name="move out of the window",
    set=RENEW.set,
    condition=f"{RENEW.condition} AND attribute_not_exists(gsiSortKey)",
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
        "errorType = :error_type",
    ),
    # A worker without a handler gives an event back at once, so this expired lease belonged to one with a handler.
    remove=("unhandledSince", "errorHandler"),
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
    set=("status = :FAILED", "gsiSortKey = :now", "lastError = :error", "errorType = :error_type"),
    remove=("errorHandler",),
    condition="status = :PROCESSING AND gsiSortKey = :seen",
    batched=False,
)
# For an item without any room. The sort key stays, because a new one may be longer.
RECOVER_IN_PLACE: Final = Transition(
    name="recover as failed in place",
    set=("status = :FAILED",),
    remove=("lastError", "startedOn", "claimedBy", "errorType", "errorHandler"),
    condition=RECOVER_FAILED.condition,
    batched=False,
)
# For a due item without room for the token of a claim. The sort key stays here, too.
FAIL_UNCLAIMED: Final = Transition(
    name="fail unclaimed",
    set=("status = :FAILED", "lastError = :error"),
    remove=("errorType", "errorHandler"),
    condition="status = :PENDING AND gsiSortKey = :seen",
    batched=False,
)
# An event that was stored in a window is in no index until it is recovered: see `dynamodb/windows/`. The condition
# names the window, because another outbox of the process may have a window with the same numbers. The token stays, as
# after RECOVER.
_IS_UNLISTED: Final = "status = :PROCESSING AND attribute_not_exists(gsiSortKey) AND window = :window"
ENTER: Final = Transition(
    name="enter the index",
    set=RECOVER.set,
    remove=("window", "errorHandler"),
    condition=f"{_IS_UNLISTED} AND (attribute_not_exists(retryCount) OR retryCount < :max)",
    batched=False,
)
# Written after ENTER, for the same reasons as RECOVER_FAILED. Without the error it needs no further form for an item
# without any room: startedOn and the name of the window are longer than the sort key and the shard.
ENTER_FAILED: Final = Transition(
    name="enter the index as failed",
    set=RECOVER_FAILED.set,
    remove=("window", "errorHandler"),
    condition=_IS_UNLISTED,
    batched=False,
)
# A tombstone refuses the event of its id: the event could be stored late, after the recovery of its window.
TOMBSTONE: Final = Transition(
    name="tombstone",
    set=("status = :VOID", "expireAt = :expiry"),
    condition="attribute_not_exists(id)",
    creates=True,
)
TOMBSTONE_ALONE: Final = replace(TOMBSTONE, batched=False)
# Not for an event with an ordering key: it would be delivered outside of its line. See `operator_transitions.py`.
REDRIVE: Final = Transition(
    name="redrive",
    set=("status = :PENDING", "retryCount = :zero", "gsiSortKey = :now"),
    remove=("claimToken", "unhandledSince"),
    condition="status = :FAILED AND attribute_not_exists(orderingKey)",
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
# A window of a worker without shards. Its sort key moves with each renewal, so the condition does not compare it.
MOVE_WINDOW: Final = Transition(
    name="move a window to its shard",
    set=MOVE.set,
    condition=f"status = :was AND (attribute_not_exists({SHARD_ATTRIBUTE}) OR {SHARD_ATTRIBUTE} <> :shard)",
    batched=False,
)

_STATUS_SET: Final = re.compile(r"status = :(\w+)")


@lru_cache(maxsize=256)
def no_longer_unhandled(transition: Transition) -> Transition:
    """Return the transition for an event that was unhandled until this worker, which has a handler, claimed it."""
    return transition.also_remove("unhandledSince")


@lru_cache(maxsize=256)
def without_details(transition: Transition, names: tuple[str, ...]) -> Transition:
    """Return the transition for an error that lacks some of `errorType` and `errorHandler`: it removes them.

    Few errors are not from a handler, so this is an `UpdateItem`, and the probe of batches stays within one request.
    """
    kept = tuple(each for each in transition.set if each.partition(" ")[0] not in names)
    return replace(transition, set=kept, remove=(*transition.remove, *names), batched=False)


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
    MOVE_OUT,
    REDRIVE,
    MOVE,
)
"""All transitions that go in batches, with all variants. The probe tries the statement of each, and of no other."""


@lru_cache(maxsize=256)
def _moving(transition: Transition) -> tuple[Transition, str | None]:
    """Return the transition that also moves the event to its shard, and the status of its shard key, or None.

    A tombstone is in no index, and so in no shard.
    """
    status = next((found[1] for found in map(_STATUS_SET.fullmatch, transition.set) if found), None)
    if status is None or transition.creates:
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
