"""Mutants for faults of DynamoDB, of networks and of processes, in the order of the table in docs/reliability.md."""

from __future__ import annotations

from typing import Final

from reliability.mutants.mutant import Mutant

_RACES: Final = "tests/reliability/test_races.py"
_LOST: Final = "tests/reliability/test_lost_responses.py"
_ONCE: Final = f"{_LOST}::test_handler_runs_once_though_each_response_is_lost_once"
_THROTTLING: Final = "tests/reliability/test_throttling.py"
_INDEX: Final = "tests/reliability/test_index.py"
_STORED: Final = "tests/reliability/test_stored_items.py"
_REPEATED_REQUESTS: Final = "tests/dynamodb/test_repeated_requests.py"
_WIRE: Final = "tests/dynamodb/test_fast_json.py"
_UNKNOWN: Final = "tests/dynamodb/test_maybe_applied.py"
_DOUBT: Final = "test_events_of_a_write_that_was_not_answered_may_be_stored_whatever_stops_their_repeat"
_RECOVERY_AND_DEAD_LETTERS: Final = "tests/contract/test_recovery_and_dead_letters.py"
_CLAIMING_AND_SETTLING: Final = "tests/contract/test_claiming_and_settling.py"

_REPEATED_PUBLISH: Final = f"{_REPEATED_REQUESTS}::test_event_handled_meanwhile_survives_the_repeat_of_its_publish"

_TRANSITIONS: Final = "dynamodb/conditional/transitions.py"

FAULTS: Final = (
    Mutant(
        row=1,
        name="a claim does not know its own token",
        file=_TRANSITIONS,
        text='"(status = :PENDING AND gsiSortKey = :seen) OR (status = :PROCESSING AND claimToken = :token)"',
        replacement='"status = :PENDING AND gsiSortKey = :seen"',
        test=f"{_ONCE}[connect-single-2-claim-cut after]",
    ),
    Mutant(
        row=2,
        name="a batch is repeated with other tokens",
        file="dynamodb/conditional/rendering.py",
        text='    values = {**_STATUS_VALUES, **write.values, "id": {"S": write.event_id}}\n',
        replacement=(
            '    values = {**_STATUS_VALUES, **write.values, "id": {"S": write.event_id}}\n'
            '    if "seen" in values:\n'
            '        values["token"] = {"S": __import__("uuid").uuid4().hex}\n'
        ),
        test=f"{_ONCE}[connect-batch-30-claim-cut after]",
    ),
    Mutant(
        row=3,
        name="a completion is refused after itself",
        file=_TRANSITIONS,
        text='condition="claimToken = :token AND status <> :FAILED"',
        replacement='condition="claimToken = :token AND status = :PROCESSING"',
        test=f"{_ONCE}[connect-single-2-complete-cut after]",
    ),
    Mutant(
        row=4,
        name="a renewal makes an item that is gone",
        file=_TRANSITIONS,
        text=(
            '    set=("status = :PROCESSING", "gsiSortKey = :deadline"),\n'
            '    condition="claimToken = :token AND status = :PROCESSING",\n'
        ),
        replacement=(
            '    set=("status = :PROCESSING", "gsiSortKey = :deadline"),\n'
            '    condition="attribute_not_exists(claimToken) OR claimToken = :token",\n'
        ),
        test=f"{_STORED}::test_no_write_about_a_claim_brings_back_an_item_that_was_deleted[single]",
    ),
    Mutant(
        row=5,
        name="an ambiguous batch of puts goes again without conditions",
        file="dynamodb/emitting/publish.py",
        text="                if error.maybe_applied:\n",
        replacement="                if not error.maybe_applied:\n",
        test=f"{_REPEATED_PUBLISH}[open_client-cut after]",
    ),
    Mutant(
        row=5,
        name="an emit whose batch was not answered is told that nothing is stored",
        file="dynamodb/emitting/publish.py",
        text="put.maybe_stored = True",
        replacement="put.maybe_stored = False",
        test=f"{_UNKNOWN}::{_DOUBT}[2-ThrottlingException]",
    ),
    Mutant(
        row=5,
        name="a batch that is sent late is given up early",
        file="dynamodb/emitting/publish.py",
        text="within=2 * self._timing.batch_response,",
        replacement="within=0.2 * self._timing.batch_response,",
        test=f"{_UNKNOWN}::test_batch_that_is_sent_late_has_its_whole_time_to_be_answered",
    ),
    Mutant(
        row=8,
        name="a recovered lease counts no attempt",
        file=_TRANSITIONS,
        text="if_not_exists(retryCount, :zero) + :one",
        replacement="if_not_exists(retryCount, :zero) + :zero",
        test=f"{_RECOVERY_AND_DEAD_LETTERS}::test_event_that_kills_every_worker_ends_failed[local-batch]",
    ),
    Mutant(
        row=9,
        name="a late completion is accepted though another worker holds the claim",
        file=_TRANSITIONS,
        text='condition="claimToken = :token AND status <> :FAILED"',
        replacement='condition="status <> :FAILED"',
        test=f"{_CLAIMING_AND_SETTLING}::test_settle_of_a_lost_lease_is_refused_and_changes_nothing[local-batch]",
    ),
    Mutant(
        row=10,
        name="a handler runs on when its lease is over",
        file="worker/handling/lease.py",
        text="return self.ends - self.margin",
        replacement="return self.ends + self.margin",
        test="tests/worker/test_leases.py::"
        "test_renewals_that_fail_have_the_handler_cancelled_while_the_lease_holds[error0]",
    ),
    Mutant(
        row=13,
        name="what is throttled is repeated without a pause",
        file="dynamodb/transport/retrying.py",
        text="delay = self._random() * min(MAX_DELAY, FIRST_DELAY * 2.0**self.attempts)",
        replacement="delay = 0.0",
        test=f"{_THROTTLING}::test_settle_is_repeated_while_its_lease_holds_and_not_for_ever",
    ),
    Mutant(
        row=14,
        name="settles queue behind claims",
        file="dynamodb/conditional/writes.py",
        text="{urgent: anyio.CapacityLimiter(CONCURRENT_CALLS) for urgent in (True, False)}",
        replacement="dict.fromkeys((True, False), anyio.CapacityLimiter(CONCURRENT_CALLS))",
        test=f"{_THROTTLING}::test_settles_do_not_queue_behind_claims_that_are_throttled[batch]",
    ),
    Mutant(
        row=15,
        name="one throttled statement has the whole batch repeated",
        file="dynamodb/conditional/statements.py",
        text="        self.left = again\n",
        replacement="        self.left = again and self.left\n",
        test=f"{_THROTTLING}::"
        "test_statements_refused_inside_of_a_200_are_repeated_and_only_those[claim-ThrottlingError]",
    ),
    Mutant(
        row=16,
        name="unprocessed items are forgotten",
        file="dynamodb/transport/responses.py",
        text='requests = response["UnprocessedItems"].get(table_name, [])',
        replacement='requests = response["UnprocessedItems"].get("", [])',
        test=f"{_THROTTLING}::test_items_that_come_back_unprocessed_are_named_in_the_end",
    ),
    Mutant(
        row=18,
        name="a claim trusts a stale row",
        file=_TRANSITIONS,
        text="(status = :PENDING AND gsiSortKey = :seen) OR",
        replacement="(status = :PENDING) OR",
        test=f"{_REPEATED_REQUESTS}::test_stale_row_of_a_retried_event_is_not_claimed_before_its_time",
    ),
    Mutant(
        row=18,
        name="a recovery trusts a stale row",
        file=_TRANSITIONS,
        text='"status = :PROCESSING AND gsiSortKey = :seen AND (attribute_not_exists',
        replacement='"status = :PROCESSING AND (attribute_not_exists',
        test=f"{_INDEX}::test_stale_lease_resets_no_event_that_was_settled_or_renewed",
    ),
    Mutant(
        row=23,
        name="a cancelled worker leaves its settles",
        file="worker/settle_queue.py",
        text="anyio.CancelScope(shield=True)",
        replacement="anyio.CancelScope(shield=False)",
        test=f"{_RACES}::test_worker_that_is_cancelled_in_a_settle_leaves_the_event_settled_or_leased[1]",
    ),
    Mutant(
        row=26,
        name="an empty key is sent",
        file="dynamodb/items/values.py",
        text="    if not key:\n",
        replacement="    if key is None:\n",
        test="tests/unit/test_values.py::test_refused_value_is_named_by_its_path",
    ),
    Mutant(
        row=27,
        name="an error that makes the item too large is not cut",
        file="dynamodb/conditional/fitted_writes.py",
        text="        for room in (Room.FOR_SHORT_ERROR, Room.FOR_NO_ERROR, Room.FOR_NOTHING):\n",
        replacement="        for room in ():\n",
        test="tests/dynamodb/test_round_trip.py::test_the_largest_and_the_deepest_event_can_be_delivered",
    ),
    Mutant(
        row=28,
        name="an empty reply is taken for a yes",
        file="dynamodb/transport/responses.py",
        text='response["UnprocessedItems"].get(',
        replacement='response.get("UnprocessedItems", {}).get(',
        test=f"{_LOST}::test_response_that_does_not_say_what_was_stored_is_not_taken_for_a_yes",
    ),
    Mutant(
        row=28,
        name="the checksum of a reply is not looked at",
        file="dynamodb/transport/fast_json.py",
        text="if checksum is not None and",
        replacement="if checksum is None and",
        test=f"{_WIRE}::test_the_client_of_connect_refuses_changed_responses",
    ),
    Mutant(
        row=31,
        name="a conflict of transactions is final",
        file="dynamodb/transport/classify.py",
        text='    "TransactionConflict": ErrorKind.THROTTLED,\n',
        replacement='    "TransactionConflict": ErrorKind.FATAL,\n',
        test=f"{_THROTTLING}::test_conflict_with_a_transaction_of_the_user_counts_no_attempt[batch]",
    ),
    Mutant(
        row=32,
        name="a redrive leaves the old token",
        file=_TRANSITIONS,
        text='    remove=("claimToken", "unhandledSince"),\n',
        replacement='    remove=("unhandledSince",),\n',
        test=f"{_RACES}::test_redrive_that_meets_the_settle_of_a_recovered_event_has_one_winner[batch]",
    ),
    Mutant(
        row=34,
        name="an item without a count had a retry",
        file="dynamodb/items/codec.py",
        text="    except (TypeError, ValueError):\n        return 0\n",
        replacement="    except (TypeError, ValueError):\n        return 1\n",
        test=f"{_STORED}::test_items_of_an_older_release_are_delivered_recovered_and_redriven[batch]",
    ),
)
