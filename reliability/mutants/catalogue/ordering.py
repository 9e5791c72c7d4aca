"""Mutants of the delivery of events with an ordering key; `queue_conditions` has those of conditions."""

from __future__ import annotations

from typing import Final

from reliability.mutants.mutant import Mutant

_DELIVERY: Final = "tests/dynamodb/test_ordered_delivery.py"
_LOST: Final = "tests/dynamodb/test_ordered_lost_replies.py"
_LETTERS: Final = "tests/contract/test_ordering_dead_letters.py"
_LATE: Final = "tests/dynamodb/test_late_completions.py"
_BATCHES: Final = "tests/dynamodb/test_ordered_batches.py"

ORDERING: Final = (
    Mutant(
        row=113,
        name="a POP that was applied counts as a lost lease",
        file="dynamodb/ordering/popping.py",
        text="front.keeps and queue.is_held_with(front.next_token)",
        replacement="False",
        test=f"{_LOST}::test_lost_response_loses_no_event_and_repeats_none[batch-IDS-cut after-True]",
    ),
    Mutant(
        row=113,
        name="a POP that was not answered is not looked for",
        file="dynamodb/ordering/popping.py",
        text="        return result.maybe_applied\n",
        replacement="        return False\n",
        test=f"{_LOST}::test_pop_that_is_applied_though_no_response_ever_comes_is_found[batch-HEAD-True]",
    ),
    Mutant(
        row=113,
        name="a mark that was written before counts as a lost lease",
        file="dynamodb/conditional/write_result.py",
        text="return isinstance(mark, (Applied, Refused)) and",
        replacement="return isinstance(mark, Applied) and",
        test=f"{_LOST}::test_lost_response_loses_no_event_and_repeats_none[batch-MARK-cut after-True]",
    ),
    Mutant(
        row=115,
        name="a worker that has lost its lease sets an event aside",
        file="dynamodb/ordering/aside_writer.py",
        text="return Fenced(repeated=refused.repeated)",
        replacement="return Applied()",
        test=f"{_DELIVERY}::test_worker_that_has_lost_the_lease_sets_no_event_aside[local batch]",
    ),
    Mutant(
        row=116,
        name="an event that is done runs again when its turn comes",
        file="dynamodb/ordering/fronts.py",
        text='(event is None or event.get("status") != {"S": EventStatus.QUEUED.value})',
        replacement="event is None",
        test=f"{_DELIVERY}::test_front_that_is_discarded_or_deleted_is_skipped[local batch]",
    ),
    Mutant(
        row=117,
        name="a POP is not repeated in the form for a queue that has grown",
        file="dynamodb/ordering/popping.py",
        text="        return replace(front, queue=queue, is_doubtful=is_doubtful)\n",
        replacement="        return Refused()\n",
        test=f"{_LOST}::test_queue_that_has_grown_is_popped_in_its_new_form[batch-True]",
    ),
    Mutant(
        row=117,
        name="the head is removed over pages",
        file="dynamodb/ordering/transitions.py",
        text="        return Pop.REFILL if queue.pages else Pop.UNHEAD\n",
        replacement="        return Pop.UNHEAD\n",
        test=f"{_DELIVERY}::test_events_of_a_key_come_in_order_one_at_a_time[local batch-45-True]",
    ),
    Mutant(
        row=118,
        name="a queue whose front cannot be read is claimed again and again",
        file="dynamodb/delivering/claim.py",
        text="                    poll.unreadable.append(loaded)\n",
        replacement="                    pass\n",
        test=f"{_DELIVERY}::test_unreadable_front_blocks_its_key[local batch]",
    ),
    Mutant(
        row=119,
        name="a queue whose front cannot be loaded stays claimed",
        file="dynamodb/ordering/fronts.py",
        text="                results[index] = error\n            await self.release(_tokens_of(left))\n",
        replacement="                results[index] = error\n",
        test=f"{_LOST}::test_fronts_that_cannot_be_loaded_are_released[batch]",
    ),
    Mutant(
        row=120,
        name="a worker never gives a key up",
        file="dynamodb/delivering/queue_exits.py",
        text="keeps=keep_keys and queue.kept + 1 < MAX_KEPT",
        replacement="keeps=keep_keys",
        test=f"{_DELIVERY}::test_worker_gives_a_key_up_after_fifty_events_in_a_row[local batch]",
    ),
    Mutant(
        row=121,
        name="a role that may not delete in batches deletes no queue",
        file="dynamodb/conditional/probe.py",
        text="            self._refused.update(unallowed)\n",
        replacement="",
        test=f"{_BATCHES}::test_without_the_right_to_delete_in_batches_queues_are_deleted_one_by_one[denying_deletes]",
    ),
    Mutant(
        row=130,
        name="a worker blocks a key without a look at the event",
        file="dynamodb/delivering/queue_exits.py",
        text="if blocks or is_lost:",
        replacement="if is_lost:",
        test=f"{_LATE}::test_event_that_is_completed_before_the_failure_blocks_nothing[local single-1]",
    ),
    Mutant(
        row=130,
        name="a late completion leaves its key blocked",
        file="dynamodb/delivering/queue_exits.py",
        text="if blocks or is_lost:",
        replacement="if blocks:",
        test=f"{_LATE}::test_event_that_is_completed_after_the_failure_lets_its_key_go_on[local single-1]",
    ),
    Mutant(
        row=133,
        name="a lost answer to a POP tells that a dead letter was completed",
        file="dynamodb/delivering/queue_exits.py",
        text="return status in (EventStatus.COMPLETED, None)",
        replacement="return True",
        test=f"{_LATE}::test_event_that_another_worker_has_set_aside_is_not_told_to_be_completed[local single]",
    ),
    Mutant(
        row=134,
        name="a completed event is told to be a dead letter",
        file="dynamodb/delivering/queue_exits.py",
        text="return status not in (EventStatus.COMPLETED, EventStatus.DISCARDED, None)",
        replacement="return True",
        test=f"{_LETTERS}::test_failure_of_an_event_that_is_completed_already_is_not_told_as_written[local-single]",
    ),
    Mutant(
        row=134,
        name="a worker keeps a key with which it does not go on",
        file="dynamodb/delivering/queue_exits.py",
        text="            await self._fronts.release(kept)\n",
        replacement="            del kept\n",
        test=f"{_LETTERS}::test_failure_of_an_event_that_is_completed_already_is_not_told_as_written[local-single]",
    ),
    Mutant(
        row=135,
        name="a mark as FAILED does not ask for the token of the queue",
        file="dynamodb/ordering/transitions.py",
        text='condition=f"{_IS_MINE} AND attribute_not_exists(handledBy)"',
        replacement='condition="status <> :FAILED AND attribute_not_exists(handledBy)"',
        test=f"{_LATE}::test_mark_as_failed_that_arrives_when_another_worker_has_the_key_is_refused[local single]",
    ),
    Mutant(
        row=136,
        name="an event that is marked counts as not settled without its POP",
        file="dynamodb/delivering/queue_exits.py",
        text="return Applied() if isinstance(popped, (UnavailableError, ThrottledError, Refused)) else popped",
        replacement="return popped",
        test=f"{_LOST}::test_pop_that_is_never_answered_nor_applied_is_done_after_the_recovery[single-IDS-True]",
    ),
    Mutant(
        row=137,
        name="a late completion takes the front though its page is missing",
        file="dynamodb/ordering/late_completions.py",
        text=" and standing.has_next",
        replacement="",
        test=f"{_LATE}::test_key_whose_next_page_is_deleted_is_left_as_it_is[local single]",
    ),
    Mutant(
        row=130,
        name="an event that was completed late, and taken from the front, is told to block its key",
        file="dynamodb/ordering/late_completions.py",
        text="                gone |= {each.event_id for each in standings.values() if _has_gone(each)}\n",
        replacement="",
        test=f"{_LATE}::test_event_that_is_taken_from_the_front_meanwhile_is_not_told_to_block_its_key[local single]",
    ),
    Mutant(
        row=139,
        name="an event is set aside without the handlers that only its queue knows",
        file="dynamodb/ordering/transitions.py",
        text='condition=f"{_IS_MINE} AND attribute_not_exists(handledBy)"',
        replacement="condition=_IS_MINE",
        test=f"{_DELIVERY}::test_unreadable_front_is_set_aside_if_the_outbox_skips[simulated batch]",
    ),
    Mutant(
        row=140,
        name="ten events that are done are taken from a queue in one poll",
        file="dynamodb/ordering/fronts.py",
        text="is_alone = patient and not any(",
        replacement="is_alone = patient and any(",
        test=f"{_DELIVERY}::test_long_queue_of_events_that_are_done_is_worked_off_in_one_poll[simulated batch]",
    ),
    Mutant(
        row=119,
        name="a queue whose done front cannot be popped stays claimed",
        file="dynamodb/ordering/fronts.py",
        text="                        given_up.append(front)\n",
        replacement="                        pass\n",
        test=f"{_LOST}::test_queue_whose_done_front_cannot_be_popped_is_released[single]",
    ),
    Mutant(
        row=131,
        name="a late request sets an event aside again",
        file="dynamodb/ordering/aside_writer.py",
        text="for each in (write, check)",
        replacement="for each in (write,)",
        test="tests/dynamodb/test_ordered_repair_faults.py"
        "::test_late_request_does_not_set_an_event_aside_again[local-none]",
    ),
)
