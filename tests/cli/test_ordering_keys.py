"""Events with an ordering key: what an operator sees of a line, and lets go on."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import replace
from typing import Any

import pytest

from dynamodb_outbox import Event, EventStatus, InMemoryOutbox
from dynamodb_outbox.adapter import Released
from dynamodb_outbox.cli.commands.metrics import exposition
from dynamodb_outbox.cli.doctor.finding import Mark
from dynamodb_outbox.cli.verdict import judge
from dynamodb_outbox.dynamodb.ordering.queue import queue_id
from dynamodb_outbox.health import HealthStatus
from dynamodb_outbox.stored_events import Count, Sample
from reliability.proxy import Proxy
from tests.cli.conftest import Cli
from tests.cli.doctoring import Patient, PatientSettings, millis
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
    # Time passes between the two commands.
    first, second = (re.sub(r"[\d.]+ s ago", "ago", out) for out in (shown.out, cli("events", "show", "a").out))
    assert first == second
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
    assert again.out.startswith("0 events set aside\na: not changed, it is FAILED: only a dead letter that blocks its ")
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
    assert (
        "b: would not be changed, it is QUEUED: only a dead letter that blocks its ordering key is skipped" in ran.err
    )
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
    replaced = cli("failed", "replace", "b", '{"n": 3}', "--reason", "wrong", "--yes")
    assert re.fullmatch(r"b is replaced by \S+ at the end of its line\n", replaced.out)
    assert cli("events", "show", replaced.out.split()[4], "-o", "json").json["waits_for"] == made["id"]


def test_replacement_of_an_event_that_was_set_aside_goes_to_the_end(cli: Cli, blocked: InMemoryOutbox) -> None:
    cli("failed", "skip", "a")
    ran = cli("failed", "replace", "a", "{}", "--reason", "wrong", "--yes")
    assert ran.out.endswith(" at the end of its line\n")
    assert cli("events", "show", ran.out.split()[4], "-o", "json").json["waits_for"] == "b"


@pytest.mark.parametrize("dry_run", [True, False])
def test_event_that_may_not_be_replaced_is_refused_before_anything_is_asked(
    cli: Cli, blocked: InMemoryOutbox, *, dry_run: bool
) -> None:
    cli("failed", "discard", "a", "--reason", "wrong", "--yes")
    ran = cli("failed", "replace", "a", "{}", "--reason", "wrong", *(["--dry-run"] if dry_run else []))
    assert (ran.code, ran.err) == (1, "error: the event 'a' is not replaced: it is DISCARDED\n")


def test_dead_letters_that_block_their_keys_are_selected(cli: Cli, blocked: InMemoryOutbox) -> None:
    dead_letters(blocked, 3)
    (line,) = cli("failed", "list", "--blocks-key", "-o", "jsonl").out.splitlines()
    assert '"id":"a"' in line
    assert cli("failed", "retry", "--blocks-key", "--dry-run", "-o", "json").json["ids"] == ["a"]
    ran = cli("failed", "retry", "--blocks-key", "--yes", "-o", "json")
    assert ran.json["done"] == ["a"]


@pytest.mark.parametrize("command", ["retry", "skip", "discard"])
@pytest.mark.parametrize("event_id", ["", "x" * 2049])
def test_id_that_no_event_can_have_is_refused(cli: Cli, outbox: InMemoryOutbox, command: str, event_id: str) -> None:
    reason = ["--reason", "wrong", "--yes"] if command == "discard" else []
    ran = cli("failed", command, *reason, "--", event_id)
    assert ran.code == 2
    assert "no event can have the id" in ran.err


def test_status_tells_how_many_keys_are_blocked(cli: Cli, blocked: InMemoryOutbox) -> None:
    dead_letters(blocked, 1)
    ran = cli("status")
    assert "1 ordering key blocked by dead letters: later events of such a key wait" in ran.out
    assert cli("status", "-o", "json").json["sample"]["blocked_keys"] == {"at_least": 1, "is_exact": True}
    cli("failed", "skip", "a")
    assert "ordering key" not in cli("status").out


UNKNOWN = Count(at_least=0, is_exact=False)


def unknown(outbox: InMemoryOutbox) -> Sample:
    """A sample of more dead letters than it counts, none of which blocks a key."""
    sample = asyncio.run(outbox.sample())
    return replace(sample, failed=Count(at_least=1_000, is_exact=False), blocked_keys=UNKNOWN)


def test_keys_that_may_be_blocked_are_not_called_free(outbox: InMemoryOutbox) -> None:
    judgement = judge(unknown(outbox), [])
    assert judgement.status is HealthStatus.DEGRADED
    assert judgement.reasons[-1] == (
        "none of the latest 1,000 dead letters blocks an ordering key, but older ones may: they were not counted"
    )
    text = "".join(exposition(unknown(outbox), "events"))
    assert "dynamodb_outbox_blocked_keys{" not in text


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


async def test_doctor_finds_blocked_keys_behind_many_newer_dead_letters(patient: Patient) -> None:
    clock = Clock()
    clock.now = patient_time(minutes_ago=90)
    for number in range(5):
        line = line_of(patient.client, patient.table, clock)
        await line.emit(f"a{number}", key=f"order-{number}")
        await line.block(key=f"order-{number}")
        clock.now += 1
    for _ in range(60):
        await patient.store_dead_letter("ship: KeyError: 'a'")
    (found,) = [each for each in (await patient.diagnose()).findings if each.check == "blocked keys"]
    assert found.title.startswith("5 ordering keys blocked")
    assert [line.split()[0] for line in found.evidence[:3]] == ["'order-0'", "'order-1'", "'order-2'"]
    assert found.evidence[3].startswith("and 2 more keys: ")
    assert found.evidence[3].endswith("failed list --blocks-key")
    assert found.repair[2].endswith("failed retry a0 a1 a2 a3 a4")


async def test_doctor_finds_events_whose_queue_was_deleted(patient: Patient) -> None:
    line = line_of(patient.client, patient.table, Clock())
    await line.emit("a", "b")
    await line.emit("x", "y", key="order-18")
    await patient.client.delete_item(TableName=patient.table, Key={"id": {"S": queue_id("order-18")}})
    diagnosis = await patient.diagnose(deep=True)
    assert [each.mark for each in diagnosis.findings if each.check == "lost events"] == [Mark.OK]
    patient.timing = replace(patient.timing, clock=lambda: time.time() + 120)  # their emits are over
    (found,) = [each for each in (await patient.diagnose(deep=True)).findings if each.check == "lost events"]
    assert (found.mark, found.title) == (Mark.WARN, "2 events with an ordering key in no line")
    assert found.evidence[1] in ("for example x", "for example y")


async def test_doctor_says_which_key_waits_for_a_handler(patient: Patient) -> None:
    line = line_of(patient.client, patient.table, Clock())
    await line.emit("a", "b", "c")
    await line.be("PENDING", unhandledSince=millis(60))
    (found,) = [each for each in (await patient.diagnose()).findings if each.check == "handlers"]
    assert found.evidence[1] == "for example a, for which 2 events of its ordering key 'order-17' wait"


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
