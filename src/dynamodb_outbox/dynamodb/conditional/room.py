"""Smaller variants of a transition, for items near DynamoDB's size limit."""

from __future__ import annotations

from dataclasses import replace
from enum import IntEnum
from functools import lru_cache
from typing import Final

from dynamodb_outbox.dynamodb.conditional.transitions import Transition

DETAILS: Final = ("claimedBy", "errorType", "errorHandler")
"""Attributes that only operators read. They go first where there is no room."""


class Room(IntEnum):
    """How much room an item has for a write. With less room, a write leaves out more attributes.

    A write frees at least 12 bytes of a PROCESSING event: startedOn, which nothing reads, takes 11, and the next status
    is at least one byte shorter. retryCount grows by at most one byte, gsiSortKey by six. So a write always fits if it
    leaves out lastError and the new names in handledBy.

    An event of a window gains gsiSortKey and statusShard, up to 40 bytes, when it enters the index. It frees 42 bytes:
    a write with less room also removes the name of the window, which takes 22 bytes with its attribute.

    One write may not fit, by two bytes: the first give-back of an event without a handler adds unhandledSince, whose
    name is five bytes longer than startedOn. This write fails rather than leave the time out, because the event would
    then be given back for ever. Its lease expires, the recovery counts attempts, and the event finally becomes FAILED.
    """

    ENOUGH = 0
    FOR_SHORT_ERROR = 1
    """Stores only the start of an error, without its class and handler, and removes startedOn and claimedBy."""
    FOR_NO_ERROR = 2
    """Also removes lastError."""
    FOR_NOTHING = 3
    """Also leaves out the names of handlers and the time of completion."""


@lru_cache(maxsize=256)
def fitted(transition: Transition, room: Room) -> Transition:
    """Return the variant of a transition that fits. It is rare, so it is always an `UpdateItem`."""
    if room is Room.ENOUGH:
        return transition
    gone = ["startedOn", "window", *DETAILS]
    kept = tuple(each for each in transition.set if each.partition(" ")[0] not in DETAILS)
    if room >= Room.FOR_NO_ERROR:
        kept = tuple(each for each in kept if not each.startswith("lastError "))
        gone.append("lastError")
    if room is Room.FOR_NOTHING:
        kept = tuple(each for each in kept if not each.startswith("completedOn "))
    add = () if room is Room.FOR_NOTHING else transition.add
    remove = tuple(dict.fromkeys((*transition.remove, *gone)))
    return replace(transition, set=kept, add=add, remove=remove, batched=False)
