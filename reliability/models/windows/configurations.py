"""The configurations to explore: the number of events and workers, and the faults that may happen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from reliability.models.suite import Size
from reliability.models.windows.model import WindowModel
from reliability.models.windows.rules import rules_without
from reliability.models.windows.state import Budget
from reliability.models.windows.world import World


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """A world to explore. `World` describes the fields."""

    name: str
    emits: tuple[tuple[int, ...], ...]
    budget: Budget
    size: Size = Size.SMALL
    length: int = 1
    share_ids: bool = False
    recoverers: int = 2
    pollers: int = 2

    def model(self, without: tuple[str, ...] = ()) -> WindowModel:
        """Make the model, perhaps without some of the rules."""
        world = World(
            self.emits,
            self.budget,
            length=self.length,
            share_ids=self.share_ids,
            recoverers=self.recoverers,
            pollers=self.pollers,
            rules=rules_without(without),
        )
        return WindowModel(world)


_ONE_EVENT: Final = ((0,),)
_TWO_EVENTS: Final = ((0, 1),)
_THREE_EVENTS: Final = ((0, 1, 2),)
_TWO_WORKERS: Final = ((0,), (0,))
_TWO_OUTBOXES: Final = ((0,), (1,))

# The mutants are found in these.
UNANSWERED: Final = Configuration(
    name="1 event: 1 call unanswered, repeated by the user",
    emits=_ONE_EVENT,
    budget=Budget(unanswered=1, repeats=1),
)
SLOW: Final = Configuration(
    name="1 event: slow twice",
    emits=_ONE_EVENT,
    budget=Budget(slow=2),
)
RENEWED: Final = Configuration(
    name="1 event: slow, renewed",
    emits=_ONE_EVENT,
    budget=Budget(slow=1, renewals=1),
)
OUTCOMES: Final = Configuration(
    name="1 event: slow, evicted, retried or failed",
    emits=_ONE_EVENT,
    budget=Budget(slow=1, outcomes=1, evictions=1),
)
CRASH: Final = Configuration(
    name="1 event: 1 crash, slow, repeated by the user",
    emits=_ONE_EVENT,
    budget=Budget(crashes=1, slow=1, repeats=1),
)
LATE: Final = Configuration(
    name="1 event: 1 call unanswered, slow, renewed",
    emits=_ONE_EVENT,
    budget=Budget(unanswered=1, slow=1, renewals=1),
    recoverers=1,
    pollers=1,
    size=Size.LARGE,
)
GROWS: Final = Configuration(
    name="2 events, the window grows: 1 crash",
    emits=_TWO_EVENTS,
    budget=Budget(crashes=1),
)
GROWS_UNANSWERED: Final = Configuration(
    name="2 events, the window grows: 1 call unanswered, renewed",
    emits=_TWO_EVENTS,
    budget=Budget(unanswered=1, renewals=1),
    size=Size.LARGE,
)
ANOTHER: Final = Configuration(
    name="2 events: slow, the window ends and another one opens",
    emits=_TWO_EVENTS,
    budget=Budget(slow=1, reopenings=1),
    size=Size.LARGE,
)
TWO_OUTBOXES: Final = Configuration(
    name="2 outboxes of one process, with ids of one seed: slow",
    emits=_TWO_OUTBOXES,
    budget=Budget(slow=1),
    length=2,
    share_ids=True,
    size=Size.LARGE,
)

_LARGE: Final = (
    Configuration(
        name="1 event: 2 calls unanswered, 1 crash, repeated by the user",
        emits=_ONE_EVENT,
        budget=Budget(unanswered=2, crashes=1, repeats=1),
        size=Size.LARGE,
    ),
    Configuration(
        name="1 event: 1 call unanswered, slow twice, retried or failed, renewed",
        emits=_ONE_EVENT,
        budget=Budget(unanswered=1, slow=2, outcomes=1, renewals=1),
        size=Size.LARGE,
    ),
    Configuration(
        name="1 event: 1 call unanswered, slow, 1 crash, repeated by the user",
        emits=_ONE_EVENT,
        budget=Budget(unanswered=1, crashes=1, slow=1, repeats=1),
        size=Size.LARGE,
    ),
    Configuration(
        name="1 event: 1 call unanswered, slow, 1 crash, evicted, renewed",
        emits=_ONE_EVENT,
        budget=Budget(unanswered=1, crashes=1, slow=1, evictions=1, renewals=1),
        size=Size.LARGE,
    ),
    Configuration(
        name="2 events, the window grows: 1 call unanswered, renewed, repeated by the user",
        emits=_TWO_EVENTS,
        budget=Budget(unanswered=1, renewals=1, repeats=1),
        size=Size.LARGE,
    ),
    Configuration(
        name="2 events, the window grows: 1 crash, slow",
        emits=_TWO_EVENTS,
        budget=Budget(crashes=1, slow=1),
        size=Size.LARGE,
    ),
    Configuration(
        name="2 events, the window grows: 1 call unanswered, 1 crash",
        emits=_TWO_EVENTS,
        budget=Budget(unanswered=1, crashes=1),
        size=Size.LARGE,
    ),
    Configuration(
        name="2 events: slow, retried or failed, evicted",
        emits=_TWO_EVENTS,
        budget=Budget(slow=1, outcomes=1, evictions=1),
        size=Size.LARGE,
    ),
    Configuration(
        name="2 events: 1 call unanswered, slow",
        emits=_TWO_EVENTS,
        budget=Budget(unanswered=1, slow=1),
        size=Size.LARGE,
    ),
    Configuration(
        name="2 events, a window for both: 1 call unanswered, 1 crash, repeated by the user",
        emits=_TWO_EVENTS,
        budget=Budget(unanswered=1, crashes=1, repeats=1),
        length=2,
        size=Size.LARGE,
    ),
    Configuration(
        name="2 events: slow, 1 crash, renewed, the window ends and another one opens",
        emits=_TWO_EVENTS,
        budget=Budget(crashes=1, slow=1, renewals=1, reopenings=1),
        size=Size.LARGE,
    ),
    Configuration(
        name="2 events: slow twice, the window ends and another one opens",
        emits=_TWO_EVENTS,
        budget=Budget(slow=2, reopenings=1),
        size=Size.LARGE,
    ),
    Configuration(
        name="2 events: 1 call unanswered, the window ends and another one opens",
        emits=_TWO_EVENTS,
        budget=Budget(unanswered=1, reopenings=1),
        size=Size.LARGE,
    ),
    Configuration(
        name="3 events, the window grows twice: 1 crash",
        emits=_THREE_EVENTS,
        budget=Budget(crashes=1),
        size=Size.LARGE,
    ),
    Configuration(
        name="2 workers: 1 call unanswered",
        emits=_TWO_WORKERS,
        budget=Budget(unanswered=1),
        size=Size.LARGE,
    ),
    Configuration(
        name="2 workers: 1 crash, slow",
        emits=_TWO_WORKERS,
        budget=Budget(crashes=1, slow=1),
        size=Size.LARGE,
    ),
    Configuration(
        name="2 outboxes of one process, with ids of one seed: 1 call unanswered",
        emits=_TWO_OUTBOXES,
        budget=Budget(unanswered=1),
        length=2,
        share_ids=True,
        size=Size.LARGE,
    ),
)

SMALL: Final = (UNANSWERED, SLOW, RENEWED, OUTCOMES, CRASH, GROWS)
PARTLY: Final = (LATE, GROWS_UNANSWERED, ANOTHER, TWO_OUTBOXES)
"""Some mutants are found in these before many states are explored. To explore all states takes minutes."""
CONFIGURATIONS: Final = (*SMALL, *PARTLY, *_LARGE)

WALKED: Final = (
    Configuration(
        name="6 events, 2 workers",
        emits=((0, 1, 2), (0, 1, 2)),
        budget=Budget(unanswered=4, crashes=1, slow=3, outcomes=2, renewals=3, repeats=2, evictions=2, reopenings=1),
        size=Size.ENDLESS,
    ),
    Configuration(
        name="6 events, 2 outboxes of one process, windows of 2 events",
        emits=((0, 2, 4), (1, 3, 5)),
        budget=Budget(unanswered=5, crashes=2, slow=3, outcomes=2, renewals=3, repeats=2, evictions=1, reopenings=2),
        length=2,
        share_ids=True,
        recoverers=3,
        pollers=3,
        size=Size.ENDLESS,
    ),
)
"""Too large to be explored: random walks go through them."""
