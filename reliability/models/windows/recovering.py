"""How recoverers visit the numbers of a window whose lease has run out."""

from __future__ import annotations

from collections.abc import Iterator

from reliability.models.calling import Answer
from reliability.models.exploring import Step
from reliability.models.windows.calls import call, enter
from reliability.models.windows.keeping import is_holding
from reliability.models.windows.state import (
    CLOSED,
    HOLDER,
    IDLE_RECOVERER,
    TERMINAL,
    Item,
    Recoverer,
    State,
    WindowItem,
    Write,
    lease_of_window,
    with_recoverer,
)
from reliability.models.windows.world import World

# The steps of a recoverer, in their order.
IDLE = "idle"
SAW = "saw"
VISITING = "visiting"
VOIDING = "voiding"
ENTERING = "entering"
CLOSING = "closing"


def steps_of_recoverers(world: World, state: State) -> Iterator[Step[State]]:
    """List what the recoverers may do next."""
    for me, recoverer in enumerate(state.recoverers):
        if me and recoverer == state.recoverers[me - 1]:
            continue
        match recoverer.step:
            case "saw":
                yield from _take(world, state, me, recoverer)
            case "visiting":
                yield _visit(world, state, me, recoverer)
            case "voiding":
                yield from _void(world, state, me, recoverer)
            case "entering":
                yield from _enter(world, state, me, recoverer)
            case "closing":
                yield from _close(world, state, me, recoverer)
            case _:
                yield from _see(world, state, me)


def _see(world: World, state: State, me: int) -> Iterator[Step[State]]:
    """See a window in the index, with a lease that has run out; or seems to, by a fast clock."""
    for slot, window in enumerate(state.windows):
        if window is None or window == CLOSED:
            continue
        is_held = _is_held(world, state, slot, window)
        if is_held and not state.budget.slow:
            continue
        following = with_recoverer(state, me, Recoverer(SAW, slot, seen=window.lease))
        if is_held:
            budget = state.budget._replace(slow=state.budget.slow - 1)
            following = following._replace(budget=budget)
            if window.token == HOLDER:
                following = following._replace(expired=state.expired | {lease_of_window(slot)})
        held = ", though its holder lives" if is_held else ""
        yield Step(("a recoverer sees the expired window", slot, held), following, is_held)


def _is_held(world: World, state: State, slot: int, window: WindowItem) -> bool:
    if window.token == HOLDER:
        return is_holding(world, state, slot)
    return any(other.window == slot and other.token == window.token for other in state.recoverers if other.step != SAW)


def _take(world: World, state: State, me: int, recoverer: Recoverer) -> Iterator[Step[State]]:
    slot = recoverer.window
    token = f"recoverer-{recoverer.seen}"

    def then(state: State, answer: Answer) -> State:
        window = state.windows[slot]
        if answer is not Answer.APPLIED or window is None:
            return with_recoverer(state, me, IDLE_RECOVERER)
        step = VISITING if world.rules.recoverers_visit_every_number else CLOSING
        taken = Recoverer(step, slot, token, number=window.start, end=window.end)
        if not world.rules.close_comes_last:
            state = state._replace(windows=(*state.windows[:slot], CLOSED, *state.windows[slot + 1 :]))
        return with_recoverer(state, me, taken)

    yield from call(world, state, Write("TAKE", slot, token, seen=recoverer.seen), then)


def _visit(world: World, state: State, me: int, recoverer: Recoverer) -> Step[State]:
    """Read the item of a number, by a consistent read."""
    number, slot = recoverer.number, recoverer.window
    while number < recoverer.end and world.event_at(slot, number) is None:
        number += 1
    event = world.event_at(slot, number)
    if number >= recoverer.end or event is None:
        closing = recoverer._replace(step=CLOSING, number=0, end=0)
        return Step(("the recoverer of window", slot, "has visited all"), with_recoverer(state, me, closing))
    item = state.items[event]
    following = recoverer._replace(number=number)
    if item is None and world.rules.free_numbers_get_a_tombstone:
        following = following._replace(step=VOIDING)
    elif item is None or not _needs_to_enter(world, item):
        following = following._replace(number=number + 1)
    else:
        following = following._replace(step=ENTERING)
    return Step(("a recoverer reads event", event, following.step), with_recoverer(state, me, following))


def _needs_to_enter(world: World, item: Item) -> bool:
    is_open = item.is_event and item.status not in TERMINAL
    return is_open and not (item.is_listed and world.rules.enter_needs_an_unlisted_event)


def _next(recoverer: Recoverer) -> Recoverer:
    return recoverer._replace(step=VISITING, number=recoverer.number + 1)


def _event_of(world: World, recoverer: Recoverer) -> int:
    event = world.event_at(recoverer.window, recoverer.number)
    if event is None:
        raise AssertionError(recoverer)
    return event


def _void(world: World, state: State, me: int, recoverer: Recoverer) -> Iterator[Step[State]]:
    event = _event_of(world, recoverer)

    def then(state: State, answer: Answer) -> State:
        if answer is Answer.NONE:
            return state
        is_done = answer is Answer.APPLIED or not world.rules.refused_tombstones_are_followed_up
        return with_recoverer(state, me, _next(recoverer) if is_done else recoverer._replace(step=ENTERING))

    yield from call(world, state, Write("VOID", event), then)


def _enter(world: World, state: State, me: int, recoverer: Recoverer) -> Iterator[Step[State]]:
    event = _event_of(world, recoverer)

    def then(state: State, answer: Answer) -> State:
        return state if answer is Answer.NONE else with_recoverer(state, me, _next(recoverer))

    yield from enter(world, state, event, recoverer.window, then)


def _close(world: World, state: State, me: int, recoverer: Recoverer) -> Iterator[Step[State]]:
    def then(state: State, answer: Answer) -> State:
        return with_recoverer(state, me, IDLE_RECOVERER)

    yield from call(world, state, Write("CLOSE", recoverer.window, recoverer.token), then)
