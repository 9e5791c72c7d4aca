"""How pollers claim and complete what is in the index, how leases in the index run out, and what crashes."""

from __future__ import annotations

from collections.abc import Iterator

from reliability.models.calling import Answer
from reliability.models.exploring import Step
from reliability.models.windows.calls import call
from reliability.models.windows.state import (
    HANDLING,
    IDLE_POLLER,
    IDLE_RECOVERER,
    PENDING,
    PROCESSING,
    Emit,
    Entry,
    Item,
    Poller,
    State,
    Tracked,
    Write,
    emit_token,
    lease_of_window,
    with_poller,
    with_recoverer,
)
from reliability.models.windows.world import World
from reliability.models.windows.writes import apply

COMPLETE = "COMPLETE"


def steps_of_pollers(world: World, state: State) -> Iterator[Step[State]]:
    """List what the pollers may do next."""
    for me, poller in enumerate(state.pollers):
        if me and poller == state.pollers[me - 1]:
            continue
        if poller == IDLE_POLLER:
            yield from _claim(world, state, me)
        elif poller.step == HANDLING:
            completing = with_poller(state, me, poller._replace(step=COMPLETE))
            yield Step(("a poller has handled event", poller.event), completing)
        else:
            yield from _complete(world, state, me, poller)


def _claim(world: World, state: State, me: int) -> Iterator[Step[State]]:
    for event, item in enumerate(state.items):
        if item is None or item.status != PENDING or not item.is_listed:
            continue
        token = _free_token(state, event, item)
        claimed = Poller(HANDLING, event, token)

        def then(state: State, answer: Answer, claimed: Poller = claimed) -> State:
            return with_poller(state, me, claimed) if answer is Answer.APPLIED else state

        yield from call(world, state, Write("CLAIM", event, token), then)


def _free_token(state: State, event: int, item: Item) -> str:
    """Return a token that no one has. Tokens come back when nothing has them any more, which keeps the states few."""
    used = {item.token}
    used.update(poller.token for poller in state.pollers if poller.event == event)
    used.update(write.token for write in state.late if write.target == event)
    number = 0
    while (token := f"poll-{event}-{number}") in used:
        number += 1
    return token


def _complete(world: World, state: State, me: int, poller: Poller) -> Iterator[Step[State]]:
    def then(state: State, answer: Answer) -> State:
        # Without an answer, the event is left to the recovery of the index.
        return with_poller(state, me, IDLE_POLLER)._replace(expired=state.expired - {poller.token})

    yield from call(world, state, Write("COMPLETE", poller.event, poller.token), then)


# Leases in the index


def expired_claims(world: World, state: State) -> Iterator[Step[State]]:
    """Recover an event in the index whose lease has run out; or seems to, by a fast clock."""
    for event, item in enumerate(state.items):
        if item is None or item.status != PROCESSING or not item.is_listed:
            continue
        is_held = _is_held(world, state, event, item.token)
        if is_held and not state.budget.slow:
            continue
        following = apply(world.rules, state, Write("RECOVER", event, item.token))
        if following is None:
            raise AssertionError(item)
        if is_held:
            budget = state.budget._replace(slow=state.budget.slow - 1)
            following = following._replace(budget=budget, expired=state.expired | {item.token})
        held = ", though its holder lives" if is_held else ""
        yield Step(("event", event, "is recovered from the index", held), following, is_held)


def _is_held(world: World, state: State, event: int, token: str) -> bool:
    if token == emit_token(event):
        tracked = state.events[event]
        return bool(tracked.attempt) or tracked.emit in {Emit.PUTTING, Emit.PUT_UNANSWERED}
    return any(poller.event == event and poller.token == token for poller in state.pollers)


# Crashes


def crashes(world: World, state: State) -> Iterator[Step[State]]:
    """Kill a worker, a poller or a recoverer. Another one does the rest of the work."""
    if not state.budget.crashes:
        return
    state = state._replace(budget=state.budget._replace(crashes=state.budget.crashes - 1))
    for me, recoverer in enumerate(state.recoverers):
        if recoverer.step not in {"idle", "saw"}:
            yield Step(("a recoverer crashes",), with_recoverer(state, me, IDLE_RECOVERER), is_fault=True)
    for me, poller in enumerate(state.pollers):
        if poller != IDLE_POLLER:
            idle = with_poller(state, me, IDLE_POLLER)
            following = idle._replace(expired=state.expired - {poller.token})
            yield Step(("a poller crashes",), following, is_fault=True)
    for worker, is_alive in enumerate(state.alive):
        if is_alive and world.events_of[worker]:
            yield Step(("worker", worker, "crashes"), _crashed(world, state, worker), is_fault=True)


def _crashed(world: World, state: State, worker: int) -> State:
    events = list(state.events)
    leases = {lease_of_window(worker), lease_of_window(worker + world.workers)}
    for event in world.events_of[worker]:
        events[event] = _left_by_a_crash(state.events[event])
        leases.add(emit_token(event))
    alive = (*state.alive[:worker], False, *state.alive[worker + 1 :])
    return state._replace(events=tuple(events), alive=alive, expired=state.expired - leases)


def _left_by_a_crash(tracked: Tracked) -> Tracked:
    """Return what remains: the caller of an emit under way knows no more than that the event may be stored."""
    is_under_way = tracked.emit in {Emit.SENDING, Emit.UNANSWERED, Emit.PUTTING, Emit.PUT_UNANSWERED}
    emit = Emit.RAISED if is_under_way else tracked.emit
    return tracked._replace(emit=emit, attempt="", entry=Entry.OUT)
