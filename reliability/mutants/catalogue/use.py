"""Mutants of what callers, clients and other writers do, in the order of the table in docs/reliability.md."""

from __future__ import annotations

from typing import Final

from reliability.mutants.mutant import Mutant

_AT_ITS_END: Final = (
    "tests/worker/test_stop_at_any_step.py::test_block_that_is_cancelled_at_any_step_of_its_end_leaves_no_worker"
)
_GIVEN_UP: Final = "tests/dynamodb/test_abandoned_emits.py"
_KEYS: Final = (
    "tests/dynamodb/test_setup_warnings.py::test_request_that_does_not_fit_the_keys_of_the_table_names_verify_table"
)
_LIMIT: Final = "tests/reliability/test_items_at_the_limit.py"
_LOOPS: Final = "tests/reliability/test_event_loops.py"
_CHAINS: Final = "tests/worker/middleware/test_chains.py"
_CALLS: Final = "tests/worker/middleware/test_calls.py"
_NO_CLAIM: Final = (
    "tests/reliability/test_fuzzed_responses.py::test_claim_whose_response_is_not_a_claim_is_repeated_under_its_token"
)
_REPEATED: Final = "tests/dynamodb/test_repeated_emits.py"

USE: Final = (
    Mutant(
        row=35,
        name="the guard of one operation stands for all",
        file="dynamodb/transport/client.py",
        text='unique_id=f"dynamodb-outbox-once-{operation}"',
        replacement='unique_id="dynamodb-outbox-once"',
        test=f"{_REPEATED}::test_batch_is_not_repeated_by_a_client_that_retries",
    ),
    Mutant(
        row=36,
        name="a repeat overtakes the batch that its caller gave up",
        file="dynamodb/emitting/publish.py",
        text=(
            "        if not in_flight.try_enter(event_ids):\n"
            "            await in_flight.enter(event_ids)\n"
            "        # Only now"
        ),
        replacement="        # Only now",
        test=f"{_REPEATED}::test_repeat_waits_for_the_batch_that_its_caller_gave_up[False]",
    ),
    Mutant(
        row=36,
        name="a batch ends with its caller",
        file="dynamodb/emitting/publish.py",
        text="                await self._queue.written(self._queue.start(chunk, publication), chunk)\n",
        replacement="                await self._write_chunk(chunk, publication)\n",
        test=f"{_REPEATED}::test_repeat_waits_for_the_batch_that_its_caller_gave_up[False]",
    ),
    Mutant(
        row=36,
        name="two outboxes of a table know nothing of each other",
        file="dynamodb/emitting/in_flight.py",
        text="tables.setdefault(self._table_name, InFlight())",
        replacement="InFlight()",
        test=f"{_GIVEN_UP}::test_repeat_through_another_outbox_waits_for_the_batch",
    ),
    Mutant(
        row=36,
        name="copies of an event know nothing of each other",
        file="event.py",
        text="        elif isinstance(self.id, str):\n",
        replacement="        elif isinstance(self.id, bytes):\n",
        test=f"{_GIVEN_UP}::test_event_whose_copy_was_handled_is_not_set_back[by id]",
    ),
    Mutant(
        row=36,
        name="repeats that are given up pile up in the worker",
        file="worker/claim_on_emit.py",
        text="                task.cancel()\n            raise\n",
        replacement="                pass\n            raise\n",
        test=f"{_GIVEN_UP}::test_repeats_that_are_given_up_leave_nothing_behind",
    ),
    Mutant(
        row=37,
        name="emits wait for a write however long it takes",
        file="dynamodb/emitting/emit_queue.py",
        text="GROUP_SECONDS: Final = 0.03\n",
        replacement="GROUP_SECONDS: Final = 30.0\n",
        test=f"{_REPEATED}::test_no_emit_waits_long_for_one_that_is_slow",
    ),
    Mutant(
        row=37,
        name="an emit that shares a request waits for all of it",
        file="dynamodb/emitting/publish_result.py",
        text="            put.written.set_result(None)\n",
        replacement="            asyncio.get_running_loop().call_later(1.0, put.written.set_result, None)\n",
        test=f"{_REPEATED}::test_each_caller_returns_when_its_own_event_is_stored",
    ),
    Mutant(
        row=38,
        name="a call of the bus from another loop is carried out",
        file="bound_loop.py",
        text="if running is not self._loop:",
        replacement="if self._loop is None:",
        test=f"{_LOOPS}::test_call_of_a_bus_from_another_loop_is_refused_and_changes_nothing[memory-True]",
    ),
    Mutant(
        row=38,
        name="an outbox stores what another loop publishes",
        file="dynamodb/outbox.py",
        text='        self._loop.check("outbox.publish")\n',
        replacement="",
        test=f"{_LOOPS}::test_call_of_an_outbox_from_another_loop_is_refused_and_changes_nothing[plain]",
    ),
    Mutant(
        row=39,
        name="connections of another loop carry a request",
        file="dynamodb/transport/client_state.py",
        text='                return "it belongs to another event loop"\n',
        replacement="                continue\n",
        test=f"{_LOOPS}::test_client_that_another_loop_uses_is_named_before_anything_is_sent",
    ),
    Mutant(
        row=40,
        name="a client does not tell that it is closed",
        file="dynamodb/transport/client_state.py",
        text="        stack.callback(mark)\n",
        replacement="",
        test=f"{_LOOPS}::test_client_that_was_closed_before_its_first_call_is_not_opened_again[True]",
    ),
    Mutant(
        row=41,
        name="a block is left at the first cancellation of its end",
        file="lifecycle.py",
        text="await worker.end(timeout, shielded=shielded)",
        replacement="await worker.stop(timeout)",
        test=f"{_AT_ITS_END}[cancel-sleeps]",
    ),
    Mutant(
        row=41,
        name="a cancelled end of a block waits for the handlers",
        file="cancellation.py",
        text="            on_cancel()\n",
        replacement="            pass\n",
        test=f"{_AT_ITS_END}[timeout-sleeps]",
    ),
    Mutant(
        row=41,
        name="the cancellation of a block that ends is swallowed",
        file="cancellation.py",
        text="        raise cancelled\n",
        replacement="        return\n",
        test=f"{_AT_ITS_END}[task group-ends_soon]",
    ),
    Mutant(
        row=44,
        name="a statement says what AWS does not document",
        file="dynamodb/conditional/transitions.py",
        text='condition = _NOT_EXISTS.sub(r"\\1 IS MISSING", transition.condition)',
        replacement="condition = transition.condition",
        test="tests/dynamodb/test_statements.py::test_statement_is_documented_partiql",
    ),
    Mutant(
        row=45,
        name="a statement that is refused as invalid is given up",
        file="dynamodb/conditional/statements.py",
        text="            if isinstance(result, InvalidRequestError) and index not in batch.tried_alone:\n",
        replacement="            if False:\n",
        test="tests/dynamodb/test_fallbacks.py::test_statement_refused_as_invalid_becomes_single_writes_and_the_others_stay_in_batches",
    ),
    Mutant(
        row=46,
        name="an event keeps room for four handlers",
        file="dynamodb/items/codec.py",
        text="DELIVERY_BYTES: Final = 8_192\n",
        replacement="DELIVERY_BYTES: Final = 1_024\n",
        test=f"{_LIMIT}::test_large_event_of_many_handlers_runs_none_again_that_succeeded_and_keeps_its_error[batch]",
    ),
    Mutant(
        row=47,
        name="an event that its worker filled is not recovered in a smaller form",
        file="dynamodb/delivering/recovery.py",
        text="    return [fitted(transition, room) for room in _ROOMS]\n",
        replacement="    return [transition]\n",
        test=f"{_LIMIT}::test_event_whose_worker_dies_after_its_handlers_filled_the_item_ends[60]",
    ),
    Mutant(
        row=48,
        name="an event without room for another count stays leased",
        file="dynamodb/delivering/recovery.py",
        text="(*_forms(RECOVER_FAILED), RECOVER_IN_PLACE)",
        replacement="_forms(RECOVER_FAILED)",
        test=f"{_LIMIT}::test_stored_items_of_all_kinds_end_and_delay_no_other_event[PROCESSING-full]",
    ),
    Mutant(
        row=48,
        name="a due item without room for a claim is tried for ever",
        file="dynamodb/delivering/settle.py",
        text=", *await self._fail_without_room(without_room)]",
        replacement="]",
        test=f"{_LIMIT}::test_stored_items_of_all_kinds_end_and_delay_no_other_event[PENDING-full]",
    ),
    Mutant(
        row=49,
        name="one row that cannot be written ends a recovery",
        file="dynamodb/delivering/recovery.py",
        text="if isinstance(result, StorageError) and concerns_all(result) and not self.reset and not self.failed:",
        replacement="if isinstance(result, StorageError):",
        test=f"{_LIMIT}::test_rows_that_cannot_be_written_are_reported_and_all_others_are_recovered_at_once[12]",
    ),
    Mutant(
        row=50,
        name="a dead letter with an odd time is of the epoch",
        file="dynamodb/items/codec.py",
        text="        limit = _LAST if since_epoch > 0 else _FIRST\n",
        replacement="        limit = _EPOCH\n",
        test="tests/dynamodb/test_dead_letters.py::test_dead_letters_with_any_sort_key_are_listed_counted_and_redriven[single]",
    ),
    Mutant(
        row=51,
        name="any item is the reply to a claim",
        file="dynamodb/transport/responses.py",
        text='        return bool(item["id"]["S"] == event_id and item["claimToken"]["S"] == token)\n',
        replacement="        return True\n",
        test=f"{_NO_CLAIM}[open_client-another token-batch]",
    ),
    Mutant(
        row=52,
        name="the repeats of the client are not seen in batches",
        file="dynamodb/conditional/statements.py",
        text="                if repeated:\n",
        replacement="                if False:\n",
        test="tests/reliability/test_lost_responses.py::test_release_and_redrive_whose_responses_are_lost_are_known_to_be_applied[plain-batch]",
    ),
    Mutant(
        row=53,
        name="a wrong type of a key does not name verify_table",
        file="dynamodb/transport/classify.py",
        text='    "type mismatch for index key",\n',
        replacement="",
        test=f"{_KEYS}[a time of another type-batch]",
    ),
    Mutant(
        row=54,
        name="a forgotten start is not told",
        file="start_reminder.py",
        text="call_later(PATIENCE_SECONDS, ",
        replacement="call_later(1000 * PATIENCE_SECONDS, ",
        test="tests/worker/test_start_reminder.py::test_forgotten_start_is_reported_once[emit]",
    ),
    Mutant(
        row=55,
        name="an event waits for its handler from each give-back on",
        file="worker/handling/outcomes.py",
        text="unhandled_since=since)",
        replacement="unhandled_since=now)",
        test="tests/worker/test_unhandled_events.py::test_event_is_failed_once_it_was_unhandled_for_the_timeout[90.0-True]",
    ),
    Mutant(
        row=57,
        name="all handlers are the same",
        file="dynamodb/delivering/handler_digests.py",
        text="if theirs != _digest(*names):",
        replacement='if theirs == b"":',
        test="tests/dynamodb/test_different_handlers.py::test_worker_warns_of_an_earlier_one_with_other_handlers",
    ),
    Mutant(
        row=58,
        name="a chain that has not ended is done",
        file="middleware.py",
        text="if step.is_unfinished:",
        replacement="if False:",
        test=f"{_CHAINS}::test_handler_middleware_that_does_not_wait_for_the_rest_has_failed",
    ),
    Mutant(
        row=59,
        name="the rest of a chain runs twice",
        file="middleware.py",
        text="if self.violation is not None:",
        replacement="if False:",
        test=f"{_CALLS}::test_handler_middleware_calls_the_handler_once",
    ),
    Mutant(
        row=60,
        name="middleware makes another event of it",
        file="middleware.py",
        text="if self._chain.keeps_identity and",
        replacement="if False and",
        test=f"{_CALLS}::test_handler_middleware_may_not_change_type_or_id",
    ),
    Mutant(
        row=64,
        name="an event that is claimed on emit has native numbers",
        file="dynamodb/emitting/publish_result.py",
        text="decode_claim(put.item, numbers=self.numbers)",
        replacement='decode_claim(put.item, numbers="native")',
        test="tests/contract/test_publishing.py::test_handlers_get_numbers_by_the_mode_however_an_event_came_to_them",
    ),
    Mutant(
        row=67,
        name="errors are told without a bound",
        file="worker/reports.py",
        text="while self._waiting and self._telling < CONCURRENT_REPORTS:",
        replacement="while self._waiting:",
        test="tests/worker/test_reports.py::test_hundreds_of_failures_are_reported_a_hundred_at_once",
    ),
    Mutant(
        row=73,
        name="children that wait for different times are the same",
        file="delivery.py",
        text="fingerprint_of((type, payload, described, delay, deliver_at))",
        replacement="fingerprint_of((type, payload, described))",
        test="tests/worker/test_failed_children.py::test_child_that_differs_in_anything_is_another_one[first2-second2]",
    ),
    Mutant(
        row=74,
        name="a middleware that raises leaves its handler running",
        file="middleware.py",
        text="            await step.end()\n            raise",
        replacement="            step.abandon()\n            raise",
        test=f"{_CHAINS}::test_handler_does_not_run_during_its_retry_when_a_middleware_raises",
    ),
    Mutant(
        row=78,
        name="a worker that stops leaves its announcement",
        file="worker/worker.py",
        text="await self._outbox.retire()",
        replacement="pass",
        test="tests/dynamodb/test_different_handlers.py::test_worker_that_stopped_is_not_warned_of",
    ),
)
