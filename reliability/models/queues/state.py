"""The state of the model: the items of one key, and what emitters, workers and an operator know.

Everything is a tuple, so that states can be compared and hashed quickly. Events and tokens are numbers. The token 0
means that nobody has a claim.
"""

from __future__ import annotations

from typing import Final, NamedTuple

# The status of an event, and of the queue item.
QUEUED: Final = "QUEUED"
COMPLETED: Final = "COMPLETED"
FAILED: Final = "FAILED"
PENDING: Final = "PENDING"
PROCESSING: Final = "PROCESSING"
TERMINAL: Final = (COMPLETED, FAILED)
NOT_STORED: Final = "NOT STORED"

Ids = tuple[int, ...]
"""Events in order."""
NOBODY: Final = 0
NO_EVENT: Final = -1


class Queue(NamedTuple):
    """The queue item of the key."""

    status: str
    token: int
    lease: int
    """The end of the lease. Each renewal, and each claim under the same token, moves it by one."""
    ids: Ids
    head: Ids | None = None
    """The front part, only in overflow."""
    epoch: int = 0
    """A part of the names of the pages; 0 if there never was a page."""
    first: int = 1
    last: int = 0
    """The numbers of the pages: none if the last comes before the first."""

    @property
    def front(self) -> int:
        """The event at the front."""
        return self.head[0] if self.head else self.ids[0]


class Page(NamedTuple):
    """The item of a page, which never changes."""

    epoch: int
    number: int
    ids: Ids


class Write(NamedTuple):
    """One conditional write, or one transaction."""

    name: str
    ids: Ids = ()
    """The events that it lists, marks or pops."""
    token: int = NOBODY
    """The token that it asks for, or that it claims with."""
    following: int = NOBODY
    """The token with which POP claims the next event; without a token, POP leaves the queue PENDING."""
    form: str = ""
    """How a transaction lists its events: APPEND, SPLIT or SPILL."""
    seen: Ids = ()
    """The list that SPILL moves to a page, or the page that POP REFILL takes."""
    epoch: int = 0
    page: int = 0
    """The last page that SPILL has seen, or the page that POP REFILL takes."""
    lease: int = 0
    """The end of the lease that RECOVER has seen."""
    request: int = 0
    """The ClientRequestToken of TRANSACT."""
    by_operator: bool = False
    of_missing: bool = False
    """Whether POP asks that its event is not stored."""

    def __str__(self) -> str:
        """Show what tells the write from others."""
        form = f" ({self.form})" if self.form else ""
        events = f" {', '.join(map(str, self.ids))}" if self.ids else ""
        seen = f" with {list(self.seen)}" if self.seen else ""
        token = f" as {self.token}" if self.token else ""
        following = f", claiming the next as {self.following}" if self.following else ""
        more = (" of a missing event" if self.of_missing else "") + (" by an operator" if self.by_operator else "")
        return f"{self.name}{form}{events}{seen}{token}{following}{more}"


class Emit:
    """The next step of an emitter."""

    PUT: Final = "put"
    APPEND: Final = "append"
    OVERFLOW: Final = "overflow"
    """SPLIT or SPILL."""
    TRANSACT: Final = "transact"
    LOOK: Final = "look"
    """Read the queue item after a transaction, to find out whether it claimed the queue."""
    DONE: Final = "done"


class Emitter(NamedTuple):
    """How far an emitter is with its script."""

    at: int
    """The position of the emission in the script."""
    step: str
    puts: Ids = ()
    """The events that are still to be put."""
    ids: Ids = ()
    """The events that are to be listed."""
    told: Ids = ()
    """The events that the caller will be told are stored."""
    write: Write | None = None
    """The write that is planned, or that was not answered."""
    is_sure: bool = True
    """Whether every write of the emission was answered, and applied, at once."""


class Work:
    """The next step of a worker."""

    IDLE: Final = "idle"
    RESERVED: Final = "reserved"
    """An emit may claim the queue for it."""
    CLAIM: Final = "claim"
    LOAD: Final = "load"
    START: Final = "start"
    RUN: Final = "run"
    SETTLE: Final = "settle"
    MARK: Final = "mark"
    POP: Final = "pop"
    READ: Final = "read"
    """Read the queue item, because POP was refused or not answered."""
    LOOK: Final = "look"
    """Read the event, which may be over although it blocks the key."""
    LOOK_AT_QUEUE: Final = "look at queue"
    """Read the queue of an event that is over."""
    UNBLOCK: Final = "unblock"
    """Pop an event that is over, and blocks the key."""


class Worker(NamedTuple):
    """A worker, with its claim and what it knows of the front."""

    step: str
    token: int = NOBODY
    event: int = NO_EVENT
    form: str = ""
    """The form of POP that fits the queue item as the worker knows it."""
    epoch: int = 0
    page: int = 0
    """The page that POP REFILL is to take."""
    outcome: str = ""
    following: int = NOBODY
    """The token of a POP that was not answered; or that of a queue that is to be unblocked."""
    ahead: str = ""
    """The status of the next event, read while the handler of this one runs."""
    next_event: int = NO_EVENT


IDLE: Final = Worker(Work.IDLE)


class Operator(NamedTuple):
    """An operator who skips a blocked event with two writes."""

    step: str = "idle"
    event: int = NO_EVENT
    token: int = NOBODY


IDLE_OPERATOR: Final = Operator()


class Budget(NamedTuple):
    """How often each thing may still happen."""

    unanswered: int = 0
    """Calls without an answer: applied, not applied, or applied at any later time."""
    crashes: int = 0
    slow: int = 0
    """Leases that run out though their holder lives."""
    retries: int = 0
    """Handlers that retry or release."""
    failures: int = 0
    """Handlers that fail for good."""
    skips: int = 0
    requeues: int = 0
    renewals: int = 0
    cancels: int = 0
    """Callers of an emit that give up, while its write goes on and is applied later."""
    deletions: int = 0
    """Events that another program deletes while they wait, before their handlers start."""


class State(NamedTuple):
    """Everything: two equal states have the same future."""

    queue: Queue | None
    pages: tuple[Page, ...]
    events: tuple[str | None, ...]
    emitters: tuple[Emitter, ...]
    workers: tuple[Worker, ...]
    operator: Operator
    late: tuple[Write, ...]
    """Writes that were not answered, and will be applied at some later time."""
    committed: frozenset[int]
    """The ClientRequestTokens that DynamoDB remembers."""
    expired: frozenset[int]
    """The tokens of leases that ran out though their holder lives."""
    budget: Budget
    # Only the properties know the rest.
    order: Ids
    """The order in which events were listed first."""
    started: frozenset[int]
    acknowledged: frozenset[int]
    written: tuple[int, ...]
    """How often the writes of the transaction that emits an event were applied, by event."""


# Changes of one member of the state.


def with_event(state: State, event: int, status: str | None) -> State:
    """Return the state with another status of an event."""
    return state._replace(events=(*state.events[:event], status, *state.events[event + 1 :]))


def with_emitter(state: State, me: int, emitter: Emitter) -> State:
    """Return the state with an emitter that has moved on."""
    return state._replace(emitters=(*state.emitters[:me], emitter, *state.emitters[me + 1 :]))


def listed(state: State) -> Ids:
    """Return the whole queue, from its front to its end."""
    queue = state.queue
    if queue is None:
        return ()
    pages = {(page.epoch, page.number): page.ids for page in state.pages}
    numbers = range(queue.first, queue.last + 1)
    middle = tuple(event for number in numbers for event in pages.get((queue.epoch, number), ()))
    return (*(queue.head or ()), *middle, *queue.ids)
