"""The forms of a transition for items that are nearly as large as DynamoDB allows."""

from __future__ import annotations

from dataclasses import replace
from enum import IntEnum
from functools import lru_cache

from dynamodb_outbox.dynamodb.conditional.transitions import Transition


class Room(IntEnum):
    """How much room an item has for a write: what it leaves out, so that it fits below DynamoDB's limit.

    A PROCESSING event has startedOn, which takes 11 bytes at least and says nothing that anybody reads, and its status
    becomes shorter by one byte at least. So without lastError and without new names in handledBy, a write takes no more
    room than it makes: another retryCount takes one byte more, another gsiSortKey six.

    The exception is the first give-back of an event that has no handler: it stores unhandledSince, whose name is five
    bytes longer than startedOn, so two bytes can be missing. Without that time the event would be given back for ever.
    So it is not written: the lease runs out, the recovery counts an attempt, and the event becomes FAILED in the end.
    """

    ENOUGH = 0
    FOR_SHORT_ERROR = 1
    """Only the start of an error; startedOn goes."""
    FOR_NO_ERROR = 2
    """No error, not even an earlier one."""
    FOR_NOTHING = 3
    """No names of handlers, and no time of completion."""


@lru_cache(maxsize=256)
def fitted(transition: Transition, room: Room) -> Transition:
    """Make of a transition one that fits into the room; each is an `UpdateItem`, as it is rare."""
    if room is Room.ENOUGH:
        return transition
    kept, gone = transition.set, ["startedOn"]
    if room >= Room.FOR_NO_ERROR:
        kept = tuple(each for each in kept if not each.startswith("lastError "))
        gone.append("lastError")
    if room is Room.FOR_NOTHING:
        kept = tuple(each for each in kept if not each.startswith("completedOn "))
    add = () if room is Room.FOR_NOTHING else transition.add
    return replace(transition, set=kept, add=add, remove=(*transition.remove, *gone), batched=False)
