"""The protocol of ordered queues without one of its rules, and where that is found."""

from __future__ import annotations

from typing import Final

from reliability.models.queues.configuration import Configuration
from reliability.models.queues.configurations import (
    CRASH,
    DELETED,
    FAILED,
    GIVEN_UP,
    IN_A_ROW,
    LISTED_TWICE,
    OVERFLOW,
    OVERFLOW_UNANSWERED,
    POPPED,
    RENEWED,
    REQUEUED,
    RETRIED,
    SAME_ID,
    SAME_ID_AGAIN,
    SKIPPED,
    SLOW,
    SMALL,
    SPILL_RACE,
    SPLIT_RACE,
    TOGETHER,
    TRANSACTION,
    TWO,
    UNANSWERED,
)
from reliability.models.queues.large_configurations import LARGE, WALKED
from reliability.models.suite import Mutant, Suite, Survivor


def _mutant(name: str, without: str, *, breaks: str, found_in: Configuration) -> Mutant:
    return Mutant(name=name, without=(without,), breaks=breaks, found_in=found_in)


MUTANTS: Final = (
    # Emitters
    _mutant("an event is listed before it is stored", "put_comes_before_append", breaks="POP", found_in=CRASH),
    _mutant(
        "an emit is acknowledged before its event is listed",
        "acknowledgement_follows_append",
        breaks="LOSS",
        found_in=IN_A_ROW,
    ),
    _mutant("a refused PUT counts as listed", "refused_puts_are_listed", breaks="LOSS", found_in=CRASH),
    _mutant(
        "a refused transaction counts as listed", "refused_transactions_list", breaks="LOSS", found_in=SAME_ID_AGAIN
    ),
    _mutant(
        "a transaction whose event is stored already commits without its PUT",
        "duplicates_refuse_transactions",
        breaks="TWICE",
        found_in=TRANSACTION,
    ),
    _mutant(
        "a handler starts from memory though PUT was refused, or not answered",
        "memory_needs_the_put",
        breaks="ORDER",
        found_in=GIVEN_UP,
    ),
    _mutant(
        "a handler starts from memory though others may emit its event",
        "memory_needs_a_new_id",
        breaks="ORDER",
        found_in=SAME_ID,
    ),
    _mutant(
        "a handler starts from memory though the first APPEND was not answered",
        "memory_needs_the_first_append",
        breaks="ORDER",
        found_in=TOGETHER,
    ),
    # Conditions of writes of events
    _mutant("PUT replaces what is stored", "put_needs_a_free_id", breaks="FINAL", found_in=UNANSWERED),
    _mutant("MARK does not ask for QUEUED", "mark_needs_queued", breaks="FINAL", found_in=POPPED),
    # Conditions of writes that list events
    _mutant("APPEND does not ask for room", "append_needs_room", breaks="SHAPE", found_in=SPLIT_RACE),
    _mutant("APPEND makes the queue PENDING", "append_keeps_the_status", breaks="ONE", found_in=TWO),
    _mutant("APPEND replaces the token", "append_keeps_the_token", breaks="ONE", found_in=TWO),
    _mutant("SPLIT replaces a head", "split_needs_no_head", breaks="POP", found_in=SPLIT_RACE),
    _mutant(
        "SPILL does not name the list that it moves", "spill_needs_the_list_seen", breaks="POP", found_in=SPILL_RACE
    ),
    _mutant("SPILL does not name the last page", "spill_needs_the_last_page_seen", breaks="POP", found_in=LISTED_TWICE),
    # Workers
    _mutant("a worker does not look at the status of the front", "fronts_are_loaded", breaks="ORDER", found_in=SAME_ID),
    _mutant("a worker starts a handler after its lease", "starts_need_the_lease", breaks="ORDER", found_in=SLOW),
    _mutant(
        "a worker does not load an event that is stored again",
        "stored_fronts_are_loaded_again",
        breaks="LIVE",
        found_in=DELETED,
    ),
    _mutant("a worker pops before it marks", "mark_comes_before_pop", breaks="POP", found_in=CRASH),
    _mutant("a worker blocks a key without a look", "failures_are_looked_at", breaks="BLOCK", found_in=FAILED),
    _mutant("a late MARK leaves the key blocked", "late_marks_are_looked_at", breaks="BLOCK", found_in=FAILED),
    # Conditions of the writes of workers
    _mutant("CLAIM does not ask for PENDING", "claim_needs_pending", breaks="ONE", found_in=CRASH),
    _mutant(
        "RECOVER does not ask for the lease that was seen",
        "recover_needs_the_lease_seen",
        breaks="ONE",
        found_in=RENEWED,
    ),
    _mutant("nobody recovers a queue", "ended_leases_are_recovered", breaks="LIVE", found_in=CRASH),
    _mutant("RETRY does not ask for the token", "retry_needs_the_token", breaks="ONE", found_in=RETRIED),
    _mutant("RELEASE does not ask for the token", "release_needs_the_token", breaks="ONE", found_in=RETRIED),
    _mutant("FAIL does not ask for the token", "fail_needs_the_token", breaks="ONE", found_in=FAILED),
    _mutant("MARK FAILED does not ask for the token", "aside_needs_the_token", breaks="ASIDE", found_in=POPPED),
    _mutant("POP does not ask for the token", "pop_needs_the_token", breaks="ONE", found_in=SLOW),
    _mutant("POP does not name the front", "pop_needs_the_front", breaks="POP", found_in=OVERFLOW_UNANSWERED),
    _mutant(
        "POP takes an event that was missing, and is stored",
        "pop_of_missing_needs_its_absence",
        breaks="POP",
        found_in=DELETED,
    ),
    _mutant("POP LAST does not name the whole list", "delete_needs_the_whole_list", breaks="POP", found_in=TWO),
    _mutant(
        "POP LAST does not ask for a queue without head", "delete_needs_no_head", breaks="POP", found_in=LISTED_TWICE
    ),
    _mutant("POP UNHEAD leaves pages", "unhead_needs_no_page", breaks="SHAPE", found_in=OVERFLOW),
    _mutant("POP REFILL leaves its page", "refill_deletes_its_page", breaks="SHAPE", found_in=OVERFLOW),
    # Operators
    _mutant(
        "the POP of an operator does not ask for the token", "skip_needs_the_token", breaks="POP", found_in=SKIPPED
    ),
    _mutant("REQUEUE does not ask for FAILED", "requeue_needs_failed", breaks="FINAL", found_in=REQUEUED),
    _mutant("REQUEUE is two writes", "requeue_is_one_transaction", breaks="LOSS", found_in=POPPED),
    _mutant(
        "REQUEUE takes an event that is listed for requeued",
        "requeue_needs_an_unlisted_event",
        breaks="POP",
        found_in=POPPED,
    ),
)

SURVIVORS: Final = (
    Survivor(
        name="APPEND lists an event twice",
        without=("append_needs_an_unlisted_event",),
        reason="the event is terminal when its second turn comes",
        tried_in=(
            SAME_ID,
            OVERFLOW_UNANSWERED,
            GIVEN_UP,
            LISTED_TWICE,
        ),
    ),
    Survivor(
        name="POP does not ask for the lengths of lists",
        without=("pop_needs_the_length_seen",),
        reason="nobody but the holder of the token takes events out of a list",
        tried_in=(
            OVERFLOW_UNANSWERED,
            SPLIT_RACE,
            SLOW,
            LISTED_TWICE,
        ),
    ),
    Survivor(
        name="POP does not ask for a queue without head",
        without=("pop_needs_no_head",),
        reason="it names the first of `ids`, which can at worst be an event that was listed twice",
        tried_in=(
            SPLIT_RACE,
            OVERFLOW_UNANSWERED,
            SLOW,
            LISTED_TWICE,
        ),
    ),
    Survivor(
        name="REDRIVE keeps the token",
        without=("redrive_resets_the_token",),
        reason="what a worker still sends that has failed an event can only block the key again",
        tried_in=(
            FAILED,
            SKIPPED,
        ),
    ),
)

SUITE: Final = Suite(configurations=(*SMALL, *LARGE), walked=WALKED, mutants=MUTANTS, survivors=SURVIVORS)
