"""Mutants of emits with an ordering key, of the recovery of their queues, and of their retries."""

from __future__ import annotations

from typing import Final

from dynamodb_outbox.dynamodb.ordering.queue import WIDTH
from reliability.mutants.mutant import Mutant

_EMITS: Final = "tests/dynamodb/test_ordered_emits.py"
_ARRIVING: Final = "tests/dynamodb/test_ordered_arriving.py"
_CLAIMS_ON_EMIT: Final = "tests/dynamodb/test_ordered_claims_on_emit.py"
_IN_TRANSACTIONS: Final = "tests/dynamodb/test_ordered_claims_in_transactions.py"
_RACES: Final = "tests/dynamodb/test_ordered_races.py"
_KEY: Final = "[order-17]"
_STORE: Final = "            await self._store(puts)\n"
_APPEND: Final = "            await self._ordered.append(puts, emit_claim, began=began)\n"

APPENDING: Final = (
    Mutant(
        row=122,
        name="an emit is acknowledged before its event is listed",
        file="dynamodb/emitting/publish.py",
        text=_APPEND,
        replacement="",
        test=f"{_EMITS}::test_events_of_a_key_are_listed_in_the_order_of_their_emits[local]",
    ),
    Mutant(
        row=122,
        name="an event is listed before it is stored",
        file="dynamodb/emitting/publish.py",
        text=_STORE + _APPEND,
        replacement=_APPEND + _STORE,
        test=f"{_EMITS}::test_event_is_stored_in_no_index_and_its_queue_is_due[local]",
    ),
    Mutant(
        row=122,
        name="an event that is stored counts as listed",
        file="dynamodb/emitting/publish_result.py",
        text="        self.place = Place.OVER if key is None else Place.UNKNOWN\n",
        replacement="        self.place = Place.OVER\n",
        test=f"{_EMITS}::test_event_that_an_ended_emit_left_unlisted_is_listed_by_the_next_emit[local]",
    ),
    Mutant(
        row=122,
        name="an event that is stored is listed under the key of the emit that finds it",
        file="dynamodb/emitting/publish_result.py",
        text="        self.key = key or self.key\n",
        replacement="",
        test=f"{_EMITS}::test_event_that_was_left_unlisted_is_listed_by_an_emit_with_another_key[local-emit-another]",
    ),
    Mutant(
        row=122,
        name="an event behind a gap is called a duplicate",
        file="dynamodb/emitting/ordered_events.py",
        text="            if put.place is not Place.OVER:\n",
        replacement="            if put.error is None:\n",
        test=f"{_EMITS}::test_event_that_is_stored_but_not_listed_is_no_duplicate_behind_one_that_fails[local]",
    ),
    Mutant(
        row=123,
        name="an append makes a claimed queue PENDING",
        file="dynamodb/ordering/appending.py",
        text="#status = if_not_exists(#status, :status)",
        replacement="#status = :status",
        test=f"{_RACES}::test_append_leaves_a_claimed_queue_claimed",
    ),
    Mutant(
        row=123,
        name="a claim on emit overwrites the token of a queue",
        file="dynamodb/ordering/appending.py",
        text="claimToken = if_not_exists(claimToken, :token)",
        replacement="claimToken = :token",
        test=f"{_RACES}::test_append_leaves_a_claimed_queue_claimed",
    ),
    Mutant(
        row=124,
        name="a claim on emit after a lost answer does not load the event",
        file="dynamodb/ordering/claims_on_emit.py",
        text="        if is_certain and is_recent and arrival.is_sole and arrival.is_wanted:\n",
        replacement="        if is_recent and arrival.is_sole and arrival.is_wanted:\n",
        test=f"{_CLAIMS_ON_EMIT}::test_event_that_was_handled_meanwhile_is_not_handled_again",
    ),
    Mutant(
        row=124,
        name="a claim on emit of an id that another emit may have does not load the event",
        file="dynamodb/ordering/claims_on_emit.py",
        text="        if is_certain and is_recent and arrival.is_sole and arrival.is_wanted:\n",
        replacement="        if is_certain and is_recent and arrival.is_wanted:\n",
        test=f"{_CLAIMS_ON_EMIT}::test_event_of_an_id_that_another_emit_has_brought_to_its_end_is_not_handled_again",
    ),
    Mutant(
        row=132,
        name="a claim on emit whose append took long does not load the event",
        file="dynamodb/ordering/claims_on_emit.py",
        text="        if is_certain and is_recent and arrival.is_sole and arrival.is_wanted:\n",
        replacement="        if is_certain and arrival.is_sole and arrival.is_wanted:\n",
        test=f"{_ARRIVING}::test_event_that_was_discarded_before_its_append_is_not_claimed_on_emit[local-discard]",
    ),
    Mutant(
        row=132,
        name="a discard does not wait for an emit that is under way",
        file="dynamodb/operating/repairs.py",
        text="waits_for_emits=True",
        replacement="waits_for_emits=False",
        test=f"{_ARRIVING}::test_event_that_was_discarded_before_its_append_is_not_claimed_on_emit[local-discard]",
    ),
    Mutant(
        row=132,
        name="a replacement does not wait for an emit that is under way",
        file="dynamodb/operating/line_replacing.py",
        text="        known = (await self._lines.read_after_emits([event_id]))[event_id]\n",
        replacement="        known = None\n",
        test=f"{_ARRIVING}::test_event_that_was_discarded_before_its_append_is_not_claimed_on_emit[local-replace]",
    ),
    Mutant(
        row=141,
        name="a transaction hands a queue on that another one has claimed",
        file="dynamodb/ordering/claims_on_emit.py",
        text="        if queue is None or not queue.is_held_with(arrival.token):\n",
        replacement="        if queue is None:\n",
        test=f"{_IN_TRANSACTIONS}::test_queue_that_exists_is_not_claimed[1]",
    ),
    Mutant(
        row=141,
        name="a transaction that is never answered keeps its queue",
        file="dynamodb/emitting/commit_transaction.py",
        text="                    self._claims.release_in_background(contents.first_events)\n",
        replacement="                    pass\n",
        test=f"{_IN_TRANSACTIONS}::test_commit_that_is_never_answered_is_released",
    ),
    Mutant(
        row=141,
        name="a transaction keeps a queue that it cannot read",
        file="dynamodb/ordering/claims_on_emit.py",
        text="            self.release_in_background(first_events)\n",
        replacement="",
        test=f"{_IN_TRANSACTIONS}::test_queue_that_cannot_be_read_is_released",
    ),
    Mutant(
        row=141,
        name="a transaction reads its queue with a stale read",
        file="dynamodb/ordering/claims_on_emit.py",
        text="for key in first_events], within=within)\n",
        replacement="for key in first_events], within=within, consistent=False)\n",
        test=f"{_IN_TRANSACTIONS}::test_transaction_that_creates_a_queue_claims_it",
    ),
    Mutant(
        row=141,
        name="a refused transaction keeps the queue that an attempt without an answer has created",
        file="dynamodb/emitting/commit_transaction.py",
        text="            except OutboxError:\n                if contents.is_doubtful:\n",
        replacement="            except StorageError:\n                if contents.is_doubtful:\n",
        test=f"{_IN_TRANSACTIONS}::test_attempt_of_an_own_id_that_is_carried_out_late_releases_its_queue",
    ),
    Mutant(
        row=141,
        name="a worker does not poll after the release of a queue in the background",
        file="dynamodb/ordering/claims_on_emit.py",
        text="                first_event.emit_claim.released()\n",
        replacement="                pass\n",
        test=f"{_IN_TRANSACTIONS}::test_worker_polls_when_a_queue_was_released_in_the_background",
    ),
    Mutant(
        row=141,
        name="a handler does not know of its commit before the queues are read",
        file="dynamodb/emitting/commit_transaction.py",
        text="                done.written()\n",
        replacement="",
        test=f"{_IN_TRANSACTIONS}::test_handler_that_is_cancelled_during_the_read_has_committed",
    ),
    Mutant(
        row=141,
        name="a delivery claims the queue that it holds",
        file="dynamodb/emitting/transaction_contents.py",
        text="            if line.seen is None and first in emit_claim.tokens:\n",
        replacement="            if first in emit_claim.tokens:\n",
        test=f"{_IN_TRANSACTIONS}::test_delivery_does_not_claim_the_queue_that_it_holds_a_second_time",
    ),
    Mutant(
        row=125,
        name="a repeated append lists an event of the head twice",
        file="dynamodb/ordering/appending.py",
        text='"AND (attribute_not_exists(head) OR NOT contains(head, :first)))"',
        replacement='")"',
        test=f"{_RACES}::test_repeated_append_lists_no_event_twice",
    ),
    Mutant(
        row=125,
        name="a queue is split over its head",
        file="dynamodb/ordering/appending.py",
        text='"attribute_not_exists(head) AND size(ids) > :room AND NOT contains(ids, :first)"',
        replacement='"size(ids) > :room AND NOT contains(ids, :first)"',
        test=f"{_RACES}::test_second_split_of_a_queue_is_refused",
    ),
    Mutant(
        row=125,
        name="ids are moved to a page unseen",
        file="dynamodb/ordering/appending.py",
        text='(head) AND ids = :seen"',
        replacement='(head) AND (ids = :seen OR ids <> :seen)"',
        test=f"{_RACES}::test_spill_of_ids_that_have_grown_is_refused",
    ),
    Mutant(
        row=126,
        name="the lease of a queue is recovered although it was renewed",
        file="dynamodb/ordering/transitions.py",
        text='    condition="status = :PROCESSING AND gsiSortKey = :seen",\n',
        replacement='    condition="status = :PROCESSING",\n',
        test=f"{_RACES}::test_stale_lease_of_a_queue_is_not_recovered",
    ),
    Mutant(
        row=127,
        name="a handler of a key starts after its lease",
        file="worker/handling/handler_task.py",
        text="        if is_too_late(self._lease, self._context.options.clock):\n            self._started_at = None\n",
        replacement="        if False:\n            self._started_at = None\n",
        test="tests/worker/test_ordering_too_late.py"
        f"::test_event_of_a_key_is_released_where_its_handler_would_start_after_the_lease{_KEY}",
    ),
    Mutant(
        row=128,
        name="an event that was set aside is QUEUED again, and not listed",
        file="dynamodb/operating/line_plans.py",
        text="        return Plan([*back, *self._writes.append(standing, key=key, event_id=standing.event_id)])\n",
        replacement="        return Plan(back)\n",
        test="tests/dynamodb/test_ordered_repairs.py"
        "::test_retry_of_an_event_that_was_set_aside_puts_it_to_the_end_of_its_line[local-batch]",
    ),
    Mutant(
        row=128,
        name="an event that was set aside is QUEUED in one write, and listed in another",
        file="dynamodb/operating/line_repairs.py",
        text="        await self._caller.call(OPERATION, within=within, TransactItems=list(entries), "
        "ClientRequestToken=uuid4().hex)\n",
        replacement="        for entry in entries:\n"
        "            await self._caller.call(OPERATION, within=within, TransactItems=[entry], "
        "ClientRequestToken=uuid4().hex)\n",
        test=f"tests/dynamodb/test_ordered_repair_faults.py::test_return_to_a_line_that_grows_meanwhile[local-{WIDTH}]",
    ),
)
