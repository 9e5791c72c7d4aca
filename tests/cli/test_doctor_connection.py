"""Faults of the connection and of permissions: the doctor names each of them first."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from dynamodb_outbox.cli.doctor.finding import Mark
from dynamodb_outbox.dynamodb.delivering.announcements import WORKERS_ID
from reliability.proxy import Proxy, Reply, refused
from tests.cli.doctoring import Patient, PatientSettings


@pytest.fixture
async def patient(proxy: Proxy, local_client: Any, table_name: str) -> Patient:
    settings = PatientSettings(table=table_name, region="us-east-1", endpoint_url=proxy.endpoint)
    made = Patient(local_client, proxy, table_name, settings)
    await made.create()
    return made


def denies(*operations: str, code: str = "AccessDeniedException") -> Any:
    """Let the proxy refuse operations as IAM does."""
    text = "User: arn:aws:sts::123456789012:assumed-role/on-call/ada is not authorized to perform this action"
    return lambda request: refused(code, text) if request.operation in operations else None


async def test_a_healthy_outbox_has_no_findings(patient: Patient) -> None:
    diagnosis = await patient.diagnose(deep=True)
    assert diagnosis.first is None, diagnosis.first
    assert not diagnosis.has_failed
    assert "Nothing is wrong" in diagnosis.sentence()
    marks = {finding.check: finding.mark for finding in diagnosis.findings}
    not_made = {check for check, mark in marks.items() if mark is Mark.SKIP}
    # DynamoDB Local has no backups.
    assert not_made == {"app", "probe", "protection"}


async def test_missing_credentials(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    first = await patient.first()
    assert (first.check, first.mark) == ("credentials", Mark.FAIL)
    assert "no credentials" in first.title


async def test_expired_credentials(patient: Patient) -> None:
    patient.proxy.rule = lambda request: refused("ExpiredTokenException", "The security token is expired")
    first = await patient.first()
    assert first.check == "credentials"
    assert "they have expired" in first.cause
    assert any("get-caller-identity" in command for command in first.repair)


async def test_unknown_credentials(patient: Patient) -> None:
    patient.proxy.rule = lambda request: refused("UnrecognizedClientException", "The security token is invalid")
    first = await patient.first()
    assert first.check == "credentials"
    assert "does not know" in first.cause


async def test_a_login_that_is_over(patient: Patient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config"
    config.write_text(SSO_PROFILE)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("HOME", str(tmp_path))
    patient.settings = replace(patient.settings, profile="on-call")
    first = await patient.first()
    assert (first.check, first.mark) == ("credentials", Mark.FAIL)
    assert "they have expired" in first.cause
    assert first.repair[0].startswith("aws sso login")
    assert "--profile on-call" in first.repair[0]


SSO_PROFILE = """
[profile on-call]
region = us-east-1
sso_session = company
sso_account_id = 123456789012
sso_role_name = on-call

[sso-session company]
sso_region = us-east-1
sso_start_url = https://company.example.org/start
"""


async def test_nothing_listens_at_the_endpoint(patient: Patient) -> None:
    patient.settings = replace(patient.settings, endpoint_url="http://127.0.0.1:9")
    first = await patient.first()
    assert first.check == "endpoint"
    assert "http://127.0.0.1:9" in " ".join(first.repair)


async def test_something_else_listens_at_the_endpoint(patient: Patient) -> None:
    patient.proxy.rule = lambda request: Reply(503, b"<html>nginx</html>")
    assert (await patient.first()).check == "endpoint"


async def test_dynamodb_never_answers(patient: Patient) -> None:
    async def hang() -> None:
        await asyncio.sleep(60)

    patient.timing = replace(patient.timing, call=1.0)
    patient.proxy.rule = lambda request: hang()
    assert (await patient.first()).check == "endpoint"


@pytest.mark.parametrize(("ahead", "mark"), [(10, Mark.FAIL), (-10, Mark.FAIL), (3, Mark.WARN)])
async def test_a_clock_that_is_wrong(patient: Patient, ahead: float, mark: Mark) -> None:
    patient.assumed = replace(patient.assumed, lease=60)
    patient.timing = replace(patient.timing, clock=lambda: time.time() + ahead)
    first = await patient.first()
    assert (first.check, first.mark) == ("clock", mark)
    assert ("ahead of" if ahead > 0 else "behind") in first.title


async def test_a_date_of_dynamodb_that_is_behind(patient: Patient) -> None:
    patient.proxy.headers = {"Date": formatdate(time.time() - 30, usegmt=True)}
    first = await patient.first()
    assert (first.check, first.mark) == ("clock", Mark.FAIL)
    assert "ahead of" in first.title


async def test_a_clock_of_an_emitter_that_is_ahead(patient: Patient) -> None:
    occurs = datetime.now(UTC) + timedelta(minutes=150)
    await patient.store(since=-7_200, occurredAt={"S": occurs.isoformat()})
    late = await patient.store(since=-7_200, retryCount={"N": "1"})
    first = await patient.first()
    assert (first.check, first.mark) == ("clock", Mark.WARN)
    assert "up to 2 h 29 min ahead" in first.title or "up to 2 h 30 min ahead" in first.title
    assert late not in str(first)


async def test_reads_that_are_slow(patient: Patient) -> None:
    async def wait(request: Any) -> None:
        await asyncio.sleep(0.5)

    patient.assumed = replace(patient.assumed, slow=0.25)
    # Only the reads that are measured: a worker, and so the outbox, gives up a read of the holds after a second.
    patient.proxy.rule = lambda request: wait(request) if WORKERS_ID in str(request.body) else None
    first = await patient.first()
    assert (first.check, first.mark) == ("latency", Mark.WARN)


@pytest.mark.parametrize("operation", ["Query", "BatchGetItem"])
async def test_an_operator_without_a_permission(patient: Patient, operation: str) -> None:
    await patient.store(since=600)
    patient.proxy.rule = denies(operation)
    first = await patient.first()
    assert (first.check, first.mark) == ("permissions", Mark.FAIL)
    assert f"dynamodb:{operation}" in first.title
    assert "template iam --role operator" in first.repair[0]


@pytest.mark.parametrize(
    ("role", "operation", "action"),
    [
        ("worker", "UpdateItem", "dynamodb:UpdateItem"),
        ("worker", "DeleteItem", "dynamodb:DeleteItem"),
        ("emit", "PutItem", "dynamodb:PutItem"),
        ("emit", "BatchWriteItem", "dynamodb:BatchWriteItem"),
    ],
)
async def test_a_service_without_a_permission(patient: Patient, role: Any, operation: str, action: str) -> None:
    patient.assumed = replace(patient.assumed, role=role)
    patient.proxy.rule = denies(operation)
    first = await patient.first()
    assert (first.check, first.mark) == ("permissions", Mark.FAIL)
    assert action in first.title


async def test_a_worker_without_batches_is_a_warning(patient: Patient) -> None:
    patient.assumed = replace(patient.assumed, role="worker")
    patient.proxy.rule = denies("BatchExecuteStatement")
    first = await patient.first()
    assert (first.check, first.mark) == ("permissions", Mark.WARN)
    assert "dynamodb:PartiQLUpdate" in first.title


async def test_an_action_of_another_role_is_no_finding(patient: Patient) -> None:
    patient.assumed = replace(patient.assumed, role="worker")
    patient.proxy.rule = denies("PutItem")
    assert (await patient.diagnose()).first is None


async def test_trying_permissions_changes_nothing(patient: Patient) -> None:
    await patient.store(since=-600)
    before = await patient.client.scan(TableName=patient.table)
    await patient.diagnose()
    after = await patient.client.scan(TableName=patient.table)
    assert after["Items"] == before["Items"]
    assert {"PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem"} <= set(patient.proxy.operations())


@pytest.mark.thorough
async def test_throttled_reads(patient: Patient) -> None:
    patient.timing = replace(patient.timing, call=4.0, part=10.0)
    patient.proxy.rule = denies("Query", code="ProvisionedThroughputExceededException")
    first = await patient.first()
    assert (first.check, first.mark) == ("throttling", Mark.FAIL)


@pytest.mark.thorough
async def test_reads_that_fail(patient: Patient) -> None:
    patient.timing = replace(patient.timing, call=4.0, part=10.0)
    patient.proxy.rule = denies("Query", code="InternalServerError")
    first = await patient.first()
    assert (first.check, first.mark) == ("reads", Mark.FAIL)
    assert "sample" in first.title


async def test_throttling_that_passes_is_a_warning(patient: Patient) -> None:
    seen: list[str] = []

    def rule(request: Any) -> Any:
        if request.operation != "Query" or len(seen) >= 3:
            return None
        seen.append(request.operation)
        return refused("ThrottlingException", "Rate exceeded")

    patient.proxy.rule = rule
    first = await patient.first()
    assert (first.check, first.mark) == ("throttling", Mark.WARN)
