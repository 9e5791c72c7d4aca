"""The state of the model: the table, and what workers, recoverers and pollers know.

Everything is a tuple, so that states can be compared and hashed quickly. A slot stands for a window: the first window
of worker 1 has slot 1, and its second window, of two workers, has slot 3.
"""

from __future__ import annotations

from typing import Final, NamedTuple

# The status of an event item.
PENDING: Final = "P"
PROCESSING: Final = "R"
COMPLETED: Final = "C"
FAILED: Final = "F"
VOID: Final = "V"
TERMINAL: Final = (COMPLETED, FAILED)

NO_WINDOW: Final = -1


class Item(NamedTuple):
    """The item of an event, or the tombstone with its id."""

    status: str
    token: str = ""
    is_listed: bool = False
    """Whether the item is in the index."""
    window: int = NO_WINDOW
    """The slot of the window that it was stored in."""

    @property
    def is_event(self) -> bool:
        """Whether this is an event, and not a tombstone."""
        return self.status != VOID


TOMBSTONE: Final = Item(VOID)


class WindowItem(NamedTuple):
    """A window item in the table."""

    token: str
    start: int
    end: int
    version: int
    lease: int
    """The end of its lease. Every write of the item moves it by one."""


CLOSED: Final = WindowItem("closed", 0, 0, 0, 0)
"""The rest of a recovered window: an item that is in no index."""
HOLDER: Final = "holder"
"""The token of the worker that opened a window."""


class Write(NamedTuple):
    """One conditional write; `target` is an event, or the slot of a window."""

    name: str
    target: int
    token: str = ""
    window: int = NO_WINDOW
    seen: int = 0
    start: int = 0
    end: int = 0
    version: int = 0

    def __str__(self) -> str:
        """Show what tells the write from others."""
        about = f"window {self.target}" if self.name in WINDOW_WRITES else f"event {self.target}"
        scope = f" to [{self.start}, {self.end})" if self.name in {"OPEN", "EXTEND"} else ""
        return f"{self.name} {about}{scope}" + (f" as {self.token}" if self.token else "")


WINDOW_WRITES: Final = frozenset({"OPEN", "EXTEND", "TAKE", "CLOSE", "DELETE"})


class Emit:
    """How far an emit is."""

    NEW: Final = "new"
    SENDING: Final = "sending"
    UNANSWERED: Final = "sending again"
    PUTTING: Final = "putting"
    """It is stored the old way: claimed, and in the index."""
    PUT_UNANSWERED: Final = "putting again"
    RAISED: Final = "raised"
    """The caller knows no more than that the event may be stored."""
    REPEATING: Final = "repeating"
    DONE: Final = "done"


class Entry:
    """The knowledge of a worker about an event in a window."""

    OUT: Final = "out"
    OPEN: Final = "open"
    """Its write is under way, or it is stored and its outcome is not written."""
    UNSURE: Final = "unsure"
    """Its emit has raised an error, and it may be stored."""
    TO_ENTER: Final = "to enter"
    """The event may be stored in no index, and no worker handles it. The worker moves it into the index."""
    STUCK: Final = "stuck"
    """Only without the rule that moves such events."""


class Tracked(NamedTuple):
    """An event, as the worker that emits it knows it."""

    emit: str = Emit.NEW
    attempt: str = ""
    """Empty, HANDLING, or the name of the write of its outcome."""
    entry: str = Entry.OUT
    window: int = NO_WINDOW
    is_acknowledged: bool = False


HANDLING: Final = "handling"


class Keeper(NamedTuple):
    """The window of a worker, as the worker knows it."""

    phase: str
    generation: int = 0
    start: int = 0
    end: int = 0
    version: int = 0
    pending: Write | None = None
    """The EXTEND that is not answered."""
    former: tuple[int, ...] = ()
    """The slots of windows that ended, and are to be deleted when each of their events has an answer."""


class Phase:
    """The phases of the window of a worker."""

    NONE: Final = "none"
    OPENING: Final = "opening"
    HELD: Final = "held"
    CLOSED: Final = "closed"
    """The worker wanted it to end. The numbers of another window may be the same."""
    LOST: Final = "lost"
    """The ids of another window have another seed."""


class Recoverer(NamedTuple):
    """A recoverer at work: the window, the token that it took the window with, and the number that it is at."""

    step: str = "idle"
    window: int = NO_WINDOW
    token: str = ""
    seen: int = 0
    number: int = 0
    end: int = 0


class Poller(NamedTuple):
    """A poller at work: `step` is idle, HANDLING or COMPLETE."""

    step: str = "idle"
    event: int = -1
    token: str = ""


IDLE_RECOVERER: Final = Recoverer()
IDLE_POLLER: Final = Poller()


class Budget(NamedTuple):
    """How often each thing may still happen."""

    unanswered: int = 0
    """Calls without an answer: applied, not applied, or applied at any later time."""
    crashes: int = 0
    slow: int = 0
    """Leases that run out, by the clock of somebody, though their holder lives."""
    outcomes: int = 0
    """Handlers that retry, fail or release, and events without a retry left."""
    renewals: int = 0
    repeats: int = 0
    """Emits that raised, and that the user repeats under the same id."""
    evictions: int = 0
    """Running events that their worker moves into the index."""
    reopenings: int = 0
    """Workers that open another window after the first one ended."""


class State(NamedTuple):
    """Everything: two equal states have the same future."""

    windows: tuple[WindowItem | None, ...]
    items: tuple[Item | None, ...]
    events: tuple[Tracked, ...]
    keepers: tuple[Keeper, ...]
    recoverers: tuple[Recoverer, ...]
    pollers: tuple[Poller, ...]
    alive: tuple[bool, ...]
    late: tuple[Write, ...]
    """Writes that were not answered, and will be applied at some later time."""
    expired: frozenset[str]
    """Leases that ran out though their holder lives; a window stands for the lease of all its events."""
    budget: Budget


def emit_token(event: int) -> str:
    """Return the token that an emit claims an event with."""
    return f"emit-{event}"


def lease_of_window(slot: int) -> str:
    """Return the name of the lease of a window among the expired ones."""
    return f"window-{slot}"


# Changes of one member of the state.


def with_window(state: State, slot: int, window: WindowItem | None) -> State:
    """Return the state with another window item."""
    return state._replace(windows=(*state.windows[:slot], window, *state.windows[slot + 1 :]))


def with_item(state: State, event: int, item: Item) -> State:
    """Return the state with another item of an event."""
    return state._replace(items=(*state.items[:event], item, *state.items[event + 1 :]))


def with_event(state: State, event: int, tracked: Tracked) -> State:
    """Return the state with more known of an event."""
    return state._replace(events=(*state.events[:event], tracked, *state.events[event + 1 :]))


def with_keeper(state: State, worker: int, keeper: Keeper) -> State:
    """Return the state with more known of the window of a worker."""
    return state._replace(keepers=(*state.keepers[:worker], keeper, *state.keepers[worker + 1 :]))


def with_recoverer(state: State, number: int, recoverer: Recoverer) -> State:
    """Return the state with a recoverer that has moved on. Which recoverer is which does not count."""
    others = state.recoverers[:number] + state.recoverers[number + 1 :]
    return state._replace(recoverers=tuple(sorted((*others, recoverer))))


def with_poller(state: State, number: int, poller: Poller) -> State:
    """Return the state with a poller that has moved on. Which poller is which does not count."""
    others = state.pollers[:number] + state.pollers[number + 1 :]
    return state._replace(pollers=tuple(sorted((*others, poller))))
