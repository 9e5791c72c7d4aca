"""Events with an ordering key: what an operator sees of a line, and lets go on."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any

import pytest

from dynamodb_outbox import Event, EventStatus, InMemoryOutbox
from dynamodb_outbox.adapter import Released
from dynamodb_outbox.cli.doctor.finding import Mark
from reliability.proxy import Proxy
from tests.cli.conftest import Cli
from tests.cli.doctoring import Patient, PatientSettings
from tests.cli.stored import dead_letters, emit, fail
from tests.dynamodb.lines import line_of
from tests.fakes import Clock

KEY = "order-17"


@pytest.fixture
def blocked(outbox: InMemoryOutbox) -> InMemoryOutbox:
    """An outbox with a key that a dead letter blocks, and in which two events wait."""
    fail(outbox, Event("order.paid", id="a", ordering_key=KEY))
    emit(outbox, *(Event("order.paid", id=each, ordering_key=KEY) for each in ("b", "c")))
    return outbox


def test_blocking_event_is_shown_with_the_commands_that_unblock_its_key(cli: Cli, blocked: InMemoryOutbox) -> None:
    ran = cli("events", "show", "a")
    assert [line for line in ran.out.splitlines() if line.startswith(("ordering key", "waiting behind"))] == [
        "ordering key       order-17",
        "waiting behind it  2",
    ]
    assert re.search(r"to deliver it again in its place:  dynamodb-outbox .* failed retry a\n", ran.err)
    assert re.search(r"to let its key go on without it:   dynamodb-outbox .* failed skip a\n", ran.err)
    record = cli("failed", "show", "a", "-o", "json").json
    assert (record["ordering_key"], record["blocks_key"], record["waits_for"]) == (KEY, True, None)
    assert record["waiting_behind"] == {"at_least": 2, "is_exact": True}


def test_event_without_a_handler_says_who_waits_for_it(cli: Cli, outbox: InMemoryOutbox) -> None:
    emit(outbox, Event("order.paid", id="a", ordering_key=KEY))

    async def release() -> None:
        (claim,) = await outbox.claim(1)
        assert await outbox.settle([(claim, Released(unhandled_since=outbox.options.clock()))]) == [None]

    asyncio.run(release())
    ran = cli("events", "show", "a")
    assert "no worker had a handler for 'order.paid' so far: start the service that has one; the later " in ran.err
    assert re.search(r"no handler since   \S+T\S+ \(", ran.out)


def test_waiting_event_names_what_it_waits_for(cli: Cli, blocked: InMemoryOutbox) -> None:
    ran = cli("events", "show", "c")
    assert "state         waiting (QUEUED)\n" in ran.out
    assert "waits for     a\n" in ran.out
    assert re.search(r"to see what it waits for:  dynamodb-outbox .* events show a\n", ran.err)
    record = cli("events", "show", "c", "-o", "json").json
    assert (record["state"], record["status"], record["waits_for"]) == ("waiting", "QUEUED", "a")
    assert (record["blocks_key"], record["waiting_behind"]) == (False, None)


def test_key_leads_to_what_its_events_wait_for(cli: Cli, blocked: InMemoryOutbox) -> None:
    shown = cli("events", "show", "--ordering-key", KEY)
    assert shown.out == cli("events", "show", "a").out
    assert "failed skip a\n" in shown.err
    record = cli("events", "show", "--ordering-key", KEY, "-o", "json").json
    assert (record["id"], record["blocks_key"], record["waiting_behind"]["at_least"]) == ("a", True, 2)
    other = cli("events", "show", "--ordering-key", "order-18")
    assert (other.code, "no event of the ordering key 'order-18' waits" in other.err) == (1, True)


@pytest.mark.parametrize(
    "given", [(), ("a", "--ordering-key", KEY), ("--ordering-key", ""), ("--ordering-key", "k" * 1025)]
)
def test_event_is_shown_by_its_id_or_by_a_key(cli: Cli, blocked: InMemoryOutbox, given: tuple[str, ...]) -> None:
    assert cli("events", "show", *given).code == 2


def test_lists_have_a_column_for_keys_if_an_event_has_one(cli: Cli, outbox: InMemoryOutbox) -> None:
    dead_letters(outbox, 1)
    assert "ORDERING KEY" not in cli("failed", "list").out
    fail(outbox, Event("order.paid", id="a", ordering_key=KEY))
    out = cli("failed", "list").out
    assert "ORDERING KEY" in out
    (row,) = [line for line in out.splitlines() if line.startswith("a ")]
    assert KEY in row
    assert "failed, blocks its key" in row
    exported = {line["id"]: line["blocks_key"] for line in cli("failed", "export", "-").lines}
    assert exported == {"a": True, "dead-0": False}


def test_groups_count_the_keys_that_they_block(cli: Cli, outbox: InMemoryOutbox) -> None:
    dead_letters(outbox, 2)
    assert "BLOCKED KEYS" not in cli("failed", "groups").out
    fail(outbox, Event("order.placed", id="a", ordering_key=KEY))
    (group,) = cli("failed", "groups", "-o", "json").json["groups"]
    assert (group["count"], group["blocked_keys"]) == (3, 1)
    assert "BLOCKED KEYS" in cli("failed", "groups").out


def test_skip_lets_the_key_go_on(cli: Cli, blocked: InMemoryOutbox) -> None:
    ran = cli("failed", "skip", "a", "b", "gone", "-o", "json")
    assert ran.code == 1
    assert ran.json["done"] == ["a"]
    assert ran.json["refused"] == [{"id": "b", "status": "PENDING"}, {"id": "gone", "status": None}]
    assert cli("events", "show", "b", "-o", "json").json["state"] == "due"
    again = cli("failed", "skip", "a")
    assert again.out == "0 events set aside\na: not changed, it is FAILED, and blocks no ordering key\n"
    shown = cli("events", "show", "a")
    assert "to deliver it again at the end of its line:  " in shown.err
    assert "failed skip" not in shown.err
    assert cli("failed", "retry", "a").out == "1 event will be delivered again\n"
    assert cli("events", "show", "a", "-o", "json").json["waits_for"] == "b"


def test_skip_wants_ids_and_can_be_tried(cli: Cli, blocked: InMemoryOutbox) -> None:
    assert cli("failed", "skip").code == 2
    assert cli("failed", "skip", "a", "--dry-run", "-o", "json").json["ids"] == ["a"]
    assert "1 event; nothing was changed" in cli("failed", "skip", "a", "--dry-run").err
    ran = cli("failed", "skip", "a", "b", "--dry-run")
    assert (ran.code, ran.out) == (1, "a\n")
    assert "b: would not be changed, it is QUEUED, and blocks no ordering key\n" in ran.err
    assert cli("failed", "skip", "a").out == "1 event set aside\n"


def test_retry_of_all_dead_letters_unblocks_keys(cli: Cli, blocked: InMemoryOutbox) -> None:
    dead_letters(blocked, 1)
    assert sorted(cli("failed", "retry", "--all", "--yes", "-o", "json").json["done"]) == ["a", "dead-0"]
    assert cli("events", "show", "a", "-o", "json").json["state"] == "due"


def test_replacement_keeps_the_key_and_the_place(cli: Cli, blocked: InMemoryOutbox) -> None:
    made = cli("failed", "replace", "a", '{"n": 2}', "--reason", "wrong", "--yes", "-o", "json").json
    record = cli("events", "show", made["id"], "-o", "json").json
    assert (record["ordering_key"], record["waiting_behind"]["at_least"]) == (KEY, 2)
    assert cli("events", "show", "b", "-o", "json").json["waits_for"] == made["id"]
    replaced = cli("failed", "replace", "c", '{"n": 3}', "--reason", "wrong", "--yes", "-o", "json").json
    assert cli("events", "show", replaced["id"], "-o", "json").json["waits_for"] == made["id"]


def test_status_tells_how_many_keys_are_blocked(cli: Cli, blocked: InMemoryOutbox) -> None:
    dead_letters(blocked, 1)
    ran = cli("status")
    assert "1 ordering key blocked by dead letters: later events of such a key wait" in ran.out
    assert cli("status", "-o", "json").json["sample"]["blocked_keys"] == {"at_least": 1, "is_exact": True}
    cli("failed", "skip", "a")
    assert "ordering key" not in cli("status").out


def test_metrics_count_blocked_keys(cli: Cli, blocked: InMemoryOutbox) -> None:
    out = cli("metrics", "--once").out
    (line,) = [line for line in out.splitlines() if line.startswith("dynamodb_outbox_blocked_keys{")]
    assert line.endswith(" 1")


def test_emit_takes_an_ordering_key(cli: Cli, outbox: InMemoryOutbox) -> None:
    made = cli("emit", "order.paid", "--id", "a", "--ordering-key", KEY, "-o", "json").json
    assert made["ordering_key"] == KEY
    cli("emit", "order.paid", "--id", "b", "--ordering-key", KEY)
    assert cli("events", "show", "b", "-o", "json").json["waits_for"] == "a"
    assert cli("emit", "order.paid", "--id", "c", "-o", "json").json["ordering_key"] is None
    late = cli("emit", "order.paid", "--ordering-key", KEY, "--in", "5m")
    assert late.code == 2
    assert "later events of the key would wait for it" in late.err
    assert asyncio.run(outbox.count(EventStatus.PENDING)) == 2


# The doctor


@pytest.fixture
async def patient(proxy: Proxy, local_client: Any, table_name: str) -> Patient:
    settings = PatientSettings(table=table_name, region="us-east-1", endpoint_url=proxy.endpoint)
    made = Patient(local_client, proxy, table_name, settings)
    await made.create()
    return made


async def test_doctor_names_what_blocks_a_key_and_how_to_unblock_it(patient: Patient) -> None:
    clock = Clock()
    clock.now = patient_time(minutes_ago=90)
    line = line_of(patient.client, patient.table, clock)
    await line.emit("a", "b", "c")
    await line.block()
    await line.emit("x", key="order-18")
    clock.now = patient_time(minutes_ago=5)
    await line.block(key="order-18")
    await patient.store_dead_letter("ship: KeyError: 'a'", errorType={"S": "KeyError"}, errorHandler={"S": "ship"})
    first = await patient.first()
    assert (first.check, first.mark) == ("blocked keys", Mark.WARN)
    assert first.title == "2 ordering keys blocked: the later events of a key wait for a dead letter"
    assert first.evidence[0] == (
        "'order-17' is blocked by order.paid a, 1 h 30 min ago; 2 wait behind it; mail: refused"
    )
    assert first.evidence[1].startswith("'order-18' is blocked by order.paid x, 5 min")
    assert first.repair[0].endswith("events show a")
    assert first.repair[2].endswith("failed retry a x")
    assert first.repair[-1].endswith("failed skip a x")


async def test_doctor_recognises_a_worker_of_a_release_without_keys(patient: Patient) -> None:
    line = line_of(patient.client, patient.table, Clock())
    await line.emit("a", "b")
    await line.block()
    error = "the stored item 'dynamodb-outbox-key/order-17' cannot be read as an event: the attribute 'type' is missing"
    await line.be("FAILED", lastError={"S": error}, errorType={"S": "StoredEventError"})
    first = await patient.first()
    assert first.check == "blocked keys"
    assert first.cause == "a worker of a release before ordering keys has taken the queue of the key for an event"
    assert first.repair[1] == "stop each worker of the older release, then retry it in its place:"


async def test_doctor_is_content_with_dead_letters_that_block_nothing(patient: Patient) -> None:
    await patient.store_dead_letter("ship: KeyError: 'a'")
    diagnosis = await patient.diagnose()
    (found,) = [finding for finding in diagnosis.findings if finding.check == "blocked keys"]
    assert (found.mark, found.title) == (Mark.OK, "none of the latest 1 dead letters blocks an ordering key")


def patient_time(*, minutes_ago: float) -> float:
    return time.time() - 60 * minutes_ago
