"""Mutants for unusual items and requests, in the order of the table in docs/reliability.md."""

from __future__ import annotations

from typing import Final

from reliability.mutants.mutant import Mutant

_KEYS: Final = (
    "tests/dynamodb/test_setup_warnings.py::test_request_that_does_not_fit_the_keys_of_the_table_names_verify_table"
)
_LIMIT: Final = "tests/reliability/test_items_at_the_limit.py"
_NO_CLAIM: Final = (
    "tests/reliability/test_fuzzed_responses.py::test_claim_whose_response_is_not_a_claim_is_repeated_under_its_token"
)

ITEMS: Final = (
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
        file="dynamodb/conditional/recover.py",
        text="    return tuple(fitted(transition, room) for room in _ROOMS)\n",
        replacement="    return (transition,)\n",
        test=f"{_LIMIT}::test_event_whose_worker_dies_after_its_handlers_filled_the_item_ends[60]",
    ),
    Mutant(
        row=48,
        name="an event without room for another count stays leased",
        file="dynamodb/conditional/recover.py",
        text="(*_forms(RECOVER_FAILED), RECOVER_IN_PLACE)",
        replacement="_forms(RECOVER_FAILED)",
        test=f"{_LIMIT}::test_stored_items_of_all_kinds_end_and_delay_no_other_event[PROCESSING-full]",
    ),
    Mutant(
        row=48,
        name="a due item without room for a claim is tried for ever",
        file="dynamodb/delivering/unusable.py",
        text=", *await self._fail_without_room(without_room)]",
        replacement="]",
        test=f"{_LIMIT}::test_stored_items_of_all_kinds_end_and_delay_no_other_event[PENDING-full]",
    ),
    Mutant(
        row=118,
        name="an unreadable event leaves its queue though it was not marked",
        file="dynamodb/delivering/unusable.py",
        text=" if is_marked(mark)]",
        replacement="]",
        test="tests/dynamodb/test_ordered_lost_replies.py"
        "::test_unreadable_front_that_could_not_be_marked_stays_in_its_queue[batch]",
    ),
    Mutant(
        row=49,
        name="one row that cannot be written ends a recovery",
        file="dynamodb/delivering/recovered.py",
        text="            if not concerns_all(error):\n",
        replacement="            if True:\n                raise error\n            if False:\n",
        test=f"{_LIMIT}::test_rows_that_cannot_be_written_are_reported_and_all_others_are_recovered_at_once[12]",
    ),
    Mutant(
        row=50,
        name="a dead letter with an odd time is of the epoch",
        file="dynamodb/items/failed.py",
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
)
