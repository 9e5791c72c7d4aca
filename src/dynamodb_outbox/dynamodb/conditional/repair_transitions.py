"""The transitions of an event that an operator causes: discard, hold and resume. `REDRIVE` is in `transitions.py`.

They are rare, so each is an `UpdateItem`, and the probe of batches stays within one request.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Final

from dynamodb_outbox.dynamodb.conditional.room import Room
from dynamodb_outbox.dynamodb.conditional.transitions import REDRIVE, Transition

IS_SEEN: Final = "status = :was AND gsiSortKey = :seen"
"""The condition of a repair with a fence: the event is as the operator saw it."""
REDRIVE_SEEN: Final = replace(
    REDRIVE, name="redrive as seen", condition=f"{REDRIVE.condition} AND gsiSortKey = :seen", batched=False
)
# A worker writes it for an event of a held type that it has just claimed. The sort key is the due time that the event
# had before the claim, so a resume changes no order. Without the token, no late outcome can change the event. A repeat
# after a lost response is refused, and means the same: the event is HELD, or not this worker's any more.
HOLD: Final = Transition(
    name="hold",
    set=("status = :HELD", "gsiSortKey = :due"),
    remove=("claimToken", "startedOn", "unhandledSince"),
    condition="claimToken = :token AND status = :PROCESSING",
    batched=False,
)
# With the sort key, so that a second resume of the same event changes nothing, whatever has happened meanwhile.
RESUME: Final = Transition(
    name="resume",
    set=("status = :PENDING",),
    condition="status = :HELD AND gsiSortKey = :seen",
    batched=False,
)
_DETAILS: Final = ("startedOn", "window", "lastError", "claimedBy", "errorType", "errorHandler")
"""What a discard may remove to make room."""


@lru_cache(maxsize=64)
def discard(*, fenced: bool, expires: bool, replaced: bool, room: Room) -> Transition:
    """Return the transition to DISCARDED, in the form that an item has room for.

    The token goes, so that a late outcome of a former worker is refused: a discard is final. The last part of the
    condition lets a repeat succeed if the first attempt was applied but its response was lost. With `replaced`, the
    discard is in a transaction, whose token does that.

    Every item has room for the last form: the sort key takes 18 bytes, and `expireAt` with the longer status 17. (For a
    HELD event it is 19. It has more room, because it had a token before.)
    """
    kept = ["status = :DISCARDED"]
    conditions = [IS_SEEN] if fenced else ["status = :FAILED", "status = :PENDING", "status = :HELD"]
    if room < Room.FOR_NOTHING:
        kept.append("discardedOn = :now")
    if room < Room.FOR_NO_ERROR:
        kept += ["discardedBy = :by", "discardReason = :reason"]
        if replaced:
            kept.append("replacedBy = :replacement")
        else:
            conditions.append("status = :DISCARDED AND discardedOn = :now AND discardedBy = :by")
    if expires:
        kept.append("expireAt = :expiry")
    gone = {Room.ENOUGH: (), Room.FOR_SHORT_ERROR: _DETAILS[:2]}.get(room, _DETAILS)
    return Transition(
        name="discard",
        set=tuple(kept),
        remove=("gsiSortKey", "claimToken", "unhandledSince", *gone),
        condition=" OR ".join(f"({each})" for each in conditions) if len(conditions) > 1 else conditions[0],
        batched=False,
    )
