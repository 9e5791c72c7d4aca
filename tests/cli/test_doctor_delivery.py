"""Why events wait: the doctor names each cause first, on DynamoDB Local and on moto."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from dynamodb_outbox import DynamoDBOutbox, Event, OutboxEventBus
from dynamodb_outbox.cli.app import facts_of
from dynamodb_outbox.cli.doctor.checks.delivery import check_busy
from dynamodb_outbox.cli.doctor.diagnosis import diagnose
from dynamodb_outbox.cli.doctor.finding import Mark
from dynamodb_outbox.cli.doctor.gathering import EXAMPLES
from dynamodb_outbox.cli.exits import Refusal
from dynamodb_outbox.stored_events import Count
from reliability.proxy import running_proxy
from tests.backends import open_client
from tests.cli.doctoring import MINUTE, Patient, PatientSettings, millis
from tests.dynamodb.queues import Line


@pytest.fixture(params=["local", "moto"])
async def patient(request: pytest.FixtureRequest, table_name: str) -> AsyncIterator[Patient]:
    """A table in which nothing is wrong yet."""
    endpoint = request.getfixturevalue(f"{request.param}_endpoint")
    async with running_proxy(endpoint) as proxy, open_client(endpoint) as client:
        settings = PatientSettings(table=table_name, region="us-east-1", endpoint_url=proxy.endpoint)
        yield Patient(client, proxy, table_name, settings)


async def test_no_worker_runs(patient: Patient) -> None:
    await patient.create()
    await patient.store(since=10 * MINUTE)
    first = await patient.first()
    assert (first.check, first.mark) == ("workers", Mark.FAIL)
    assert first.title == "no worker runs"
    assert "10 min" in first.evidence[0]


async def test_the_last_worker_has_died(patient: Patient) -> None:
    await patient.create()
    await patient.store_running(since=20 * MINUTE, lease=-19 * MINUTE)
    first = await patient.first()
    assert first.check == "workers"
    assert first.title == "the workers have died, or hang"
    assert first.repair[0].endswith("without one, the process hangs: restart it")
    assert any("nobody has recovered" in line for line in first.evidence)
    assert "1 event of dead workers: web-1/7/1" in first.evidence


async def test_the_last_worker_has_died_with_a_window(patient: Patient) -> None:
    await patient.create()
    await patient.dead_window(ended=10 * MINUTE)
    first = await patient.first()
    assert first.check == "workers"
    assert any("window" in line for line in first.evidence)


async def test_a_window_of_another_region(patient: Patient) -> None:
    await patient.create()
    await patient.dead_window(ended=10 * MINUTE, region="eu-west-1")
    first = await patient.first()
    assert (first.check, first.mark) == ("windows", Mark.FAIL)
    assert "eu-west-1" in first.repair[0]


async def test_a_worker_that_runs_is_no_fault(patient: Patient) -> None:
    outbox = await patient.create()
    bus = OutboxEventBus(outbox)

    @bus.on("order.placed")
    async def ship(event: Event) -> None:
        await anyio.sleep(0)

    async with bus:
        await bus.emit("order.placed")
        await bus.drain(timeout=30)
        diagnosis = await patient.diagnose()
    workers = {finding.check: finding for finding in diagnosis.findings}["workers"]
    assert workers.mark is Mark.OK
    assert not diagnosis.has_failed


async def test_all_events_are_on_hold(patient: Patient) -> None:
    outbox = await patient.create()
    await patient.store(since=10 * MINUTE)
    await outbox.hold(None, reason="the bank is down", by="ada@bastion", until=None)
    first = await patient.first()
    assert (first.check, first.mark) == ("holds", Mark.FAIL)
    assert "ada@bastion" in first.evidence[0]
    assert "the bank is down" in first.evidence[0]
    assert first.evidence[1] == "0 events HELD, and 1 event due"
    assert first.repair[0].endswith("resume --all")


async def test_a_type_is_on_hold(patient: Patient) -> None:
    outbox = await patient.create()
    await patient.store("HELD", since=10 * MINUTE)
    await outbox.hold("order.placed", reason="a defect", by="ada@bastion", until=None)
    first = await patient.first()
    assert first.check == "holds"
    assert first.repair[0].endswith("resume --type order.placed")


async def test_no_worker_has_a_handler_for_the_type(patient: Patient) -> None:
    await patient.create()
    event_id = await patient.store(since=-5, unhandledSince=millis(30 * MINUTE), type={"S": "order.shiped"})
    first = await patient.first()
    assert (first.check, first.mark) == ("handlers", Mark.FAIL)
    assert "'order.shiped'" in first.title
    assert event_id in first.repair[-1]


async def test_no_worker_runs_and_an_event_was_unhandled_before(patient: Patient) -> None:
    await patient.create()
    await patient.store(since=10 * MINUTE, unhandledSince=millis(30 * MINUTE), type={"S": "order.shiped"})
    diagnosis = await patient.diagnose()
    assert [finding.check for finding in diagnosis.findings[:2]] == ["workers", "handlers"]


async def test_handlers_hang(patient: Patient) -> None:
    await patient.create()
    await patient.store(since=10 * MINUTE)
    for _ in range(5):
        await patient.store_running(since=20 * MINUTE, type={"S": "report.made"})
    first = await patient.first()
    assert (first.check, first.mark) == ("slow handlers", Mark.FAIL)
    assert "'report.made'" in first.title
    assert any("web-1/7/1" in line for line in first.evidence)
    assert "hold --type report.made" in first.repair[0]


async def test_handlers_run_for_nearly_the_whole_lease(patient: Patient) -> None:
    await patient.create()
    await patient.store(since=10 * MINUTE)
    for _ in range(5):
        await patient.store_running(since=20, lease=10, type={"S": "report.made"})
    first = await patient.first()
    assert (first.check, first.mark) == ("slow handlers", Mark.FAIL)


async def test_workers_cannot_keep_up(patient: Patient) -> None:
    await patient.create()
    await patient.store(since=10 * MINUTE)
    for _ in range(5):
        await patient.store_running(since=1)
    # The machine may pause before the doctor reads.
    patient.assumed = replace(patient.assumed, lease=300)
    patient.timing = replace(patient.timing, interval=0.1)
    first = await patient.first()
    assert (first.check, first.mark) == ("load", Mark.FAIL)
    assert any("later" in line for line in first.evidence)
    assert "workers are busy with 'order.placed'" in first.evidence


async def test_workers_that_catch_up_need_nothing(patient: Patient) -> None:
    await patient.create()
    for _ in range(4):
        await patient.store(since=10 * MINUTE)
    for _ in range(5):
        await patient.store_running(since=1)
    patient.assumed = replace(patient.assumed, lease=300)
    evidence = await patient.examine()
    assert evidence.sample is not None
    marks: list[Mark] = []
    for left in (3, 2, 0):
        evidence.later = replace(evidence.sample, due=Count(at_least=left, is_exact=True))
        marks.append(check_busy(evidence).mark)
    assert marks == [Mark.FAIL, Mark.OK, Mark.OK]


async def test_many_events_wait_for_a_retry_of_one_error(patient: Patient) -> None:
    await patient.create()
    for _ in range(5):
        failed = {"lastError": {"S": "bill: BankError: down"}, "errorType": {"S": "BankError"}}
        await patient.store(since=-60 * MINUTE, retryCount={"N": "2"}, errorHandler={"S": "bill"}, **failed)
    first = await patient.first()
    assert (first.check, first.mark) == ("retries", Mark.WARN)
    assert "BankError" in first.title
    assert first.title.startswith("5 events")
    assert "bill" in first.cause
    assert first.repair[0].startswith("undo the release if it began with one; else hold ")
    assert "hold --type order.placed" in first.repair[1]
    assert first.repair[2].endswith("resume --type order.placed")
    assert f"Do: {first.repair[0]} {first.repair[1]}" in (await patient.diagnose()).sentence()
    for _ in range(EXAMPLES):
        await patient.store(since=-60 * MINUTE, retryCount={"N": "2"}, errorHandler={"S": "bill"}, **failed)
    assert (await patient.first()).title.startswith(f"{EXAMPLES} or more events")


async def test_emitters_with_more_shards_than_the_workers(patient: Patient) -> None:
    await patient.create(shards=2)
    patient.settings = replace(patient.settings, shards=2)
    await patient.store(since=10 * MINUTE, statusShard={"S": "PENDING#5"})
    first = await patient.first()
    assert (first.check, first.mark) == ("shards", Mark.FAIL), first
    assert "shard 5" in first.title
    await patient.store(since=10 * MINUTE, statusShard={"S": "PENDING#3"})
    first = await patient.first()
    assert "the shards 3, 5;" in first.title
    assert "--shards 6 doctor" in first.repair[-1]


async def test_workers_with_fewer_shards_than_the_emitters(patient: Patient) -> None:
    await patient.create(shards=8)
    patient.settings = replace(patient.settings, shards=8)
    for shard in range(4, 8):
        await patient.store(since=10 * MINUTE, statusShard={"S": f"PENDING#{shard}"})
    await patient.store_running(since=1, statusShard={"S": "PROCESSING#1"})
    first = await patient.first()
    assert (first.check, first.mark) == ("shards", Mark.FAIL), first
    assert "workers have shards=4" in first.cause


@pytest.mark.parametrize(("events", "expected"), [(12, "shards"), (3, "workers")])
async def test_idle_workers_with_fewer_shards_show_no_sign_of_life(
    patient: Patient, *, events: int, expected: str
) -> None:
    # Three events may all be in the last two of four shards by chance, and then no worker runs; twelve hardly.
    await patient.create(shards=4)
    patient.settings = replace(patient.settings, shards=4)
    for number in range(events):
        await patient.store(since=10 * MINUTE, statusShard={"S": f"PENDING#{2 + number % 2}"})
    assert (await patient.first()).check == expected


async def test_a_scan_finds_events_that_are_not_in_the_index(patient: Patient) -> None:
    await patient.create()
    event_id = await patient.store(gsiSortKey=None)
    first = await patient.first(deep=True)
    assert (first.check, first.mark) == ("lost events", Mark.FAIL)
    assert event_id in first.evidence[1]


@pytest.mark.cases(1, thorough=2)
@pytest.mark.parametrize("shards", [1, 4])
async def test_a_scan_reports_no_queue_of_an_ordering_key_unless_no_worker_can_find_it(
    patient: Patient, shards: int
) -> None:
    outbox = await patient.create(shards=shards)
    patient.settings = replace(patient.settings, shards=shards)
    line = Line(patient.client, outbox)
    await line.emit(*(f"e{number}" for number in range(35)))
    findings = {each.check: each for each in (await patient.diagnose(deep=True)).findings}
    assert findings["lost events"].mark is Mark.OK
    lost = {"gsiSortKey": None} if shards == 1 else {"statusShard": {"S": "PENDING#7"}}
    await line.change(**lost)
    found = {each.check: each for each in (await patient.diagnose(deep=True)).findings}["lost events"]
    assert found.mark is Mark.FAIL
    assert found.evidence[1] == "for example e0"


async def test_a_scan_finds_the_events_of_a_window_that_was_deleted(patient: Patient) -> None:
    await patient.create()
    worker = await patient.dead_window(ended=-10 * MINUTE)
    lost = await worker.put(worker.unlisted(200))
    assert {each.check: each for each in (await patient.diagnose(deep=True)).findings}["lost events"].mark is Mark.OK
    await patient.client.delete_item(TableName=patient.table, Key={"id": {"S": worker.window_id}})
    first = await patient.first(deep=True)
    assert (first.check, first.mark) == ("lost events", Mark.FAIL)
    assert lost in first.evidence[1]


async def test_a_probe_that_nobody_takes(patient: Patient) -> None:
    await patient.create()
    patient.timing = replace(patient.timing, probe=0.5)
    evidence = await patient.examine(emit_probe=True)
    first = diagnose(evidence).first
    assert first is not None
    assert (first.check, first.mark) == ("probe", Mark.FAIL)
    assert evidence.probe is not None
    stored = await patient.client.get_item(TableName=patient.table, Key={"id": {"S": evidence.probe.event_id}})
    assert stored["Item"]["status"] == {"S": "DISCARDED"}


@pytest.mark.parametrize("has_handler", [True, False])
async def test_a_probe_that_a_worker_takes(patient: Patient, *, has_handler: bool) -> None:
    patient.timing = replace(patient.timing, probe=60)
    outbox = await patient.create(poll_interval=0.1)
    bus = OutboxEventBus(outbox, on_error=lambda error: None)

    async def handle(event: Event) -> None:
        await anyio.sleep(0)

    bus.on("outbox.doctor" if has_handler else "order.placed", handle)
    async with bus:
        diagnosis = await patient.diagnose(emit_probe=True)
    probe = {finding.check: finding for finding in diagnosis.findings}["probe"]
    assert probe.mark is Mark.OK
    assert ("delivered" if has_handler else "no handler") in probe.title


APP = """
from contextlib import asynccontextmanager
from dynamodb_outbox import DynamoDBOutbox, OutboxEventBus

@asynccontextmanager
async def make_bus():
    options = dict(table_name={table!r}, endpoint_url={endpoint!r}, region_name="us-east-1")
    async with DynamoDBOutbox.connect(**options) as outbox:
        bus = OutboxEventBus(outbox)

        @bus.on("order.placed")
        async def ship(event):
            pass

        yield bus
"""


@pytest.mark.parametrize(
    ("event_type", "table", "expected"),
    [
        ("order.placed", None, None),
        ("order.paid", None, "'order.paid'"),
        ("order.placed", "other-table", "other-table"),
    ],
)
async def test_the_bus_of_the_app(
    patient: Patient, app_folder: Path, *, event_type: str, table: str | None, expected: str | None
) -> None:
    await patient.create()
    await DynamoDBOutbox(patient.client, table_name="other-table").create_table()
    await patient.store(since=5, type={"S": event_type})
    name = f"shop_{time.monotonic_ns()}"
    app = APP.format(table=table or patient.table, endpoint=patient.proxy.endpoint)
    (app_folder / f"{name}.py").write_text(app)
    patient.settings = replace(patient.settings, app=f"{name}:make_bus")
    evidence = await patient.examine()
    evidence.app = await facts_of(f"{name}:make_bus")
    found = {finding.check: finding for finding in diagnose(evidence).findings}["app"]
    if expected is None:
        assert found.mark is Mark.OK, found
    else:
        assert diagnose(evidence).first == found
        assert found.mark is Mark.FAIL
        assert expected in found.title


@pytest.fixture
def app_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of which modules are imported."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("spec", ["shop", "no_such_module:bus", "json:no_such_name", "json:__name__"])
async def test_an_app_that_cannot_be_loaded(spec: str) -> None:
    with pytest.raises(Refusal, match="--app"):
        await facts_of(spec)
