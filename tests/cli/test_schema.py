"""Every JSON document fits docs/reference/command-line.schema.json, and every kind in it is written by a command."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from dynamodb_outbox import Event, InMemoryOutbox
from tests.cli.conftest import Cli
from tests.cli.stored import dead_letters, emit, fail

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((ROOT / "docs" / "reference" / "command-line.schema.json").read_text())
KINDS = SCHEMA["$defs"]["documents"]
ON_MEMORY = [
    ["status"],
    ["events", "list", "--state", "due", "--payload"],
    ["events", "show", "order-1"],
    ["failed", "list"],
    ["failed", "groups"],
    ["failed", "retry", "--all", "--dry-run"],
    ["failed", "retry", "dead-0", "gone", "--dry-run"],
    ["failed", "retry", "dead-0", "gone"],
    ["failed", "show", "blocking"],
    ["failed", "skip", "blocking", "--dry-run"],
    ["failed", "skip", "blocking", "gone"],
    ["events", "show", "waiting"],
    ["failed", "discard", "dead-1", "--reason", "x", "--yes"],
    ["failed", "replace", "dead-2", "{}", "--reason", "x", "--dry-run"],
    ["recover"],
    ["recover", "--dry-run"],
    ["hold", "--all", "--reason", "x", "--yes"],
    ["holds"],
    ["resume", "--all"],
    ["emit", "order.placed"],
    ["table", "create", "--dry-run"],
    ["version"],
]
ON_DYNAMODB = [["doctor"], ["table", "create", "--yes"], ["table", "verify"], ["table", "describe"], ["table", "ttl"]]


def check(document: Any) -> str:
    Draft202012Validator(SCHEMA).validate(document)
    kind: str = document["kind"]
    Draft202012Validator({**SCHEMA, "oneOf": [{"$ref": f"#/$defs/documents/{kind}"}]}).validate(document)
    return kind


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def test_documents_fit_the_schema(cli: Cli, outbox: InMemoryOutbox) -> None:
    emit(outbox, Event("order.placed", {"n": 1}, id="order-1"), due_at=time.time() - 100)
    dead_letters(outbox, 3)
    fail(outbox, Event("order.paid", id="blocking", ordering_key="order-1"))
    emit(outbox, *(Event("order.paid", id=each, ordering_key="order-1") for each in ("next", "waiting")))
    written = set()
    for arguments in ON_MEMORY:
        written.add(check(cli(*arguments, "--output", "json").json))
    assert cli("hold", "--type", "order.placed", "--reason", "x", "--yes").code == 0
    for arguments in ON_MEMORY:
        written |= {check(line) for line in cli(*arguments, "--output", "jsonl").lines}
    written |= {check(line) for line in cli("failed", "export", "-").lines}
    assert written == KINDS.keys() - {"doctor", "finding", "table", "table_verified", "time_to_live"}


async def test_documents_about_a_table_fit_the_schema(run_in_thread: Any, moto_endpoint: str, table_name: str) -> None:
    options = ["--table", table_name, "--region", "us-east-1", "--endpoint-url", moto_endpoint]
    written = set()
    for form in ("json", "jsonl"):
        for arguments in reversed(ON_DYNAMODB):
            ran = await run_in_thread(*arguments, *options, "--output", form)
            if ran.out:
                written |= {check(line) for line in ([ran.json] if form == "json" else ran.lines)}
        await run_in_thread("table", "create", "--yes", *options)
    assert written == {"doctor", "finding", "table", "table_created", "table_verified", "time_to_live"}


@pytest.mark.parametrize("change", [{"schema": 2}, {"kind": "other"}, {"more": 1}])
def test_the_schema_refuses_other_documents(change: dict[str, Any]) -> None:
    document = {"schema": 1, "kind": "table_verified", "table": "t-1", "differences": []}
    check(document)
    assert not Draft202012Validator(SCHEMA).is_valid(document | change)
