"""Mutants of the conditions of a queue: each lacks the token, the status or the front that a write compares."""

from __future__ import annotations

from typing import Final

from reliability.mutants.mutant import Mutant

_QUEUES: Final = "dynamodb/ordering/transitions.py"
_POPPING: Final = "dynamodb/ordering/popping.py"
_OUTCOMES: Final = "dynamodb/conditional/transitions.py"
_RACES: Final = "tests/dynamodb/test_ordered_races.py"
_LOST: Final = "tests/dynamodb/test_ordered_lost_replies.py"
_DELIVERY: Final = "tests/dynamodb/test_ordered_delivery.py"
_STORED_AGAIN: Final = (
    "tests/dynamodb/test_ordered_deletions.py::test_event_that_is_stored_again_before_its_id_is_taken_is_delivered"
)
_FRONT: Final = f"{_RACES}::test_pop_compares_the_front"
_GROWN: Final = f"{_LOST}::test_queue_that_has_grown_is_popped_in_its_new_form[batch-True]"
_OUTCOME: Final = f"{_RACES}::test_outcome_of_a_worker_that_has_lost_the_lease_changes_nothing"

QUEUE_CONDITIONS: Final = (
    Mutant(
        row=18,
        name="a claim takes a queue that is claimed",
        file=_OUTCOMES,
        text="(status = :PENDING AND gsiSortKey = :seen) OR",
        replacement="(attribute_exists(id)) OR",
        test=f"{_RACES}::test_queue_that_another_worker_has_claimed_meanwhile_is_not_claimed",
    ),
    Mutant(
        row=114,
        name="a POP does not ask for the event at the front",
        file=_QUEUES,
        text='Pop.IDS: "ids[0] = :front AND size(ids) > :one AND attribute_not_exists(head)"',
        replacement='Pop.IDS: "size(ids) > :one AND attribute_not_exists(head)"',
        test=f"{_FRONT}[IDS]",
    ),
    Mutant(
        row=114,
        name="a POP of the head does not ask for the event at the front",
        file=_QUEUES,
        text='Pop.HEAD: "head[0] = :front AND size(head) > :one"',
        replacement='Pop.HEAD: "size(head) > :one"',
        test=f"{_FRONT}[HEAD]",
    ),
    Mutant(
        row=114,
        name="a POP of the end of the head does not ask for the event at the front",
        file=_QUEUES,
        text='Pop.UNHEAD: "head = :only AND (',
        replacement='Pop.UNHEAD: "(',
        test=f"{_FRONT}[UNHEAD]",
    ),
    Mutant(
        row=114,
        name="a POP that needs the next page does not ask for the event at the front",
        file=_QUEUES,
        text='Pop.REFILL: "head = :only"',
        replacement='Pop.REFILL: "attribute_exists(head)"',
        test=f"{_FRONT}[REFILL]",
    ),
    Mutant(
        row=114,
        name="a POP deletes a queue of another event",
        file=_QUEUES,
        text='Pop.LAST: "ids = :only AND attribute_not_exists(head)"',
        replacement='Pop.LAST: "size(ids) = :one AND attribute_not_exists(head)"',
        test=f"{_FRONT}[LAST]",
    ),
    Mutant(
        row=115,
        name="a POP does not ask for the token",
        file=_QUEUES,
        text='_IS_MINE: Final = "claimToken = :token AND status <> :FAILED"',
        replacement='_IS_MINE: Final = "status <> :FAILED"',
        test=f"{_DELIVERY}::test_lost_lease_pops_nothing_and_the_marked_event_runs_no_more[local single]",
    ),
    Mutant(
        row=115,
        name="a retry of the front of a queue does not ask for the token",
        file=_OUTCOMES,
        text='"claimToken = :token AND (status = :PROCESSING OR status = :PENDING)"',
        replacement='"status = :PROCESSING OR status = :PENDING"',
        test=f"{_OUTCOME}[retry]",
    ),
    Mutant(
        row=115,
        name="a failure of the front of a queue does not ask for the token",
        file=_OUTCOMES,
        text='"claimToken = :token AND status <> :COMPLETED"',
        replacement='"status <> :COMPLETED"',
        test=f"{_OUTCOME}[fail]",
    ),
    Mutant(
        row=115,
        name="a release of a queue does not ask for the token",
        file=_OUTCOMES,
        text='    name="release",\n    set=("status = :PENDING", "gsiSortKey = :due"),\n'
        '    condition="claimToken = :token AND status = :PROCESSING",\n',
        replacement='    name="release",\n    set=("status = :PENDING", "gsiSortKey = :due"),\n'
        '    condition="status = :PROCESSING",\n',
        test=f"{_OUTCOME}[release]",
    ),
    Mutant(
        row=116,
        name="an event that could not be marked is popped",
        file="dynamodb/delivering/settle.py",
        text="if self._exits.leaves(claim, outcome) and is_marked(results[index])",
        replacement="if self._exits.leaves(claim, outcome)",
        test=f"{_LOST}::test_event_that_could_not_be_marked_stays_in_front[batch]",
    ),
    Mutant(
        row=117,
        name="a queue that has grown is deleted",
        file=_QUEUES,
        text='Pop.LAST: "ids = :only AND attribute_not_exists(head)"',
        replacement='Pop.LAST: "attribute_exists(ids)"',
        test=_GROWN,
    ),
    Mutant(
        row=117,
        name="the head of a queue is removed although pages were added",
        file=_QUEUES,
        text='"head = :only AND (attribute_not_exists(lastPage) OR firstPage > lastPage)"',
        replacement='"head = :only"',
        test=_GROWN,
    ),
    Mutant(
        row=142,
        name="the id of a missing event is taken without a look at the event",
        file=_POPPING,
        text="if front.is_missing or form_of(front.queue) is Pop.REFILL",
        replacement="if form_of(front.queue) is Pop.REFILL",
        test=f"{_STORED_AGAIN}[one shard-moto-Pop.IDS]",
    ),
    Mutant(
        row=142,
        name="an event that was missing is deleted if it is stored by now",
        file=_POPPING,
        text='{**missing, "ConditionExpression": "attribute_not_exists(id)"}',
        replacement="missing",
        test=f"{_STORED_AGAIN}[one shard-moto-Pop.LAST]",
    ),
    Mutant(
        row=142,
        name="an event that was missing is not loaded when it is stored by now",
        file=_POPPING,
        text="if isinstance(result, (StorageError, EventIsStored)):",
        replacement="if isinstance(result, StorageError):",
        test=f"{_STORED_AGAIN}[one shard-moto-Pop.HEAD]",
    ),
)
