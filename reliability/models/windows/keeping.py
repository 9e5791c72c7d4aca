"""How a worker keeps its window: opens, extends, loses and deletes it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from reliability.models.calling import Answer
from reliability.models.exploring import Step
from reliability.models.windows.calls import call
from reliability.models.windows.state import (
    HANDLING,
    HOLDER,
    Emit,
    Entry,
    Keeper,
    Phase,
    State,
    Tracked,
    Write,
    lease_of_window,
    with_event,
    with_keeper,
)
from reliability.models.windows.world import World


def steps_of_keepers(world: World, state: State) -> Iterator[Step[State]]:
    """List what may happen to the windows, as far as their workers do it."""
    for worker, keeper in enumerate(state.keepers):
        if not state.alive[worker]:
            continue
        match keeper.phase:
            case Phase.NONE:
                if _has_new_event(world, state, worker, keeper.start):
                    yield from _open(world, state, worker, keeper)
            case Phase.OPENING:
                yield from _open(world, state, worker, keeper)
                given_up = with_keeper(state, worker, keeper._replace(phase=Phase.CLOSED))
                yield Step(("worker", worker, "gives up opening a window"), given_up)
            case Phase.HELD:
                yield from _keep(world, state, worker, keeper)
            case _:
                yield from _reopen(world, state, worker, keeper)
        for slot in keeper.former:
            if not _keeps_from_deleting(world, state, slot):
                yield from _delete(world, state, worker, slot)


def is_holding(world: World, state: State, slot: int) -> bool:
    """Tell whether the worker that opened a window lives, and holds it as far as it knows."""
    worker = slot % world.workers
    keeper = state.keepers[worker]
    is_current = state.alive[worker] and slot == world.slot_of(worker, keeper)
    return is_current and keeper.phase in {Phase.OPENING, Phase.HELD}


def _has_new_event(world: World, state: State, worker: int, first_number: int) -> bool:
    return any(
        state.events[event].emit == Emit.NEW and world.number_of[event] >= first_number
        for event in world.events_of[worker]
    )


# Open


def _open(world: World, state: State, worker: int, keeper: Keeper) -> Iterator[Step[State]]:
    slot = world.slot_of(worker, keeper)
    end = keeper.start + world.length
    write = Write("OPEN", slot, HOLDER, start=keeper.start, end=end)

    def then(state: State, answer: Answer) -> State:
        if answer is Answer.NONE:
            return with_keeper(state, worker, keeper._replace(phase=Phase.OPENING))
        stored = state.windows[slot]
        if answer is Answer.APPLIED or (stored is not None and stored.token == HOLDER):
            return with_keeper(state, worker, keeper._replace(phase=Phase.HELD, end=end))
        state = state._replace(expired=state.expired - {lease_of_window(slot)})
        return with_keeper(state, worker, keeper._replace(phase=Phase.CLOSED))

    yield from call(world, state, write, then)


def _reopen(world: World, state: State, worker: int, keeper: Keeper) -> Iterator[Step[State]]:
    """Make ready for another window."""
    is_apart = keeper.phase == Phase.LOST and world.rules.ids_of_a_lost_window_are_not_used
    start = max(keeper.start, keeper.end) if is_apart else keeper.start
    if keeper.generation or not state.budget.reopenings or not _has_new_event(world, state, worker, start):
        return
    budget = state.budget._replace(reopenings=state.budget.reopenings - 1)
    another = Keeper(Phase.NONE, 1, start, start, former=keeper.former)
    following = with_keeper(state, worker, another)._replace(budget=budget)
    yield Step(("worker", worker, "wants another window from", start), following)


# Extend


def _keep(world: World, state: State, worker: int, keeper: Keeper) -> Iterator[Step[State]]:
    if state.budget.slow:
        lost = lose(world, state, worker)
        budget = state.budget._replace(slow=state.budget.slow - 1)
        yield Step(("worker", worker, "sees its own lease run out"), lost._replace(budget=budget), is_fault=True)
    if not _keeps_from_deleting(world, state, world.slot_of(worker, keeper)):
        yield Step(("worker", worker, "closes its window"), _ended(world, state, worker, Phase.CLOSED))
    if keeper.pending is not None:
        yield from call(world, state, keeper.pending, partial(_extended, world=world, worker=worker))
        return
    lowest = _lowest_open(world, state, worker, keeper)
    needs_more = _has_new_event(world, state, worker, keeper.end)
    if needs_more:
        yield _begin_to_extend(world, state, worker, lowest, keeper.end + 1)
    if state.budget.renewals or (lowest > keeper.start and not needs_more):
        spent = 0 if lowest > keeper.start else 1
        budget = state.budget._replace(renewals=state.budget.renewals - spent)
        yield _begin_to_extend(world, state._replace(budget=budget), worker, lowest, keeper.end)


def _begin_to_extend(world: World, state: State, worker: int, lowest: int, end: int) -> Step[State]:
    keeper = state.keepers[worker]
    version = keeper.version + 1
    write = Write("EXTEND", world.slot_of(worker, keeper), HOLDER, start=lowest, end=end, version=version)
    # The start is used at once, the end only once the write is answered.
    used_end = keeper.end if world.rules.end_is_acknowledged_before_use else end
    following = keeper._replace(start=lowest, end=used_end, pending=write)
    return Step(("worker", worker, "begins to", write), with_keeper(state, worker, following))


def _extended(state: State, answer: Answer, *, world: World, worker: int) -> State:
    keeper = state.keepers[worker]
    if answer is Answer.NONE or keeper.pending is None:
        return state
    if answer is Answer.REFUSED:
        return lose(world, state, worker)
    extended = keeper._replace(end=keeper.pending.end, version=keeper.pending.version, pending=None)
    return with_keeper(state, worker, extended)


def _lowest_open(world: World, state: State, worker: int, keeper: Keeper) -> int:
    """Return the lowest number that must stay covered. Numbers that are not used yet do not count."""
    slot = world.slot_of(worker, keeper)
    lowest = [
        world.number_of[event]
        for event in world.events_of[worker]
        if state.events[event].window == slot and _holds_the_start(world, state.events[event])
    ]
    return min(lowest, default=keeper.end)


def _holds_the_start(world: World, tracked: Tracked) -> bool:
    if tracked.entry == Entry.OUT:
        return False
    if not world.rules.start_waits_for_open_events:
        return tracked.emit in {Emit.SENDING, Emit.UNANSWERED}
    return tracked.entry not in {Entry.TO_ENTER, Entry.STUCK} or world.rules.start_waits_for_abandoned_events


# End and delete


def _ended(world: World, state: State, worker: int, phase: str) -> State:
    keeper = state.keepers[worker]
    slot = world.slot_of(worker, keeper)
    # A number that the table may have, though the worker got no answer, belongs to the window, too.
    end = keeper.end if keeper.pending is None else max(keeper.end, keeper.pending.end)
    ended = keeper._replace(phase=phase, end=end, pending=None, former=(*keeper.former, slot))
    return with_keeper(state, worker, ended)._replace(expired=state.expired - {lease_of_window(slot)})


def _keeps_from_deleting(world: World, state: State, slot: int) -> bool:
    for tracked in state.events:
        if tracked.window != slot or tracked.entry == Entry.OUT:
            continue
        is_insert = tracked.emit in {Emit.SENDING, Emit.UNANSWERED} or tracked.entry == Entry.UNSURE
        if is_insert and not world.rules.delete_waits_for_inserts:
            continue
        if tracked.entry == Entry.TO_ENTER and not world.rules.delete_waits_for_abandoned_events:
            continue
        return True
    return False


def _delete(world: World, state: State, worker: int, slot: int) -> Iterator[Step[State]]:
    def then(state: State, answer: Answer) -> State:
        if answer is Answer.NONE:
            return state
        keeper = state.keepers[worker]
        former = tuple(other for other in keeper.former if other != slot)
        return with_keeper(state, worker, keeper._replace(former=former))

    yield from call(world, state, Write("DELETE", slot, HOLDER), then)


# Lose


def lose(world: World, state: State, worker: int) -> State:
    """Give the window up: its handlers are cancelled. Outcomes under way are still written, and inserts answered."""
    slot = world.slot_of(worker, state.keepers[worker])
    state = _ended(world, state, worker, Phase.LOST)
    for event in world.events_of[worker]:
        tracked = state.events[event]
        if tracked.window != slot or tracked.entry != Entry.OPEN or tracked.emit != Emit.DONE:
            continue
        attempt = "" if tracked.attempt == HANDLING else tracked.attempt
        entry = entry_after_loss(world, attempt)
        state = with_event(state, event, tracked._replace(attempt=attempt, entry=entry))
    return state


def entry_after_loss(world: World, attempt: str) -> str:
    """Return the new state of the entry of a stored event whose window is lost."""
    if world.rules.lost_events_enter:
        return Entry.TO_ENTER
    return Entry.OPEN if attempt else Entry.OUT
