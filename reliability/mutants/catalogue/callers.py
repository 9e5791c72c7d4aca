"""Mutants for faults of callers and their clients, in the order of the table in docs/reliability.md."""

from __future__ import annotations

from typing import Final

from reliability.mutants.mutant import Mutant

_AT_ITS_END: Final = (
    "tests/worker/test_stop_at_any_step.py::test_block_that_is_cancelled_at_any_step_of_its_end_leaves_no_worker"
)
_GIVEN_UP: Final = "tests/dynamodb/test_abandoned_emits.py"
_CANCELLED: Final = (
    "tests/dynamodb/test_cancelled_claims.py::test_emit_that_is_cancelled_in_any_step_before_a_stop_leaves_no_claim"
)
_LOOPS: Final = "tests/reliability/test_event_loops.py"
_CLOSED_CLIENTS: Final = "tests/reliability/test_closed_clients.py"
_REPEATED: Final = "tests/dynamodb/test_repeated_emits.py"

CALLERS: Final = (
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
        text="                await self._queue.written(self._queue.start(chunk, result), chunk)\n",
        replacement="                await self._write_chunk(chunk, result)\n",
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
        file="dynamodb/timing.py",
        text="emit_group: float = 0.03\n",
        replacement="emit_group: float = 30.0\n",
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
        test=f"{_CLOSED_CLIENTS}::test_client_that_was_closed_before_its_first_call_is_not_opened_again[True]",
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
        file="dynamodb/conditional/rendering.py",
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
        row=111,
        name="an emit is given up while its request begins",
        file="dynamodb/emitting/emit_queue.py",
        text="                put.emit_claim.sending()\n",
        replacement="                pass\n",
        test=f"{_CANCELLED}[side_by_side-True]",
    ),
    Mutant(
        row=111,
        name="a list is given up while its requests begin",
        file="dynamodb/emitting/publish.py",
        text="            emit_claim.sending()\n",
        replacement="            pass\n",
        test=f"{_CANCELLED}[as_a_list-False]",
    ),
    Mutant(
        row=111,
        name="nobody looks after a claim that comes after the end of its write",
        file="worker/claim_on_emit.py",
        text="                self._release(claim)\n",
        replacement="                pass\n",
        test="tests/worker/test_late_acknowledgements.py::test_claim_that_comes_after_its_write_and_after_the_stop_is_released",
    ),
    Mutant(
        row=112,
        name="a drain waits for a worker that has ended",
        file="waiters.py",
        text="                    raise failure\n",
        replacement="                    pass\n",
        test="tests/worker/test_waiting.py::test_drain_raises_the_error_of_a_worker_that_has_ended[meanwhile-None]",
    ),
)
