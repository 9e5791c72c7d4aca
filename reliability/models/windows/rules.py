"""The rules of the protocol. A mutant is the protocol without one of them."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Each rule holds unless a mutant drops it."""

    # Conditions of writes
    insert_needs_a_free_id: bool = True
    """INSERT, which stores an event in a window, is refused if any item has its id."""
    tombstone_needs_a_free_id: bool = True
    """VOID, which writes a tombstone, is refused if any item has its id."""
    put_replaces_a_tombstone: bool = True
    """An event that is stored in the index takes the place of a tombstone."""
    enter_needs_processing: bool = True
    """ENTER, which moves an event into the index, asks for PROCESSING."""
    enter_needs_an_unlisted_event: bool = True
    """ENTER asks for an event in no index."""
    enter_needs_the_window: bool = True
    """ENTER asks for an event of the window that is recovered."""
    open_needs_a_free_id: bool = True
    """OPEN, which stores a window item, is refused if an item has its id."""
    extend_needs_the_token: bool = True
    """EXTEND asks for the token of the worker."""
    extend_needs_the_version: bool = True
    """EXTEND is refused if a later one was applied."""
    take_needs_the_lease_seen: bool = True
    """TAKE asks for the end of the lease that the recoverer has seen."""
    close_needs_the_token: bool = True
    """CLOSE asks for the token of the recoverer."""
    delete_needs_the_token: bool = True
    """DELETE asks for the token of the worker."""

    # The worker
    end_is_acknowledged_before_use: bool = True
    """A number is used only when DynamoDB has answered that the window reaches beyond it."""
    numbers_below_the_start_are_unused: bool = True
    """An event whose number the start of the window has passed is stored in the index."""
    start_waits_for_open_events: bool = True
    """The start of a window does not pass an event that runs."""
    start_waits_for_abandoned_events: bool = True
    """The start of a window does not pass an event whose outcome could not be written."""
    abandoned_events_stay_open: bool = True
    """An event whose outcome could not be written is not forgotten."""
    abandoned_events_enter: bool = True
    """An event whose outcome could not be written is moved into the index by its own worker."""
    unsure_inserts_stay_open: bool = True
    """An event whose INSERT was not answered is not forgotten."""
    unsure_inserts_get_a_tombstone: bool = True
    """The worker first writes a tombstone for such an event, and moves it into the index if that is refused."""
    delete_waits_for_abandoned_events: bool = True
    """A worker deletes its window only when no abandoned event is open."""
    delete_waits_for_inserts: bool = True
    """A worker deletes its window only when no INSERT is under way or without an answer."""
    refused_inserts_are_compared: bool = True
    """A refused INSERT counts as stored only if the stored item has its token."""
    ids_of_a_lost_window_are_not_used: bool = True
    """After the loss of a window, the worker makes ids under another seed."""
    lost_events_enter: bool = True
    """A worker that has lost its window moves its open events into the index itself."""

    # The recoverer
    recoverers_take_the_window: bool = True
    """A recoverer changes the token of the window before it visits the numbers."""
    recoverers_visit_every_number: bool = True
    """A recoverer visits every number of the window."""
    close_comes_last: bool = True
    """A recoverer closes the window after its last number."""
    free_numbers_get_a_tombstone: bool = True
    """A recoverer writes a tombstone where no event is."""
    refused_tombstones_are_followed_up: bool = True
    """If an event is stored just before its tombstone, the recoverer moves the event into the index."""
    windows_are_closed_not_deleted: bool = True
    """A recoverer leaves a closed item, so that a late OPEN of the window is refused."""


ALL_RULES = Rules()


def rules_without(names: tuple[str, ...]) -> Rules:
    """Return all rules but these."""
    return replace(ALL_RULES, **dict.fromkeys(names, False))
