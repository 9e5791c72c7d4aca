"""Dead letters, versions and the report: the doctor names the cause of dead letters, and writes it down."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from dynamodb_outbox.adapter import LEASE_EXPIRED
from dynamodb_outbox.cli.doctor.checks import CHECKS, RISKS
from dynamodb_outbox.cli.doctor.checks.service import check_versions
from dynamodb_outbox.cli.doctor.checks.table import check_time_to_live
from dynamodb_outbox.cli.doctor.diagnosis import NOT_PROVEN, diagnose
from dynamodb_outbox.cli.doctor.evidence import Assumed, Evidence
from dynamodb_outbox.cli.doctor.finding import Mark
from dynamodb_outbox.cli.settings import Settings
from dynamodb_outbox.dynamodb.inspecting.clock import Exchange, skew_of
from dynamodb_outbox.dynamodb.inspecting.facts import TimeToLive
from reliability.proxy import Proxy
from tests.cli.doctoring import VERSIONS, Patient, PatientSettings


@pytest.fixture
async def patient(proxy: Proxy, local_client: Any, table_name: str) -> Patient:
    settings = PatientSettings(table=table_name, region="us-east-1", endpoint_url=proxy.endpoint)
    made = Patient(local_client, proxy, table_name, settings)
    await made.create()
    return made


async def test_dead_letters_of_one_handler(patient: Patient) -> None:
    parts = {"errorType": {"S": "KeyError"}, "errorHandler": {"S": "ship"}}
    for _ in range(3):
        await patient.store_dead_letter("ship: KeyError: 'a'", **parts)
    await patient.store_dead_letter("bill: ValueError: no", errorType={"S": "ValueError"}, errorHandler={"S": "bill"})
    diagnosis = await patient.diagnose()
    first = diagnosis.first
    assert first is not None
    assert (first.check, first.mark) == ("dead letters", Mark.WARN)
    assert "KeyError in ship" in first.title
    assert "failed retry --group" in first.repair[1]
    assert diagnosis.sentence().endswith(f"Do: once its cause is fixed: {first.repair[1]}")


async def test_poison_events(patient: Patient) -> None:
    event_id = await patient.store_dead_letter(LEASE_EXPIRED)
    first = await patient.first()
    assert (first.check, first.mark) == ("poison events", Mark.WARN)
    assert event_id in first.repair[0]


async def test_items_of_another_program(patient: Patient) -> None:
    error = "the attribute 'payload' is not of the type M"
    ids = [await patient.store_dead_letter(error, payload={"S": "text"}) for _ in range(2)]
    first = await patient.first()
    assert (first.check, first.mark) == ("unreadable items", Mark.WARN)
    assert any(event_id in first.evidence[0] for event_id in ids)
    assert all(event_id in first.repair[3] for event_id in ids)


async def test_dead_letters_without_a_handler(patient: Patient) -> None:
    await patient.store_dead_letter("there is no handler for the type", errorType={"S": "NoHandlerError"})
    first = await patient.first()
    assert (first.check, first.mark) == ("failed without a handler", Mark.WARN)
    assert "failed retry --type order.placed" in first.repair[-1]


async def test_a_fault_comes_before_the_dead_letters_that_it_has_made(patient: Patient) -> None:
    await patient.store_dead_letter("ship: KeyError: 'a'", errorType={"S": "KeyError"}, errorHandler={"S": "ship"})
    await patient.store(since=600)
    diagnosis = await patient.diagnose()
    assert [finding.check for finding in diagnosis.findings[:2]] == ["workers", "dead letters"]


def empty(**parts: Any) -> Evidence:
    return Evidence(settings=Settings(table="t-1"), assumed=Assumed(), now=datetime.now(UTC), **parts)


def test_an_old_sdk() -> None:
    found = check_versions(empty(versions=VERSIONS | {"aiobotocore": "2.5.0"}))
    assert (found.check, found.mark) == ("versions", Mark.WARN)
    assert check_versions(empty(versions=VERSIONS | {"aiobotocore": "3.1.0"})).mark is Mark.OK
    assert check_versions(empty(versions=VERSIONS | {"aiobotocore": "not installed"})).mark is Mark.SKIP


@pytest.mark.parametrize("check", [*CHECKS, *RISKS], ids=lambda check: check.__name__)
def test_no_check_needs_evidence_that_is_missing(check: Callable[[Evidence], Any]) -> None:
    found = check(empty(versions=VERSIONS))
    assert found.mark in (Mark.OK, Mark.SKIP)
    assert found.title


def test_the_names_of_checks_are_unique() -> None:
    names = [check(empty(versions=VERSIONS)).check for check in (*CHECKS, *RISKS)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("sent", "seconds", "date", "skew"),
    [
        (7.2, 0.1, "Thu, 01 Jan 2026 00:00:07 GMT", 0.0),
        (7.95, 0.1, "Thu, 01 Jan 2026 00:00:08 GMT", 0.0),
        (10.0, 0.1, "Thu, 01 Jan 2026 00:00:05 GMT", 4.0),
        (5.0, 0.5, "Thu, 01 Jan 2026 00:00:10 GMT", -4.5),
        (5.0, 0.5, None, None),
        (5.0, 0.5, "nonsense", None),
    ],
)
def test_skew_is_what_the_dates_prove(sent: float, seconds: float, date: str | None, skew: float | None) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    found = skew_of([Exchange(sent=start + sent, seconds=seconds, date=date)])
    assert found == (None if skew is None else pytest.approx(skew))


async def test_the_command_writes_the_diagnosis(patient: Patient, run_in_thread: Any) -> None:
    await patient.store(since=600)
    options = ["--table", patient.table, "--region", "us-east-1", "--endpoint-url", patient.proxy.endpoint]
    ran = await run_in_thread("doctor", *options, "--interval", "0")
    assert ran.code == 1
    lines = ran.out.splitlines()
    assert lines[0] == "FAIL  workers: no worker runs"
    assert lines[-1].startswith("Most likely cause: no worker runs: ")
    ran = await run_in_thread("doctor", *options, "--interval", "0", "--output", "json")
    assert ran.code == 1
    assert json.loads(ran.out)["most_likely"] == "workers"
    assert json.loads(ran.out)["summary"] == lines[-1]


async def test_the_command_exits_with_1_for_warnings_only_if_it_is_strict(patient: Patient, run_in_thread: Any) -> None:
    await patient.store_dead_letter("ship: KeyError: 'a'")
    options = ["--table", patient.table, "--region", "us-east-1", "--endpoint-url", patient.proxy.endpoint]
    assert (await run_in_thread("doctor", *options)).code == 0
    assert (await run_in_thread("doctor", *options, "--strict")).code == 1


async def test_the_command_says_which_checks_were_not_made_and_why(patient: Patient, run_in_thread: Any) -> None:
    options = ["--table", patient.table, "--region", "us-east-1", "--endpoint-url", patient.proxy.endpoint]
    lines = (await run_in_thread("doctor", *options)).out.splitlines()
    (line,) = (line for line in lines if " were not made: " in line)
    assert "lost events (not looked for: add --deep)" in line
    assert "probe (not made: add --emit-probe)" in line
    assert any(each.endswith(" checks are ok; --all shows them") for each in lines)
    assert " were not made: " not in (await run_in_thread("doctor", *options, "--all")).out


@pytest.mark.parametrize("has_terminal", [True, False])
def test_commands_need_no_answer_where_nobody_can_give_one(
    monkeypatch: pytest.MonkeyPatch, *, has_terminal: bool
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: has_terminal, raising=False)
    (command,) = check_time_to_live(empty(time_to_live=TimeToLive(status="DISABLED", attribute=None))).repair
    assert command.endswith("table ttl --enable" if has_terminal else "table ttl --enable --yes")


async def test_the_command_without_findings_says_what_it_has_not_seen(patient: Patient, run_in_thread: Any) -> None:
    options = ["--table", patient.table, "--region", "us-east-1", "--endpoint-url", patient.proxy.endpoint]
    ran = await run_in_thread("doctor", *options)
    # The machine may be slow, and the doctor may say so.
    assert "Nothing is wrong" not in ran.out or "look for them with --deep" in ran.out
    assert "--deep" in NOT_PROVEN


def test_the_command_without_a_table_that_answers(cli: Any) -> None:
    ran = cli("doctor", "--table", "t-1", "--region", "us-east-1", "--endpoint-url", "http://127.0.0.1:9")
    assert ran.code == 1
    assert ran.out.startswith("FAIL  endpoint: DynamoDB does not answer")


def test_a_diagnosis_has_the_worst_first() -> None:
    evidence = replace(empty(versions=VERSIONS | {"aiobotocore": "1.0"}))
    assert diagnose(evidence).findings[0].check == "versions"
