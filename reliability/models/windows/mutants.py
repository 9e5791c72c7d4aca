"""The protocol of the windows without one of its rules, and where that is found."""

from __future__ import annotations

from typing import Final

from reliability.models.suite import Mutant, Suite, Survivor
from reliability.models.windows.configurations import (
    ANOTHER,
    CONFIGURATIONS,
    CRASH,
    GROWS,
    GROWS_UNANSWERED,
    LATE,
    OUTCOMES,
    RENEWED,
    SLOW,
    TWO_OUTBOXES,
    UNANSWERED,
    WALKED,
    Configuration,
)


def _mutant(name: str, *without: str, breaks: str, found_in: Configuration) -> Mutant:
    return Mutant(name=name, without=without, breaks=breaks, found_in=found_in)


MUTANTS: Final = (
    # Conditions of writes
    _mutant(
        "INSERT replaces what is stored",
        "insert_needs_a_free_id",
        breaks="FINAL",
        found_in=UNANSWERED,
    ),
    _mutant(
        "a tombstone replaces an event",
        "tombstone_needs_a_free_id",
        breaks="LOSS",
        found_in=SLOW,
    ),
    _mutant(
        "a tombstone counts as a duplicate of the event",
        "put_replaces_a_tombstone",
        breaks="LOSS",
        found_in=SLOW,
    ),
    _mutant(
        "ENTER does not ask for PROCESSING",
        "enter_needs_processing",
        breaks="FINAL",
        found_in=SLOW,
    ),
    _mutant(
        "ENTER takes events in the index, too",
        "enter_needs_an_unlisted_event",
        breaks="ONE",
        found_in=OUTCOMES,
    ),
    _mutant(
        "ENTER takes the events of any window",
        "enter_needs_the_window",
        breaks="ONE",
        found_in=TWO_OUTBOXES,
    ),
    _mutant(
        "OPEN replaces what is stored",
        "open_needs_a_free_id",
        breaks="ONE",
        found_in=LATE,
    ),
    _mutant(
        "EXTEND does not ask for the token",
        "extend_needs_the_token",
        breaks="ONE",
        found_in=RENEWED,
    ),
    _mutant(
        "EXTEND does not ask for the version",
        "extend_needs_the_version",
        breaks="LOSS",
        found_in=GROWS_UNANSWERED,
    ),
    _mutant(
        "TAKE does not ask for the lease that was seen",
        "take_needs_the_lease_seen",
        breaks="ONE",
        found_in=RENEWED,
    ),
    # The worker
    _mutant(
        "a number is used before the end of the window is acknowledged",
        "end_is_acknowledged_before_use",
        breaks="LOSS",
        found_in=GROWS,
    ),
    _mutant(
        "a number below the start of the window is used",
        "numbers_below_the_start_are_unused",
        breaks="LOSS",
        found_in=GROWS,
    ),
    _mutant(
        "the start of the window passes an event that runs",
        "start_waits_for_open_events",
        breaks="LOSS",
        found_in=GROWS,
    ),
    _mutant(
        "the start of the window passes an abandoned event",
        "start_waits_for_abandoned_events",
        breaks="LOSS",
        found_in=UNANSWERED,
    ),
    _mutant(
        "an abandoned event is forgotten",
        "abandoned_events_stay_open",
        breaks="LOSS",
        found_in=UNANSWERED,
    ),
    _mutant(
        "an abandoned event is left alone",
        "abandoned_events_enter",
        breaks="LIVE",
        found_in=UNANSWERED,
    ),
    _mutant(
        "an INSERT without an answer is forgotten",
        "unsure_inserts_stay_open",
        breaks="LOSS",
        found_in=UNANSWERED,
    ),
    _mutant(
        "an INSERT without an answer gets no tombstone",
        "unsure_inserts_get_a_tombstone",
        breaks="LOSS",
        found_in=UNANSWERED,
    ),
    _mutant(
        "a window is deleted with an abandoned event",
        "delete_waits_for_abandoned_events",
        breaks="LOSS",
        found_in=UNANSWERED,
    ),
    _mutant(
        "a window is deleted with an INSERT under way",
        "delete_waits_for_inserts",
        breaks="LOSS",
        found_in=SLOW,
    ),
    _mutant(
        "a refused INSERT counts as stored",
        "refused_inserts_are_compared",
        breaks="LOSS",
        found_in=SLOW,
    ),
    _mutant(
        "another window has ids of the lost one, and ENTER takes the events of any window",
        "ids_of_a_lost_window_are_not_used",
        "enter_needs_the_window",
        breaks="ONE",
        found_in=ANOTHER,
    ),
    _mutant(
        "a worker forgets the events of a lost window, and deletes the window",
        "lost_events_enter",
        breaks="LOSS",
        found_in=SLOW,
    ),
    # The recoverer
    _mutant(
        "a recoverer does not take the window",
        "recoverers_take_the_window",
        breaks="ONE",
        found_in=RENEWED,
    ),
    _mutant(
        "a recoverer visits no number",
        "recoverers_visit_every_number",
        breaks="LOSS",
        found_in=CRASH,
    ),
    _mutant(
        "a recoverer closes the window first",
        "close_comes_last",
        breaks="LOSS",
        found_in=CRASH,
    ),
    _mutant(
        "a recoverer writes no tombstones",
        "free_numbers_get_a_tombstone",
        breaks="LOSS",
        found_in=SLOW,
    ),
    _mutant(
        "a refused tombstone is not followed up",
        "refused_tombstones_are_followed_up",
        breaks="LOSS",
        found_in=SLOW,
    ),
    _mutant(
        "a recoverer deletes the window",
        "windows_are_closed_not_deleted",
        breaks="ONE",
        found_in=LATE,
    ),
)

SURVIVORS: Final = (
    Survivor(
        name="CLOSE does not ask for the token",
        without=("close_needs_the_token",),
        reason="a recoverer closes a window after it has visited every number, and a window that was taken cannot move",
        tried_in=(SLOW, LATE, CRASH, ANOTHER),
    ),
    Survivor(
        name="DELETE does not ask for the token",
        without=("delete_needs_the_token",),
        reason="a worker deletes its window only when no event of it is open",
        tried_in=(SLOW, LATE, CRASH, ANOTHER),
    ),
    Survivor(
        name="another window has ids of the lost one",
        without=("ids_of_a_lost_window_are_not_used",),
        reason="ENTER asks for the window, and an event that a tombstone refuses is stored in the index",
        tried_in=(ANOTHER,),
    ),
)

SUITE: Final = Suite(configurations=CONFIGURATIONS, walked=WALKED, mutants=MUTANTS, survivors=SURVIVORS)
