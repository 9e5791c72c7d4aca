"""The large configurations, and the configurations that only random walks go through."""

from __future__ import annotations

from typing import Final

from reliability.models.queues.configuration import Configuration, emits, in_transaction, together
from reliability.models.queues.configurations import LISTED_TWICE
from reliability.models.queues.state import Budget
from reliability.models.suite import Size

_TWO: Final = (emits(0), emits(1))
_TWO_AND_ONE: Final = (emits(0, 1), emits(2))

LARGE: Final = (
    LISTED_TWICE,
    Configuration(
        name="1 event: deleted, and emitted again twice, slow, 1 call unanswered",
        scripts=(emits(0), emits(0, 0)),
        budget=Budget(unanswered=1, slow=1, deletions=1),
        size=Size.LARGE,
    ),
    Configuration(
        name="3 events in a row: 1 deleted, and emitted again, 1 crash",
        scripts=(emits(0, 1, 2), emits(1)),
        budget=Budget(crashes=1, deletions=1),
        size=Size.LARGE,
    ),
    Configuration(
        name="2 emitters: 1 call unanswered, 1 crash",
        scripts=_TWO,
        budget=Budget(unanswered=1, crashes=1),
        size=Size.LARGE,
    ),
    Configuration(
        name="2 emitters: 2 calls unanswered",
        scripts=_TWO,
        budget=Budget(unanswered=2),
        size=Size.LARGE,
    ),
    Configuration(
        name="2 emitters: slow, 1 call unanswered",
        scripts=_TWO,
        budget=Budget(unanswered=1, slow=1),
        size=Size.LARGE,
    ),
    Configuration(
        name="2 emitters: slow, 1 caller gives up",
        scripts=_TWO,
        budget=Budget(slow=1, cancels=1),
        size=Size.LARGE,
    ),
    Configuration(
        name="2 emitters: slow twice",
        scripts=_TWO,
        budget=Budget(slow=2),
        size=Size.LARGE,
    ),
    Configuration(
        name="2 emitters: 2 calls unanswered, 1 crash",
        scripts=_TWO,
        budget=Budget(unanswered=2, crashes=1),
        size=Size.LARGE,
        emitters_repeat=False,
    ),
    Configuration(
        name="2 emitters, with room: 2 callers give up",
        scripts=_TWO,
        budget=Budget(cancels=2),
        size=Size.LARGE,
        room=2,
    ),
    Configuration(
        name="2 emitters, with room: 1 call unanswered, 2 crashes",
        scripts=_TWO,
        budget=Budget(unanswered=1, crashes=2),
        size=Size.LARGE,
        room=2,
    ),
    Configuration(
        name="2 emitters, with room: slow, 1 call unanswered, 1 crash",
        scripts=_TWO,
        budget=Budget(unanswered=1, crashes=1, slow=1),
        size=Size.LARGE,
        room=2,
    ),
    Configuration(
        name="2 emitters, with room: slow, renewed, 1 call unanswered",
        scripts=_TWO,
        budget=Budget(unanswered=1, slow=1, renewals=1),
        size=Size.LARGE,
        room=2,
    ),
    Configuration(
        name="2 emitters, with room: slow, failed, redriven or skipped",
        scripts=_TWO,
        budget=Budget(slow=1, failures=1, skips=1),
        size=Size.LARGE,
        room=2,
    ),
    Configuration(
        name="3 emitters and 3 workers: 1 call unanswered",
        scripts=(emits(0), emits(1), emits(2)),
        budget=Budget(unanswered=1),
        size=Size.LARGE,
        workers=3,
        emits_claim=False,
        emitters_repeat=False,
    ),
    Configuration(
        name="2 events in a row: failed twice, skipped and requeued, 1 call unanswered",
        scripts=(emits(0, 1),),
        budget=Budget(unanswered=1, failures=2, skips=1, requeues=1),
        size=Size.LARGE,
        workers=1,
        emits_claim=False,
    ),
    Configuration(
        name="2 events in a row: slow, failed, popped and requeued, 1 caller gives up",
        scripts=(emits(0, 1),),
        budget=Budget(slow=1, failures=1, requeues=1, cancels=1),
        size=Size.LARGE,
        emits_claim=False,
        failed_key="skip",
    ),
    Configuration(
        name="3 events in a row: 2 calls unanswered",
        scripts=(emits(0, 1, 2),),
        budget=Budget(unanswered=2),
        size=Size.LARGE,
        workers=1,
        emits_claim=False,
    ),
    Configuration(
        name="4 events in a row: 1 call unanswered",
        scripts=(emits(0, 1, 2, 3),),
        budget=Budget(unanswered=1),
        size=Size.LARGE,
        workers=1,
        emits_claim=False,
    ),
    Configuration(
        name="4 events in a row, loaded ahead, room for 2: 1 call unanswered",
        scripts=(emits(0, 1, 2, 3),),
        budget=Budget(unanswered=1),
        size=Size.LARGE,
        workers=1,
        room=2,
        emits_claim=False,
        loads_ahead=True,
    ),
    Configuration(
        name="5 events in a row: 1 crash",
        scripts=(emits(0, 1, 2, 3, 4),),
        budget=Budget(crashes=1),
        size=Size.LARGE,
    ),
    Configuration(
        name="2 and 1 events: slow, no emit claims",
        scripts=_TWO_AND_ONE,
        budget=Budget(slow=1),
        size=Size.LARGE,
        emits_claim=False,
    ),
    Configuration(
        name="2 and 1 events: 1 call unanswered",
        scripts=_TWO_AND_ONE,
        budget=Budget(unanswered=1),
        size=Size.LARGE,
    ),
    Configuration(
        name="2 and 1 events: slow, 1 crash",
        scripts=_TWO_AND_ONE,
        budget=Budget(crashes=1, slow=1),
        size=Size.LARGE,
    ),
    Configuration(
        name="4 and 2 events, 2 with each APPEND, room for 3: slow",
        scripts=((*together(0, 1), *together(2, 3)), together(4, 5)),
        budget=Budget(slow=1),
        size=Size.LARGE,
        room=3,
        emits_claim=False,
    ),
    Configuration(
        name="2 emitters of one id, with room: slow, 1 call unanswered",
        scripts=(emits(0), emits(0, 1)),
        budget=Budget(unanswered=1, slow=1),
        size=Size.LARGE,
        room=2,
    ),
    Configuration(
        name="an emit, and a transaction with the same id: 1 call unanswered, 1 crash",
        scripts=(emits(0), in_transaction(0)),
        budget=Budget(unanswered=1, crashes=1),
        size=Size.LARGE,
    ),
    Configuration(
        name="2 events in a row, and a transaction with the id of one of them, room for 2: slow, 1 crash",
        scripts=(emits(1, 0), in_transaction(0, 2)),
        budget=Budget(crashes=1, slow=1),
        size=Size.LARGE,
        room=2,
    ),
    Configuration(
        name="2 events in a row, and a transaction: 1 call unanswered",
        scripts=(emits(0, 1), in_transaction(2)),
        budget=Budget(unanswered=1),
        size=Size.LARGE,
        workers=1,
        emits_claim=False,
    ),
)

_SINGLE: Final = (
    emits(0, 1, 2, 3),
    emits(4, 5, 6, 1),
    (*in_transaction(7), *emits(8), *in_transaction(0), *emits(9)),
)
_PAIRS: Final = (
    emits(0, 1, 2, 3),
    (*emits(4), *together(5, 6), *emits(1)),
    (*in_transaction(7), *emits(8), *in_transaction(9, 0)),
)
_MANY_FAULTS: Final = Budget(
    unanswered=5, crashes=3, slow=3, retries=3, failures=2, skips=1, requeues=2, renewals=2, cancels=2
)


def _walked(*, room: int, failed_key: str) -> Configuration:
    return Configuration(
        name=f"10 events, 3 emitters and 3 workers, room for {room}, a failed event: {failed_key}",
        scripts=_SINGLE if room == 1 else _PAIRS,
        budget=_MANY_FAULTS,
        size=Size.ENDLESS,
        workers=3,
        room=room,
        failed_key=failed_key,
        loads_ahead=True,
    )


WALKED: Final = tuple(
    _walked(room=room, failed_key=failed_key) for room in (1, 2, 3) for failed_key in ("block", "skip")
)
"""Too large to be explored: random walks go through them."""
