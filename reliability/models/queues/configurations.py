"""The small configurations, which are explored every day. The mutants are found in them."""

from __future__ import annotations

from typing import Final

from reliability.models.queues.configuration import Configuration, emits, in_transaction, together
from reliability.models.queues.state import Budget
from reliability.models.queues.world import Emission
from reliability.models.suite import Size

_ONE: Final = (emits(0),)
_TWO: Final = (emits(0), emits(1))
_IN_A_ROW: Final = (emits(0, 1),)
_THREE_IN_A_ROW: Final = (emits(0, 1, 2),)
_TWO_AND_ONE: Final = (emits(0, 1), emits(2))

# One event
UNANSWERED: Final = Configuration(
    name="1 event: 1 call unanswered",
    scripts=_ONE,
    budget=Budget(unanswered=1),
)
CRASH: Final = Configuration(
    name="1 event: 1 crash",
    scripts=_ONE,
    budget=Budget(crashes=1),
)
RETRIED: Final = Configuration(
    name="1 event: slow, retried or released",
    scripts=_ONE,
    budget=Budget(slow=1, retries=1),
)
RENEWED: Final = Configuration(
    name="1 event: slow, renewed, 1 call unanswered",
    scripts=_ONE,
    budget=Budget(unanswered=1, slow=1, renewals=1),
)
FAILED: Final = Configuration(
    name="1 event: slow, failed, redriven",
    scripts=_ONE,
    budget=Budget(slow=1, failures=1),
)
SKIPPED: Final = Configuration(
    name="1 event: failed twice, skipped and requeued, 1 call unanswered",
    scripts=_ONE,
    budget=Budget(unanswered=1, failures=2, skips=1, requeues=1),
    workers=1,
    emits_claim=False,
)
POPPED: Final = Configuration(
    name="1 event: slow, failed, popped and requeued",
    scripts=_ONE,
    budget=Budget(slow=1, failures=1, requeues=1),
    failed_key="skip",
)
REQUEUED: Final = Configuration(
    name="1 event: failed, popped and requeued twice, 1 call unanswered",
    scripts=_ONE,
    budget=Budget(unanswered=1, failures=1, requeues=2),
    failed_key="skip",
    workers=1,
    emits_claim=False,
)

DELETED: Final = Configuration(
    name="1 event: deleted, and emitted again",
    scripts=(emits(0), emits(0)),
    budget=Budget(deletions=1),
)

# Lists with room for all
IN_A_ROW: Final = Configuration(
    name="2 events in a row, with room",
    scripts=_IN_A_ROW,
    budget=Budget(),
    room=2,
    emits_claim=False,
)
TWO: Final = Configuration(
    name="2 emitters, with room",
    scripts=_TWO,
    budget=Budget(),
    room=2,
)
GIVEN_UP: Final = Configuration(
    name="2 emitters, with room: 1 caller gives up",
    scripts=_TWO,
    budget=Budget(cancels=1),
    room=2,
)
SLOW_CRASH: Final = Configuration(
    name="2 emitters, with room: slow, 1 crash",
    scripts=_TWO,
    budget=Budget(crashes=1, slow=1),
    room=2,
)
TOGETHER: Final = Configuration(
    name="2 events with one APPEND: slow, 1 call unanswered",
    scripts=(together(0, 1),),
    budget=Budget(unanswered=1, slow=1),
    room=2,
)
AHEAD: Final = Configuration(
    name="3 events in a row, loaded ahead, room for 2: slow",
    scripts=_THREE_IN_A_ROW,
    budget=Budget(slow=1),
    room=2,
    emits_claim=False,
    loads_ahead=True,
)

# One id, emitted by several
SAME_ID: Final = Configuration(
    name="2 emitters of one id, with room",
    scripts=(emits(0), emits(0, 1)),
    budget=Budget(),
    room=2,
)
SAME_ID_AGAIN: Final = Configuration(
    name="an emit, and a transaction with the same id: 1 crash",
    scripts=(emits(0), in_transaction(0)),
    budget=Budget(crashes=1),
)
TRANSACTION: Final = Configuration(
    name="a transaction: 1 crash",
    scripts=(in_transaction(0),),
    budget=Budget(crashes=1),
)

# Overflow
OVERFLOW: Final = Configuration(
    name="3 events in a row",
    scripts=_THREE_IN_A_ROW,
    budget=Budget(),
    emits_claim=False,
)
OVERFLOW_UNANSWERED: Final = Configuration(
    name="3 events in a row: 1 call unanswered",
    scripts=_THREE_IN_A_ROW,
    budget=Budget(unanswered=1),
    workers=1,
    emits_claim=False,
)
SPLIT_RACE: Final = Configuration(
    name="2 and 1 events",
    scripts=_TWO_AND_ONE,
    budget=Budget(),
    emits_claim=False,
)
SPILL_RACE: Final = Configuration(
    name="2 and 2 events",
    scripts=(emits(0, 1), emits(2, 3)),
    budget=Budget(),
    workers=1,
    emits_claim=False,
)
SLOW: Final = Configuration(
    name="2 emitters: slow",
    scripts=_TWO,
    budget=Budget(slow=1),
)
LISTED_TWICE: Final = Configuration(
    name="3 events in a row, and another emitter of one of them: 1 call unanswered",
    scripts=(emits(0, 1, 2), emits(1)),
    budget=Budget(unanswered=1),
    size=Size.LARGE,
    workers=1,
    emits_claim=False,
)

_OTHERS: Final = (
    Configuration(
        name="2 emitters: 1 call unanswered",
        scripts=_TWO,
        budget=Budget(unanswered=1),
    ),
    Configuration(
        name="2 emitters: 1 caller gives up",
        scripts=_TWO,
        budget=Budget(cancels=1),
    ),
    Configuration(
        name="2 emitters, with room: slow, retried or released",
        scripts=_TWO,
        budget=Budget(slow=1, retries=1),
        room=2,
    ),
    Configuration(
        name="2 emitters, with room: retried or released, 1 crash",
        scripts=_TWO,
        budget=Budget(crashes=1, retries=1),
        room=2,
    ),
    Configuration(
        name="2 emitters, with room: failed, popped and requeued, 1 crash",
        scripts=_TWO,
        budget=Budget(crashes=1, failures=1, requeues=1),
        room=2,
        failed_key="skip",
    ),
    Configuration(
        name="2 emitters, with room: failed and popped, 1 call unanswered",
        scripts=_TWO,
        budget=Budget(unanswered=1, failures=1),
        room=2,
        failed_key="skip",
        emits_claim=False,
    ),
    Configuration(
        name="2 emitters: slow, failed",
        scripts=_TWO,
        budget=Budget(slow=1, failures=1),
        emits_claim=False,
    ),
    Configuration(
        name="2 emitters of one id: 1 crash",
        scripts=(emits(0), emits(0, 1)),
        budget=Budget(crashes=1),
    ),
    Configuration(
        name="an emit of one event, and 2 events with one APPEND, with room: 1 call unanswered",
        scripts=(emits(1), together(0, 1)),
        budget=Budget(unanswered=1),
        room=2,
        workers=1,
    ),
    Configuration(
        name="an emit, and a transaction of 2 events with the same id, with room: 1 crash",
        scripts=(emits(1), in_transaction(0, 1)),
        budget=Budget(crashes=1),
        room=2,
    ),
    Configuration(
        name="2 transactions with the same id, with room: 1 call unanswered",
        scripts=(in_transaction(0), in_transaction(0, 1)),
        budget=Budget(unanswered=1),
        room=2,
    ),
    Configuration(
        name="2 and 2 events, each with one APPEND, room for 2: 1 crash",
        scripts=((Emission((0, 1)), Emission((2, 3))),),
        budget=Budget(crashes=1),
        room=2,
        workers=1,
    ),
    Configuration(
        name="2 events in a row, with room: 1 deleted, and emitted again, 1 call unanswered",
        scripts=(emits(0, 1), emits(0)),
        budget=Budget(unanswered=1, deletions=1),
        room=2,
        workers=1,
        emits_claim=False,
    ),
    Configuration(
        name="3 events in a row, 1 deleted twice, and emitted again",
        scripts=(emits(0, 1, 2), emits(1, 1)),
        budget=Budget(deletions=2),
        workers=1,
        emits_claim=False,
    ),
    Configuration(
        name="3 events in a row: 1 crash",
        scripts=_THREE_IN_A_ROW,
        budget=Budget(crashes=1),
    ),
)

SMALL: Final = (
    UNANSWERED,
    CRASH,
    RETRIED,
    RENEWED,
    FAILED,
    SKIPPED,
    POPPED,
    REQUEUED,
    DELETED,
    IN_A_ROW,
    TWO,
    GIVEN_UP,
    SLOW_CRASH,
    TOGETHER,
    AHEAD,
    SAME_ID,
    SAME_ID_AGAIN,
    TRANSACTION,
    OVERFLOW,
    OVERFLOW_UNANSWERED,
    SPLIT_RACE,
    SPILL_RACE,
    SLOW,
    *_OTHERS,
)
