"""`status`, `events` and `emit`, on an outbox in memory."""

from __future__ import annotations

import asyncio
import io
import json
import re
import time
from decimal import Decimal
from typing import Any

import pytest

from dynamodb_outbox import Event, InMemoryOutbox
from dynamodb_outbox.typed_json import from_json, to_json
from tests.cli.conftest import TABLE, Cli
from tests.cli.stored import dead_letters, emit, fail


def test_status_of_an_empty_outbox_is_healthy(cli: Cli, outbox: InMemoryOutbox) -> None:
    ran = cli("status")
    assert ran.code == 0
    assert ran.out.startswith(f"{TABLE}: HEALTHY\n")
    assert ran.err == ""


@pytest.mark.parametrize(("age", "status", "code"), [(10, "healthy", 0), (100, "degraded", 1), (1_000, "unhealthy", 2)])
def test_status_judges_the_age_of_the_oldest_due_event(
    cli: Cli, outbox: InMemoryOutbox, age: float, status: str, code: int
) -> None:
    emit(outbox, Event("order.placed"), due_at=time.time() - age)
    assert cli("status", "--exit-code").code == code
    assert cli("status").code == 0
    found = cli("status", "--output", "json").json
    assert found["status"] == status
    assert found["sample"]["due"] == {"at_least": 1, "is_exact": True}
    assert found["sample"]["oldest_due_age"] == pytest.approx(age, abs=30)
    assert bool(found["reasons"]) == (code > 0)


def test_scheduled_events_are_not_late(cli: Cli, outbox: InMemoryOutbox) -> None:
    emit(outbox, Event("order.placed"), due_at=time.time() + 1_000)
    found = cli("status", "--output", "json").json
    assert found["status"] == "healthy"
    assert found["sample"]["scheduled"]["at_least"] == 1
    assert "`doctor` says if a handler fails" in cli("status").out


def test_status_counts_to_a_limit(cli: Cli, outbox: InMemoryOutbox) -> None:
    emit(outbox, *[Event("order.placed") for _ in range(5)])
    assert cli("status", "--count-limit", "3", "-o", "json").json["sample"]["due"] == {"at_least": 3, "is_exact": False}
    assert cli("status", "--count-limit", "0", "-o", "json").json["sample"]["due"] == {"at_least": 5, "is_exact": True}
    assert "3+" in cli("status", "--count-limit", "3").out


def test_status_that_is_not_healthy_names_the_doctor(cli: Cli, outbox: InMemoryOutbox) -> None:
    dead_letters(outbox, 2)
    ran = cli("status")
    assert "2 dead letters" in ran.out
    assert "dynamodb-outbox --table events-outbox" in ran.err
    assert cli("status", "-q").err == ""


def test_events_are_listed_page_by_page(cli: Cli, outbox: InMemoryOutbox) -> None:
    emit(outbox, *[Event("order.placed", id=f"order-{number}") for number in range(5)])
    first = cli("events", "list", "--state", "due", "--limit", "3", "-o", "json").json
    assert len(first["events"]) == 3
    second = cli("events", "list", "--state", "due", "--limit", "3", "-o", "json", "--after", first["after"]).json
    assert second["after"] is None
    ids = {event["id"] for event in [*first["events"], *second["events"]]}
    assert ids == {f"order-{number}" for number in range(5)}


def test_a_list_for_people_says_how_to_see_more(cli: Cli, outbox: InMemoryOutbox) -> None:
    emit(outbox, *[Event("order.placed", id=f"order-{number}") for number in range(3)])
    ran = cli("events", "list", "--state", "due", "--limit", "2")
    assert ran.out.splitlines()[0].split() == [
        "ID",
        "TYPE",
        "STATE",
        "RETRIES",
        "SINCE",
        "CLAIMED",
        "BY",
        "LAST",
        "ERROR",
    ]
    assert len(ran.out.splitlines()) == 3
    assert "add --after " in ran.err


def test_a_running_event_is_listed_since_its_start(cli: Cli, outbox: InMemoryOutbox) -> None:
    emit(outbox, Event("order.placed"))
    asyncio.run(outbox.claim(1))
    assert re.search(r" [\d.]+ s ago ", cli("events", "list", "--state", "processing").out)


def test_jsonl_has_a_line_for_each_event(cli: Cli, outbox: InMemoryOutbox) -> None:
    emit(outbox, Event("order.placed", {"secret": 1}, id="order-1"), Event("order.paid", id="order-2"))
    lines = cli("events", "list", "--state", "due", "-o", "jsonl").lines
    assert {line["id"] for line in lines} == {"order-1", "order-2"}
    assert all(line["kind"] == "event" and "payload" not in line for line in lines)
    (line,) = cli("events", "list", "--state", "due", "--type", "order.placed", "--payload", "-o", "jsonl").lines
    assert line["payload"] == {"secret": 1}


def test_show_has_everything_of_an_event(cli: Cli, outbox: InMemoryOutbox) -> None:
    emit(outbox, Event("order.placed", {"total": Decimal("19.90")}, id="order-1", metadata={"tenant": "shop"}))
    ran = cli("events", "show", "order-1")
    assert ran.code == 0
    assert "order-1" in ran.out
    assert '"total": 19.9' in ran.out
    assert '"tenant": "shop"' in ran.out
    assert "19.9" not in cli("events", "show", "order-1", "--no-payload").out


def test_show_of_a_dead_letter_says_what_to_do(cli: Cli, outbox: InMemoryOutbox) -> None:
    dead_letters(outbox, 1)
    ran = cli("failed", "show", "dead-0")
    assert "ship: KeyError: 'a'" in ran.out
    assert "failed retry dead-0" in ran.err


def test_show_of_an_unknown_id_exits_with_1(cli: Cli, outbox: InMemoryOutbox) -> None:
    ran = cli("events", "show", "nothing")
    assert ran.code == 1
    assert ran.err == f"error: there is no event 'nothing' in the table '{TABLE}'\n"


def test_names_between_colons_are_no_emoji(cli: Cli, outbox: InMemoryOutbox) -> None:
    fail(outbox, Event("order.placed", {"tenant": ":m:5"}, id="order:id:17"), error="ship: no :x: for :b:")
    shown = cli("events", "show", "order:id:17").out
    assert all(text in shown for text in ("order:id:17", ":m:5", "ship: no :x: for :b:"))
    assert cli("failed", "retry", "order:id:17", "--dry-run").out == "order:id:17\n"


def test_lines_of_a_stored_text_do_not_look_like_lines_of_the_program(cli: Cli, outbox: InMemoryOutbox) -> None:
    fail(outbox, Event("order.placed", id="a"), error="ship: no\ndiscarded by  ada")
    lines = cli("events", "show", "a").out.splitlines()
    assert not any(line.startswith("discarded by") for line in lines)
    assert any(line.lstrip() == "discarded by  ada" for line in lines)


@pytest.mark.parametrize("arguments", [(), ("--type", "order.placed")])
def test_list_ends_at_its_limit(cli: Cli, outbox: InMemoryOutbox, arguments: tuple[str, ...]) -> None:
    emit(outbox, *(Event("order.placed", id=f"e{number:03}") for number in range(260)))
    first = cli("events", "list", "--state", "due", "--limit", "150", "-o", "json", *arguments).json
    assert len(first["events"]) == 150
    options = ("--limit", "150", "--after", first["after"], *arguments)
    rest = cli("events", "list", "--state", "due", "-o", "json", *options).json
    assert rest["after"] is None
    assert [event["id"] for event in first["events"] + rest["events"]] == [f"e{number:03}" for number in range(260)]


def test_stored_texts_do_not_drive_the_terminal(cli: Cli, outbox: InMemoryOutbox) -> None:
    emit(outbox, Event("\x1b[31mred\x07[bold]", {"\x1b]0;title\x07": 1}, id="evil\x1b[2J\n1"))
    for arguments in (["events", "list", "--state", "due"], ["events", "show", "evil\x1b[2J\n1"]):
        ran = cli(*arguments)
        assert ran.code == 0
        assert "\x1b" not in ran.out
        assert "\x07" not in ran.out
        assert "[bold]" in ran.out


def test_stored_texts_do_not_drive_the_terminal_as_json_or_on_stderr(cli: Cli, outbox: InMemoryOutbox) -> None:
    hidden = "\x1b]0;title\x07 \x9b2J \u202e \u2066 \x7f"
    fail(outbox, Event(hidden, {"text": hidden}, id=hidden))
    for arguments in (
        ["events", "show", hidden],
        ["events", "show", hidden, "-o", "json"],
        ["failed", "list", "--payload", "-o", "jsonl"],
        ["failed", "export", "-"],
        ["events", "show", f"another {hidden}"],
        ["events", "list", "--state", "failed", "--after", hidden],
    ):
        ran = cli(*arguments)
        written = ran.out + ran.err
        assert not any(each in written for each in "\x1b\x07\x9b\u202e\u2066\x7f"), arguments
    assert cli("events", "show", hidden, "-o", "json").json["payload"] == {"text": hidden}


PAYLOADS: list[Any] = [
    None,
    {"a": [1, "two", True, None]},
    Decimal("19.9"),
    Decimal("0.1234567890123456789"),
    2**100,
    b"\x00\xff",
    {1, 2},
    {b"\x00"},
    {"$decimal": "of the user", "other": 1},
    {"$decimal": "of the user"},
    {"$set": [1], "$bytes": "x"},
    {"$$bytes": {"$set": [{"$set": {1}}]}},
    {Decimal("0.5"), Decimal("0.1234567890123456789")},
]


@pytest.mark.parametrize("payload", PAYLOADS, ids=repr)
def test_payloads_in_json_can_be_emitted_again(cli: Cli, outbox: InMemoryOutbox, payload: Any) -> None:
    emit(outbox, Event("order.placed", payload, id="first"))
    shown = json.dumps(cli("events", "show", "first", "-o", "json").json["payload"])
    assert cli("emit", "order.placed", shown, "--id", "second").code == 0
    again = cli("events", "show", "second", "-o", "json").json["payload"]
    assert json.dumps(again) == shown
    assert from_json(to_json(payload, decimals=True), decimals=True) == payload


def test_emit_stores_an_event_once(cli: Cli, outbox: InMemoryOutbox) -> None:
    for _ in range(2):
        ran = cli("emit", "order.placed", '{"n": 1}', "--id", "order-1", "--in", "5m", "-o", "json")
        assert ran.code == 0, ran.err
        assert ran.json["id"] == "order-1"
    (event,) = cli("events", "list", "--state", "scheduled", "-o", "json").json["events"]
    assert event["id"] == "order-1"


def test_emit_reads_stdin(cli: Cli, outbox: InMemoryOutbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO('{"n": 1}'))
    assert cli("emit", "order.placed", "-", "--id", "order-1").code == 0
    assert cli("events", "show", "order-1", "-o", "json").json["payload"] == {"n": 1}


def test_emit_with_a_dry_run_checks_and_stores_nothing(cli: Cli, outbox: InMemoryOutbox) -> None:
    assert cli("emit", "order.placed", "1", "--id", "order-1", "--dry-run").code == 0
    assert cli("events", "show", "order-1").code == 1


@pytest.mark.parametrize("arguments", [["{"], ["1", "--metadata", "[]"], ['{"$bytes": "%"}'], ['{"$decimal": "x"}']])
def test_emit_refuses_what_is_not_json(cli: Cli, outbox: InMemoryOutbox, arguments: list[str]) -> None:
    ran = cli("emit", "order.placed", *arguments)
    assert ran.code == 2
    assert ran.err.startswith("error: ")
