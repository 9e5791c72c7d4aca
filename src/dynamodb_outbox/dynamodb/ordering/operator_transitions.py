"""The transitions of a queue that an operator causes, and of events that leave the line or come back.

No worker holds the queue. Each is refused unless the queue is as it was read: the status and the sort key change with
every transition. `pop(form, keeps=False, by_operator=True)` in `transitions.py` belongs to them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from dynamodb_outbox.dynamodb.conditional.repair_transitions import IS_SEEN
from dynamodb_outbox.dynamodb.conditional.transitions import Transition
from dynamodb_outbox.dynamodb.ordering.transitions import DUE_FOR_ALL, OF_THE_CLAIM, OF_THE_FRONT

IS_FRONT: Final = "((attribute_not_exists(head) AND ids[0] = :front) OR head[0] = :front)"
"""The condition that an event is at the front of a queue."""
# A queue always has a token; see `NewQueue`. The handlers that succeeded do not run again, as after a REDRIVE.
RETRY_FRONT: Final = Transition(
    name="retry the front",
    set=(*DUE_FOR_ALL, "retryCount = :zero"),
    remove=("unhandledSince",),
    condition=f"{IS_SEEN} AND {IS_FRONT}",
    batched=False,
)
# For a queue that cannot be read, and so has no front.
RETRY_QUEUE: Final = Transition(
    name="retry a queue", set=RETRY_FRONT.set, remove=RETRY_FRONT.remove, condition=IS_SEEN, batched=False
)
# An event that was set aside, and comes back to its line. In one transaction with an append.
RETURN_TO_LINE: Final = Transition(
    name="return to the line",
    set=("status = :QUEUED", "retryCount = :zero"),
    remove=("gsiSortKey", "unhandledSince"),
    condition=f"{IS_SEEN} AND orderingKey = :key",
    batched=False,
)


@lru_cache(maxsize=2)
def substitute(*, in_head: bool) -> Transition:
    """Return the transition that puts another event into the place of the front.

    Its condition says where the front is, since an emit may have moved it to the head without a change of the status.
    """
    place = "head[0]" if in_head else "ids[0]"
    is_there = f"{place} = :front" if in_head else f"{place} = :front AND attribute_not_exists(head)"
    return Transition(
        name="substitute the front",
        set=(*DUE_FOR_ALL, "retryCount = :zero", f"{place} = :replacement"),
        remove=(*OF_THE_FRONT, *OF_THE_CLAIM),
        condition=f"{IS_SEEN} AND {is_there}",
        batched=False,
    )
