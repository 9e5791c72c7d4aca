"""The parts of the soak that decide: whose reply was lost, whether a process grows, and how many events wait."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from dynamodb_outbox.dynamodb.conditional.insert import insert_statement
from dynamodb_outbox.dynamodb.conditional.rendering import statement, update_item, update_transact_item
from dynamodb_outbox.dynamodb.conditional.transitions import CLAIM, COMPLETE, RETRY, Write
from reliability.history import EmitAcknowledged, Outcome, Record, ReplyLost, Sampled, Settled
from reliability.journal import Journal
from reliability.proxy import CUT_AFTER, CUT_BEFORE, RESET_AFTER, Proxy, Recorded, Reply
from reliability.soak.leak_check import GROWTH_A_MINUTE, growth
from reliability.soak.ledger import Ledger
from reliability.soak.network_faults import Kind, NetworkFaults, event_ids_in

VALUES: dict[str, Any] = {
    "token": {"S": "t"},
    "now": {"N": "1"},
    "deadline": {"N": "2"},
    "seen": {"N": "1"},
    "due": {"N": "3"},
    "error": {"S": "?"},
    "error_type": {"S": "ValueError"},
    "error_handler": {"S": "bill"},
    "worker": {"S": "host/1/3f9a2c"},
    "retries": {"N": "1"},
}


@pytest.mark.parametrize("transition", [CLAIM, COMPLETE, RETRY], ids=lambda transition: transition.name)
def test_events_of_a_request_are_found_however_it_is_sent(transition: Any) -> None:
    writes = [Write(transition, event_id, VALUES) for event_id in ("a", "b")]
    statements = [statement(write, table_name="events", returning=True) for write in writes]
    assert event_ids_in(Recorded("BatchExecuteStatement", {"Statements": statements})) == ["a", "b"]
    assert event_ids_in(Recorded("UpdateItem", update_item(writes[0], table_name="events", returning=True))) == ["a"]
    entries = [{"Update": update_transact_item(writes[0], table_name="events")}, {"Put": {"Item": {"id": {"S": "c"}}}}]
    assert event_ids_in(Recorded("TransactWriteItems", {"TransactItems": entries})) == ["a", "c"]
    puts = {"events": [{"PutRequest": {"Item": {"id": {"S": event_id}}}} for event_id in ("a", "b")]}
    assert event_ids_in(Recorded("BatchWriteItem", {"RequestItems": puts})) == ["a", "b"]
    assert event_ids_in(Recorded("PutItem", {"Item": {"id": {"S": "a"}}})) == ["a"]
    assert event_ids_in(Recorded("DeleteItem", {"Key": {"id": {"S": "a"}}})) == ["a"]
    inserts = [insert_statement({"type": {"S": "t"}, "id": {"S": each}}, table_name="events") for each in ("a", "b")]
    assert event_ids_in(Recorded("BatchExecuteStatement", {"Statements": inserts})) == ["a", "b"]
    assert event_ids_in(Recorded("Query", {})) == []


@pytest.mark.parametrize(
    ("kind", "expected", "applied"),
    [
        (Kind.LOST_REPLIES, (CUT_AFTER, RESET_AFTER), True),
        (Kind.CUTS, (CUT_BEFORE,), False),
        (Kind.OUTAGE, (CUT_BEFORE,), False),
    ],
)
def test_lost_responses_are_recorded_with_their_events(kind: Kind, expected: tuple[str, ...], applied: bool) -> None:
    written: list[Record] = []
    faults = NetworkFaults(Proxy(), None, written.append, now=lambda: 1.0, chance=Random(1))
    request = Recorded("PutItem", {"Item": {"id": {"S": "a"}}})
    assert faults.treat(request) is None
    faults.begin(kind)
    actions = {faults.treat(request) for _ in range(100)} - {None}
    assert actions == set(expected)
    lost = {record for record in written if isinstance(record, ReplyLost)}
    assert lost == {ReplyLost(at=1.0, operation="PutItem", event_ids=("a",), applied=applied)}
    faults.end()
    assert faults.treat(request) is None


def test_unprocessed_items_come_back_as_they_were_sent() -> None:
    faults = NetworkFaults(Proxy(), None, lambda record: None, now=lambda: 1.0, chance=Random(1))
    faults.begin(Kind.UNPROCESSED)
    puts = {"events": [{"PutRequest": {"Item": {"id": {"S": "a"}}}}]}
    replies = [faults.treat(Recorded("BatchWriteItem", {"RequestItems": puts})) for _ in range(50)]
    assert Reply(200, {"UnprocessedItems": puts}) in replies
    assert all(faults.treat(Recorded("PutItem", {"Item": {"id": {"S": "a"}}})) is None for _ in range(50))


async def test_some_statements_are_refused_and_the_others_carried_out() -> None:
    class Backend:
        async def batch_execute_statement(self, *, Statements: list[Any]) -> Any:  # noqa: N803 - the API's name
            return {"Responses": [{"Item": {"id": {"S": each}}} for each in Statements]}

    faults = NetworkFaults(Proxy(), Backend(), lambda record: None, now=lambda: 1.0, chance=Random(1))
    faults.begin(Kind.STATEMENTS)
    sent = [str(n) for n in range(20)]
    actions = [faults.treat(Recorded("BatchExecuteStatement", {"Statements": sent})) for _ in range(10)]
    replies = [await action for action in actions if action is not None]
    assert replies
    for reply in replies:
        executed = {n for n, response in enumerate(reply.body["Responses"]) if "Item" in response}
        assert 0 < len(executed) < len(sent)
        assert all(reply.body["Responses"][n]["Item"]["id"]["S"] == str(n) for n in executed)
        assert {response["Error"]["Code"] for n, response in enumerate(reply.body["Responses"]) if n not in executed}


def test_index_lags_for_queries_that_bring_rows() -> None:
    faults = NetworkFaults(Proxy(), None, lambda record: None, now=lambda: 1.0, chance=Random(1))
    faults.begin(Kind.INDEX_LAG)
    query = {"ExpressionAttributeValues": {":status": {"S": "PENDING"}}}
    treated = (faults.treat(Recorded("Query", query)) for _ in range(50))
    lags = [lag for lag in treated if lag is not None]
    rows = {"Items": [{"id": {"S": str(n)}} for n in range(20)]}
    assert any(len(lag(rows)["Items"]) < len(rows["Items"]) for lag in lags), "none is missing"
    assert any(lag({"Items": []})["Items"] for lag in lags), "none is stale"
    assert faults.treat(Recorded("PutItem", {})) is None
    assert all(faults.treat(Recorded("Query", {**query, "Select": "COUNT"})) is None for _ in range(20))


def samples(memory: Callable[[float], float], **facts: int) -> list[Record]:
    """Two minutes of a process, a sample each second."""
    usual = {"tasks": 20, "connections": 1, **facts}
    return [Sampled(at=float(at), worker="w", memory=round(memory(at)), **usual) for at in range(120)]


def test_growth_is_found_and_warming_up_is_not_growth() -> None:
    megabytes = 2**20
    assert list(growth(samples(lambda at: 60 * megabytes))) == []
    assert list(growth(samples(lambda at: (60 + min(at, 10)) * megabytes))) == []
    assert list(growth(samples(lambda at: 60 * megabytes + at * GROWTH_A_MINUTE / 120))) == []
    assert "MB within" in "".join(growth(samples(lambda at: 60 * megabytes + at * GROWTH_A_MINUTE / 30)))
    assert "tasks" in "".join(growth(samples(lambda at: 60 * megabytes, tasks=1000)))
    assert "connections" in "".join(growth(samples(lambda at: 60 * megabytes, connections=1000)))
    # Those that are killed early show nothing.
    assert list(growth(itertools.islice(samples(lambda at: at * 2**30), 20))) == []


def test_ledger_follows_what_is_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    ledger = Ledger(tmp_path / "journal.jsonl")
    ledger.follow()
    for event_id in ("a", "b"):
        journal(EmitAcknowledged(at=1.0, event_id=event_id))
    ledger.follow()
    assert ledger.waiting == 2
    journal(Settled(at=2.0, event_id="a", worker="w", token="t", outcome=Outcome.COMPLETE, attempt=1))
    ledger.follow()
    ledger.follow()
    assert (ledger.waiting, ledger.outcomes["complete"]) == (1, 1)
