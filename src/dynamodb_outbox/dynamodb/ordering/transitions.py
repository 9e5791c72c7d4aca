"""The transitions of a queue, and of the events that leave it: MARK and the forms of POP.

An event is marked first: COMPLETED or FAILED. Then a POP takes its id from the front of the queue. Only a POP moves the
front, and only after the mark is answered. A worker that meets an event at the front that is marked already, because
another one died in between, pops it without its handlers.

A POP compares the front with the id of the event, so that no id leaves unseen. Its form depends on where the front is:

- LAST deletes the queue, whose only id is that of the event.
- IDS takes the first of several `ids`; there is no head.
- HEAD takes the first of several ids of the `head`.
- UNHEAD removes the `head`, whose only id is that of the event; there are no pages.
- REFILL makes the first page the `head`, and deletes the page, in one transaction.

CLAIM, RENEW, RETRY, RELEASE and FAIL are the transitions of an event, written to the queue. Recovery differs: see
RECOVER_QUEUE. `operator_transitions.py` has the transitions that an operator causes.
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from functools import lru_cache
from typing import Final

from dynamodb_outbox.dynamodb.conditional.repair_transitions import IS_SEEN
from dynamodb_outbox.dynamodb.conditional.transitions import FAIL, RECOVER, Transition
from dynamodb_outbox.dynamodb.ordering.queue import Queue


class Pop(Enum):
    """Where the front of a queue is, as far as is known."""

    LAST = "last"
    IDS = "ids"
    HEAD = "head"
    UNHEAD = "unhead"
    REFILL = "refill"


_FRONT_IS: Final = {
    Pop.LAST: "ids = :only AND attribute_not_exists(head)",
    Pop.IDS: "ids[0] = :front AND size(ids) > :one AND attribute_not_exists(head)",
    Pop.HEAD: "head[0] = :front AND size(head) > :one",
    Pop.UNHEAD: "head = :only AND (attribute_not_exists(lastPage) OR firstPage > lastPage)",
    Pop.REFILL: "head = :only",
}
_GONE: Final = {Pop.IDS: ("ids[0]",), Pop.HEAD: ("head[0]",), Pop.UNHEAD: ("head",), Pop.REFILL: ()}
OF_THE_FRONT: Final = ("handledBy", "lastError", "errorType", "errorHandler", "unhandledSince", "type")
"""The attributes that a queue stores of the event at its front. A HELD queue has the `type`."""
OF_THE_CLAIM: Final = ("claimedBy", "startedOn")
"""The attributes that say who has claimed the event at the front, and when."""
_IS_MINE: Final = "claimToken = :token AND status <> :FAILED"
_CLAIMED: Final = (
    "status = :PROCESSING",
    "claimToken = :next",
    "claimedBy = :worker",
    "startedOn = :now",
    "gsiSortKey = :deadline",
)
DUE_FOR_ALL: Final = ("status = :PENDING", "claimToken = :nobody", "gsiSortKey = :now")


def form_of(queue: Queue) -> Pop:
    """Return the form of the POP that takes the front of a queue."""
    if len(queue.head) > 1:
        return Pop.HEAD
    if queue.head:
        return Pop.REFILL if queue.pages else Pop.UNHEAD
    return Pop.IDS if len(queue.ids) > 1 else Pop.LAST


@lru_cache(maxsize=64)
def pop(form: Pop, *, keeps: bool, by_operator: bool = False) -> Transition:
    """Return the transition that takes the front, and makes the next event claimed by this worker, or due for all.

    With `keeps` it is the claim of the next event, under the token `next`. A repeat after a lost response is refused,
    and the queue shows what has happened. An operator takes the front of a queue that no worker holds, as it was seen.
    """
    holder = IS_SEEN if by_operator else _IS_MINE
    condition = f"{holder} AND {_FRONT_IS[form]}"
    if form is Pop.LAST:
        return Transition(name="pop the last", condition=condition, deletes=True, batched=not by_operator)
    refill = ("head = :page", "firstPage = :number") if form is Pop.REFILL else ()
    return Transition(
        name=f"pop by {form.value}",
        set=(*(_CLAIMED if keeps else DUE_FOR_ALL), "retryCount = :zero", *refill),
        remove=(*_GONE[form], *OF_THE_FRONT, *(() if keeps else OF_THE_CLAIM)),
        condition=condition,
        batched=form is not Pop.REFILL and not by_operator,
        returning=keeps and form is not Pop.REFILL,
    )


# A refusal means that the event is marked already: the answer to an earlier attempt was lost, or a worker that lost its
# lease has marked it.
MARK_COMPLETED: Final = Transition(
    name="mark as completed",
    set=("status = :COMPLETED", "completedOn = :now"),
    remove=("gsiSortKey",),
    condition="status = :QUEUED",
)
MARK_COMPLETED_WITH_EXPIRY: Final = MARK_COMPLETED.also_set("expireAt = :expiry")
# The event gets everything that its queue says of its delivery.
MARK_FAILED: Final = Transition(
    name="mark as failed",
    set=(*FAIL.set, "retryCount = :retries"),
    condition="status = :QUEUED",
    batched=False,
)
MARK_FAILED_WITH_HANDLED_BY: Final = MARK_FAILED.also_add("handledBy", ":handled")
# Changes nothing. A worker makes it in a transaction, to be refused when another worker has claimed the queue, or a
# transaction of a handler has added its name since. After a recovery alone, the queue still has the token.
CHECK_QUEUE: Final = Transition(
    name="check a queue",
    set=("claimToken = :token",),
    condition=f"{_IS_MINE} AND attribute_not_exists(handledBy)",
    batched=False,
)
CHECK_QUEUE_WITH_HANDLED_BY: Final = replace(
    CHECK_QUEUE, condition=f"{_IS_MINE} AND (attribute_not_exists(handledBy) OR handledBy = :names)"
)
# Recovery does not count retries against a limit: the worker that claims the queue sees how many attempts there were,
# and settles the event as Failed, so that `failed_key` applies. The token stays, so that the former worker may still
# pop the event that it has completed, until another worker claims the queue.
RECOVER_QUEUE: Final = replace(
    RECOVER,
    name="recover a queue",
    condition="status = :PROCESSING AND gsiSortKey = :seen",
    returning=True,
)
HOLD_QUEUE: Final = Transition(
    name="hold a queue",
    set=("status = :HELD", "gsiSortKey = :due", "claimToken = :nobody", "type = :type"),
    remove=("startedOn", "unhandledSince"),
    condition="claimToken = :token AND status = :PROCESSING",
    batched=False,
)

BATCHED: Final = (
    MARK_COMPLETED,
    MARK_COMPLETED_WITH_EXPIRY,
    pop(Pop.LAST, keeps=False),
    *(pop(form, keeps=keeps) for form in (Pop.IDS, Pop.HEAD, Pop.UNHEAD) for keeps in (True, False)),
)
"""The transitions that go in batches. They are probed when the first event with an ordering key is settled."""
