"""The model as the explorer wants it: its steps, its goal, and its properties.

- LOSS: an event whose emit was acknowledged is stored, and terminal, or in the index, or within its stored window.
- FINAL: a COMPLETED or FAILED event never changes again.
- ONE: an event never has two attempts at once, unless the lease of one of them had run out.
- LIVE: from every state, if no further fault happens, every stored event can become terminal, and no window remains.
"""

from __future__ import annotations

from collections.abc import Iterator

from reliability.models.exploring import Step
from reliability.models.windows.calls import late_writes
from reliability.models.windows.emitting import steps_of_events
from reliability.models.windows.keeping import steps_of_keepers
from reliability.models.windows.polling import crashes, expired_claims, steps_of_pollers
from reliability.models.windows.recovering import steps_of_recoverers
from reliability.models.windows.state import (
    CLOSED,
    HANDLING,
    IDLE_POLLER,
    IDLE_RECOVERER,
    TERMINAL,
    Emit,
    Entry,
    Item,
    State,
    Tracked,
    emit_token,
    lease_of_window,
)
from reliability.models.windows.world import World


class WindowModel:
    """The windows of some workers."""

    def __init__(self, world: World) -> None:
        self._world = world

    def start(self) -> State:
        """Return the state in which nothing has happened."""
        return self._world.start()

    def steps(self, state: State) -> Iterator[Step[State]]:
        """List every step that may come next."""
        world = self._world
        yield from late_writes(world, state)
        yield from steps_of_keepers(world, state)
        yield from steps_of_events(world, state)
        yield from crashes(world, state)
        yield from steps_of_recoverers(world, state)
        yield from steps_of_pollers(world, state)
        yield from expired_claims(world, state)

    def is_goal(self, state: State) -> bool:
        """Tell whether every stored event is terminal, no window remains, and nothing is under way."""
        return (
            not state.late
            and all(window is None or window == CLOSED for window in state.windows)
            and all(_is_over(item) for item in state.items)
            and all(recoverer == IDLE_RECOVERER for recoverer in state.recoverers)
            and all(poller == IDLE_POLLER for poller in state.pollers)
            and all(
                _is_settled(tracked, is_alive=state.alive[self._world.worker_of[event]])
                for event, tracked in enumerate(state.events)
            )
        )

    def broken_by(self, before: State, after: State) -> str | None:
        """Check FINAL."""
        if before.items is after.items:
            return None
        for event, (was, now) in enumerate(zip(before.items, after.items, strict=True)):
            if was is not None and was.status in TERMINAL and (now is None or now.status != was.status):
                return f"FINAL: event {event} was terminal ({was.status}), and becomes {now}"
        return None

    def broken_in(self, state: State) -> str | None:
        """Check LOSS and ONE."""
        for event, tracked in enumerate(state.events):
            if tracked.is_acknowledged and (how := self._is_lost(state, event)) is not None:
                return f"LOSS: event {event} is acknowledged, {how}"
            if self._attempts(state, event, tracked) > 1:
                return f"ONE: event {event} has two attempts at once"
        return None

    def _is_lost(self, state: State, event: int) -> str | None:
        item = state.items[event]
        if item is None:
            return "and is not stored"
        if not item.is_event:
            return "and a tombstone has its id"
        if item.status in TERMINAL or item.is_listed:
            return None
        window = state.windows[item.window]
        if window is not None and window.start <= self._world.number_of[event] < window.end:
            return None
        return "and is in no index and no window"

    def _attempts(self, state: State, event: int, tracked: Tracked) -> int:
        """Count the attempts under way whose lease has not run out."""
        attempts = 0
        if tracked.attempt == HANDLING:
            in_window = tracked.entry != Entry.OUT
            lease = lease_of_window(tracked.window) if in_window else emit_token(event)
            # Moved into the index by a write without an answer: then its lease there counts.
            attempts += not (lease in state.expired or emit_token(event) in state.expired)
        for poller in state.pollers:
            attempts += poller.step == HANDLING and poller.event == event and poller.token not in state.expired
        return attempts


def _is_over(item: Item | None) -> bool:
    return item is None or not item.is_event or item.status in TERMINAL


def _is_settled(tracked: Tracked, *, is_alive: bool) -> bool:
    """Tell whether an emit has ended, and its worker has nothing to do about the event."""
    has_ended = tracked.emit in {Emit.DONE, Emit.RAISED} or (tracked.emit == Emit.NEW and not is_alive)
    return has_ended and not tracked.attempt and tracked.entry == Entry.OUT
