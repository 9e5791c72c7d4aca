"""How a worker emits, handles and settles an event, and what it does about events without an answer."""

from __future__ import annotations

from collections.abc import Iterator

from reliability.models.calling import Answer
from reliability.models.exploring import Step
from reliability.models.windows.calls import call, enter
from reliability.models.windows.keeping import entry_after_loss
from reliability.models.windows.state import (
    HANDLING,
    PROCESSING,
    Emit,
    Entry,
    Phase,
    State,
    Tracked,
    Write,
    emit_token,
    with_event,
)
from reliability.models.windows.world import World

COMPLETE = "COMPLETE"
OTHER_OUTCOMES = ("RETRY", "RELEASE", "FAIL")


def steps_of_events(world: World, state: State) -> Iterator[Step[State]]:
    """List what may happen to events at the workers that emit them."""
    for event, tracked in enumerate(state.events):
        yield from _repeat(world, state, event, tracked)
        if not state.alive[world.worker_of[event]]:
            continue
        yield from _emit(world, state, event, tracked)
        if tracked.attempt:
            yield from _attempt(world, state, event, tracked)
        if tracked.entry == Entry.UNSURE:
            yield from _void(world, state, event, tracked)
        elif tracked.entry == Entry.TO_ENTER:
            yield from _enter(world, state, event, tracked)


# Emit


def _emit(world: World, state: State, event: int, tracked: Tracked) -> Iterator[Step[State]]:
    match tracked.emit:
        case Emit.NEW:
            yield _begin(world, state, event, tracked)
        case Emit.SENDING | Emit.UNANSWERED:
            yield from _insert(world, state, event, tracked)
        case Emit.PUTTING | Emit.PUT_UNANSWERED:
            yield from _put(world, state, event, tracked)
        case _:
            pass


def _begin(world: World, state: State, event: int, tracked: Tracked) -> Step[State]:
    worker = world.worker_of[event]
    keeper = state.keepers[worker]
    start = keeper.start if world.rules.numbers_below_the_start_are_unused else 0
    if keeper.phase == Phase.HELD and start <= world.number_of[event] < keeper.end:
        slot = world.slot_of(worker, keeper)
        entered = tracked._replace(emit=Emit.SENDING, entry=Entry.OPEN, window=slot)
        return Step(("event", event, "is emitted in window", slot), with_event(state, event, entered))
    put = tracked._replace(emit=Emit.PUTTING)
    return Step(("event", event, "is emitted, outside of any window"), with_event(state, event, put))


def _insert(world: World, state: State, event: int, tracked: Tracked) -> Iterator[Step[State]]:
    token = emit_token(event)
    write = Write("INSERT", event, token, window=tracked.window)

    def then(state: State, answer: Answer) -> State:
        if answer is Answer.NONE:
            return with_event(state, event, tracked._replace(emit=Emit.UNANSWERED))
        stored = state.items[event]
        is_void = stored is not None and not stored.is_event
        if is_void and world.rules.refused_inserts_are_compared:
            return with_event(state, event, tracked._replace(emit=Emit.PUTTING, entry=Entry.OUT))
        is_ours = stored is not None and stored.token == token and not stored.is_listed
        done = tracked._replace(emit=Emit.DONE, is_acknowledged=True)
        if stored is None or not is_ours or stored.status != PROCESSING:
            # A recovery has moved it into the index: it is stored, and not for this worker to handle.
            return with_event(state, event, done._replace(entry=Entry.OUT))
        if world.is_current(state, tracked.window):
            return with_event(state, event, done._replace(attempt=HANDLING))
        return with_event(state, event, done._replace(entry=entry_after_loss(world, "")))

    yield from call(world, state, write, then)
    if tracked.emit == Emit.UNANSWERED:
        rules = world.rules
        unsure = Entry.UNSURE if rules.unsure_inserts_get_a_tombstone else Entry.TO_ENTER
        raised = tracked._replace(emit=Emit.RAISED, entry=unsure if rules.unsure_inserts_stay_open else Entry.OUT)
        yield Step(("the emit of event", event, "raises: it may be stored"), with_event(state, event, raised))


def _put(world: World, state: State, event: int, tracked: Tracked) -> Iterator[Step[State]]:
    """Store an event the old way: in the index, claimed by its worker. It may take the place of a tombstone."""
    token = emit_token(event)

    def then(state: State, answer: Answer) -> State:
        if answer is Answer.NONE:
            return with_event(state, event, tracked._replace(emit=Emit.PUT_UNANSWERED))
        stored = state.items[event]
        is_ours = stored is not None and stored.token == token
        done = tracked._replace(emit=Emit.DONE, attempt=HANDLING if is_ours else "", is_acknowledged=True)
        return with_event(state, event, done)

    yield from call(world, state, Write("PUT", event, token), then)
    if tracked.emit == Emit.PUT_UNANSWERED:
        raised = with_event(state, event, tracked._replace(emit=Emit.RAISED))
        following = raised._replace(expired=state.expired - {token})
        yield Step(("the emit of event", event, "raises: it may be stored"), following)


def _repeat(world: World, state: State, event: int, tracked: Tracked) -> Iterator[Step[State]]:
    """Emit an event again that may be stored: from any process, and never in a window."""
    if tracked.emit == Emit.RAISED and state.budget.repeats:
        budget = state.budget._replace(repeats=state.budget.repeats - 1)
        repeating = with_event(state, event, tracked._replace(emit=Emit.REPEATING))
        yield Step(("the user emits event", event, "again"), repeating._replace(budget=budget))
    elif tracked.emit == Emit.REPEATING:

        def then(state: State, answer: Answer) -> State:
            if answer is Answer.NONE:
                return state
            # Refused: `DuplicateEventError` says that the event is stored.
            now = state.events[event]
            return with_event(state, event, now._replace(emit=Emit.DONE, is_acknowledged=True))

        yield from call(world, state, Write("PUT PENDING", event), then)


# Handle and settle


def _attempt(world: World, state: State, event: int, tracked: Tracked) -> Iterator[Step[State]]:
    if tracked.attempt == HANDLING:
        yield from _handle(state, event, tracked)
    else:
        yield from _settle(world, state, event, tracked)
    if tracked.entry == Entry.OPEN and state.budget.evictions:
        yield from _evict(world, state, event, tracked)


def _handle(state: State, event: int, tracked: Tracked) -> Iterator[Step[State]]:
    complete = with_event(state, event, tracked._replace(attempt=COMPLETE))
    yield Step(("the handler of event", event, "succeeds"), complete)
    if state.budget.outcomes:
        budget = state.budget._replace(outcomes=state.budget.outcomes - 1)
        for outcome in OTHER_OUTCOMES:
            other = with_event(state, event, tracked._replace(attempt=outcome))
            yield Step(("the handler of event", event, "is to", outcome), other._replace(budget=budget))


def _evict(world: World, state: State, event: int, tracked: Tracked) -> Iterator[Step[State]]:
    """Move a running event into the index, because it holds the start of the window back."""

    def then(state: State, answer: Answer) -> State:
        if answer is Answer.NONE:
            return state
        is_cancelled = answer is Answer.REFUSED and tracked.attempt == HANDLING
        attempt = "" if is_cancelled else tracked.attempt
        return with_event(state, event, tracked._replace(attempt=attempt, entry=Entry.OUT))

    spent = state._replace(budget=state.budget._replace(evictions=state.budget.evictions - 1))
    yield from call(world, spent, Write("RENEW", event, emit_token(event)), then)


def _settle(world: World, state: State, event: int, tracked: Tracked) -> Iterator[Step[State]]:
    token = emit_token(event)
    settled = tracked._replace(attempt="", entry=Entry.OUT)

    def then(state: State, answer: Answer) -> State:
        if answer is Answer.NONE:
            return state
        return with_event(state, event, settled)._replace(expired=state.expired - {token})

    yield from call(world, state, Write(tracked.attempt, event, token), then)
    if state.budget.unanswered < world.budget.unanswered:
        entry = tracked.entry if tracked.entry == Entry.OUT else _entry_of_abandoned(world)
        abandoned = with_event(state, event, tracked._replace(attempt="", entry=entry))
        following = abandoned._replace(expired=state.expired - {token})
        yield Step(("the outcome of event", event, "is given up"), following)


def _entry_of_abandoned(world: World) -> str:
    if not world.rules.abandoned_events_stay_open:
        return Entry.OUT
    return Entry.TO_ENTER if world.rules.abandoned_events_enter else Entry.STUCK


# Events that are perhaps stored and in no index


def _void(world: World, state: State, event: int, tracked: Tracked) -> Iterator[Step[State]]:
    def then(state: State, answer: Answer) -> State:
        if answer is Answer.NONE:
            return state
        entry = Entry.OUT if answer is Answer.APPLIED else Entry.TO_ENTER
        return with_event(state, event, tracked._replace(entry=entry))

    yield from call(world, state, Write("VOID", event), then)


def _enter(world: World, state: State, event: int, tracked: Tracked) -> Iterator[Step[State]]:
    def then(state: State, answer: Answer) -> State:
        return state if answer is Answer.NONE else with_event(state, event, tracked._replace(entry=Entry.OUT))

    yield from enter(world, state, event, tracked.window, then)
