"""Items that cannot be read as events: what is shown and exported of them, and how an operator decides about them."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from dynamodb_outbox import DynamoDBOutbox, StoredEventError
from dynamodb_outbox.cli.settings import Settings
from tests.cli.doctoring import Patient
from tests.cli.test_schema import check

ON_CALL = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "on-call.md"
FOREIGN: dict[str, Any] = {
    "id": {"S": "stock-1"},
    "type": {"S": "stock.counted"},
    "payload": {"S": "<stock place='7'/>"},
    "occurredAt": {"S": "2026-01-02T03:04:05+00:00"},
    "scan": {"B": b"\x00\xff"},
    "scans": {"BS": [b"\x01", b"\x02"]},
    "more": {"M": {"list": {"L": [{"B": b"\x03"}, {"NULL": True}, {"N": "1.10"}, {"BOOL": False}]}}},
}


@pytest.fixture
async def patient(moto_client: Any, moto_endpoint: str, table_name: str) -> Patient:
    """A table with a dead letter that another program has written."""
    await DynamoDBOutbox(moto_client, table_name=table_name).create_table()
    settings = Settings(table=table_name, region="us-east-1", endpoint_url=moto_endpoint)
    made = Patient(moto_client, None, table_name, settings)  # type: ignore[arg-type]
    await made.store_dead_letter("", **FOREIGN)
    return made


@pytest.fixture
def options(patient: Patient, moto_endpoint: str) -> list[str]:
    return ["--table", patient.table, "--region", "us-east-1", "--endpoint-url", moto_endpoint]


def with_bytes(value: Any, name: str = "") -> Any:
    """Read DynamoDB's JSON form as the `aws` command line does."""
    if isinstance(value, dict):
        return {key: with_bytes(member, key) for key, member in value.items()}
    if isinstance(value, list):
        return [with_bytes(member, name) for member in value]
    return base64.b64decode(value) if name in ("B", "BS") else value


async def test_an_export_has_the_whole_item(patient: Patient, options: list[str], run_in_thread: Any) -> None:
    (line,) = (await run_in_thread("failed", "export", "-", *options)).lines
    assert check(line) == "event"
    assert (line["occurred_at"], line["payload"], line["metadata"]) == (None, None, {})
    stored = (await patient.client.get_item(TableName=patient.table, Key={"id": {"S": "stock-1"}}))["Item"]
    exported = with_bytes(line["item"])
    assert {name: exported[name] for name in FOREIGN} == FOREIGN
    assert exported == stored


async def test_an_event_that_can_be_read_has_no_item(patient: Patient, options: list[str], run_in_thread: Any) -> None:
    event_id = await patient.store_dead_letter("ship: KeyError: 'a'")
    shown = (await run_in_thread("events", "show", event_id, "-o", "json", *options)).json
    assert "item" not in shown
    assert shown["occurred_at"] == "2026-01-02T03:04:05.000Z"


async def test_show_has_what_is_stored_and_no_invented_time(options: list[str], run_in_thread: Any) -> None:
    ran = await run_in_thread("events", "show", "stock-1", *options)
    assert "<stock place='7'/>" in ran.out
    assert "AP8=" in ran.out
    assert "1970" not in ran.out
    assert "once the item is fixed:" in ran.err
    document = (await run_in_thread("events", "show", "stock-1", "-o", "json", *options)).json
    assert check(document) == "event"
    assert document["item"]["payload"] == FOREIGN["payload"]


@pytest.mark.parametrize("form", ["table", "json"])
async def test_what_is_stored_is_left_out_like_a_payload(form: str, options: list[str], run_in_thread: Any) -> None:
    ran = await run_in_thread("events", "show", "stock-1", "--no-payload", "-o", form, *options)
    assert ran.code == 0
    assert "stock.counted" in ran.out
    assert "<stock" not in ran.out


async def test_the_doctor_the_error_and_the_page_decide_in_the_same_words(patient: Patient) -> None:
    first = await patient.first()
    assert first.check == "unreadable items"
    assert "events show" in first.repair[1]
    assert "failed export" in first.repair[2]
    assert "failed discard" in first.repair[3]
    assert first.docs == "docs/how-to/on-call.md#items-that-cannot-be-read"
    page = ON_CALL.read_text(encoding="utf-8").partition("## Items that cannot be read")[2].partition("\n## ")[0]
    for text in (first.repair[0], str(StoredEventError(event_id="e", reason="r")), page.lower()):
        words = [text.find(word) for word in ("somebody", "fix the item", "nobody does", "discard")]
        assert -1 not in words, text
