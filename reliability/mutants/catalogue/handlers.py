"""Mutants for faults of handlers, middleware and deploys, in the order of the table in docs/reliability.md."""

from __future__ import annotations

from typing import Final

from reliability.mutants.mutant import Mutant

_CHAINS: Final = "tests/worker/middleware/test_chains.py"
_CALLS: Final = "tests/worker/middleware/test_calls.py"

HANDLERS: Final = (
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
        text="decode_claim(put.item, numbers=self.numbers, shared_lease=lease)",
        replacement='decode_claim(put.item, numbers="native", shared_lease=lease)',
        test="tests/contract/test_publishing.py::test_handlers_get_numbers_by_the_mode_however_an_event_came_to_them",
    ),
    Mutant(
        row=67,
        name="errors are told without a bound",
        file="worker/reports.py",
        text="while self._waiting and self._running < CONCURRENT_REPORTS:",
        replacement="while self._waiting:",
        test="tests/worker/test_reports.py::test_hundreds_of_failures_are_reported_a_hundred_at_once",
    ),
    Mutant(
        row=73,
        name="children that wait for different times are the same",
        file="delivery.py",
        text="fingerprint_of((name, payload, described, ordering_key, delay, deliver_at))",
        replacement="fingerprint_of((name, payload, described, ordering_key))",
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
    Mutant(
        row=138,
        name="a transaction with other contents counts as the one that was applied before",
        file="dynamodb/emitting/refused_transaction.py",
        text="            if record.done.is_other:\n",
        replacement="            if False:\n",
        test="tests/dynamodb/test_delivery_transactions.py"
        "::test_second_transaction_after_one_that_was_applied_tells_whether_it_is_written[local-1]",
    ),
)
