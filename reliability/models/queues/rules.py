"""The rules of the protocol. A mutant is the protocol without one of them."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Each rule holds unless a mutant drops it."""

    # Emitters
    put_comes_before_append: bool = True
    """An event is stored before it is listed."""
    acknowledgement_follows_append: bool = True
    """The caller of an emit gets its answer when the event is listed."""
    refused_puts_are_listed: bool = True
    """An event that is stored already, and QUEUED, is listed nevertheless: its first emitter may have died."""
    refused_transactions_list: bool = True
    """So does an emit in a transaction, before it raises DuplicateEventError."""
    duplicates_refuse_transactions: bool = True
    """A transaction whose event is stored already does not commit its other writes under another token."""
    memory_needs_the_put: bool = True
    """A handler starts from memory only if PUT was answered, and applied."""
    memory_needs_a_new_id: bool = True
    """A handler starts from memory only if no other emit can have the event: under an id of the user, it is loaded."""
    memory_needs_the_first_append: bool = True
    """A handler starts from memory only if the first APPEND was answered, and applied."""

    # Conditions of writes of events
    put_needs_a_free_id: bool = True
    """PUT is refused if the event is stored already."""
    mark_needs_queued: bool = True
    """MARK, which makes an event COMPLETED or FAILED, asks for QUEUED."""

    # Conditions of writes that list events
    append_needs_room: bool = True
    """APPEND asks for a list that is short enough."""
    append_needs_an_unlisted_event: bool = True
    """APPEND is refused if `ids` or `head` has the first of its events."""
    append_keeps_the_status: bool = True
    """APPEND to a queue that exists does not make it PENDING."""
    append_keeps_the_token: bool = True
    """APPEND to a queue that exists does not claim it."""
    split_needs_no_head: bool = True
    """SPLIT asks for a queue without `head`."""
    spill_needs_the_list_seen: bool = True
    """SPILL names the list that it moves to a page."""
    spill_needs_the_last_page_seen: bool = True
    """SPILL names the last page, or asks for a queue that never had a page."""

    # Workers
    fronts_are_loaded: bool = True
    """An event that is terminal is popped without its handlers."""
    starts_need_the_lease: bool = True
    """A handler starts only while the lease holds, by the clock of its worker."""
    stored_fronts_are_loaded_again: bool = True
    """An event that was missing, and is stored when it is to be popped, is loaded."""
    mark_comes_before_pop: bool = True
    """An event is terminal before it leaves the queue."""
    failures_are_looked_at: bool = True
    """A worker that has blocked the key looks at the event, and pops it if another worker has completed it."""
    late_marks_are_looked_at: bool = True
    """A worker that has marked its event, and has lost the queue, pops the event if it blocks the key."""

    # Conditions of the writes of workers
    claim_needs_pending: bool = True
    """CLAIM asks for PENDING."""
    recover_needs_the_lease_seen: bool = True
    """RECOVER asks for the end of the lease that was seen to have passed."""
    ended_leases_are_recovered: bool = True
    """Somebody recovers a queue whose holder has died."""
    retry_needs_the_token: bool = True
    release_needs_the_token: bool = True
    fail_needs_the_token: bool = True
    aside_needs_the_token: bool = True
    """MARK FAILED of a worker asks for its token, and for a queue that is not FAILED."""
    pop_needs_the_token: bool = True
    pop_needs_the_front: bool = True
    """POP names the event that leaves."""
    pop_needs_the_length_seen: bool = True
    """POP and POP HEAD ask for more than one event; POP UNHEAD and POP REFILL for a single event."""
    pop_of_missing_needs_its_absence: bool = True
    """The POP of an event that is not stored asks that it is not stored."""
    pop_needs_no_head: bool = True
    """POP asks for a queue without `head`."""
    delete_needs_the_whole_list: bool = True
    """POP LAST names all of `ids`."""
    delete_needs_no_head: bool = True
    """POP LAST asks for a queue without `head`."""
    unhead_needs_no_page: bool = True
    """POP UNHEAD asks for a queue without pages."""
    refill_deletes_its_page: bool = True
    """POP REFILL deletes the page in the same transaction."""

    # Operators
    redrive_resets_the_token: bool = True
    """REDRIVE takes the token from the worker that failed."""
    skip_needs_the_token: bool = True
    """The POP of an operator asks for the token that the FAILED queue had when the operator read it."""
    requeue_needs_failed: bool = True
    """REQUEUE asks for FAILED."""
    requeue_is_one_transaction: bool = True
    """REQUEUE makes an event QUEUED, and lists it, in one transaction."""
    requeue_needs_an_unlisted_event: bool = True
    """REQUEUE is refused if `ids` or `head` has the event: its POP may be under way."""


ALL_RULES = Rules()


def rules_without(names: tuple[str, ...]) -> Rules:
    """Return all rules but these."""
    return replace(ALL_RULES, **dict.fromkeys(names, False))
