"""`failed`, `recover`, `hold` and `resume`, on an outbox in memory."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import signal
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from dynamodb_outbox import Event, EventStatus, InMemoryOutbox, Page, Repaired, UnavailableError
from dynamodb_outbox.adapter import Held
from tests.cli.conftest import TABLE, Cli
from tests.cli.stored import dead_letters, emit, fail


def statuses(outbox: InMemoryOutbox, ids: list[str]) -> set[EventStatus | None]:
    return {outbox.status_of(event_id) for event_id in ids}


def test_groups_have_the_largest_first(cli: Cli, outbox: InMemoryOutbox) -> None:
    fail(outbox, *[Event("order.placed") for _ in range(3)])
    fail(outbox, Event("order.paid"), error="bill: ValueError: no", error_type="ValueError", error_handler="bill")
    found = cli("failed", "groups", "-o", "json").json
    names = ("type", "error_type", "error_handler", "count")
    assert [tuple(group[name] for name in names) for group in found["groups"]] == [
        ("order.placed", "KeyError", "ship", 3),
        ("order.paid", "ValueError", "bill", 1),
    ]
    assert found["is_complete"] is True
    ran = cli("failed", "groups")
    assert f"failed retry --group {found['groups'][0]['group']}" in ran.err


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (["--type", "order.placed"], 2),
        (["--error", "ValueError"], 1),
        (["--handler", "bill"], 1),
        (["--type", "order.placed", "--handler", "bill"], 0),
        (["--before", "1h"], 0),
        (["--before", "2999-01-01"], 3),
    ],
)
def test_selections(cli: Cli, outbox: InMemoryOutbox, options: list[str], count: int) -> None:
    dead_letters(outbox, 2)
    fail(outbox, Event("order.paid"), error="bill: ValueError: no", error_type="ValueError", error_handler="bill")
    assert len(cli("failed", "list", *options, "-o", "json").json["events"]) == count
    assert len(cli("failed", "retry", *options, "--dry-run", "-o", "json").json["ids"]) == count
    assert len(cli("failed", "retry", *options, "--yes", "-o", "json").json["done"]) == count
    assert len(cli("failed", "list", "-o", "json").json["events"]) == 3 - count


def test_a_group_is_retried(cli: Cli, outbox: InMemoryOutbox) -> None:
    ids = dead_letters(outbox, 2)
    fail(outbox, Event("order.placed", id="other"), error="unknown", error_type=None, error_handler=None)
    for group in cli("failed", "groups", "-o", "json").json["groups"]:
        ran = cli("failed", "retry", "--group", group["group"], "--yes", "-o", "json")
        assert sorted(ran.json["done"]) == (ids if group["count"] == 2 else ["other"])


def test_ids_are_retried_without_a_question(cli: Cli, outbox: InMemoryOutbox) -> None:
    ids = dead_letters(outbox, 2)
    ran = cli("failed", "retry", *ids)
    assert ran.code == 0
    assert ran.out == "2 events will be delivered again\n"
    assert statuses(outbox, ids) == {EventStatus.PENDING}


def test_ids_that_are_not_dead_letters_are_reported_with_exit_code_1(cli: Cli, outbox: InMemoryOutbox) -> None:
    (dead,) = dead_letters(outbox, 1)
    emit(outbox, Event("order.placed", id="alive"))
    ran = cli("failed", "retry", dead, "alive", "gone", "-o", "json")
    assert ran.code == 1
    assert ran.json["done"] == [dead]
    assert ran.json["refused"] == [{"id": "alive", "status": "PENDING"}, {"id": "gone", "status": None}]


def test_discarded_events_keep_reason_and_actor(cli: Cli, outbox: InMemoryOutbox) -> None:
    (dead,) = dead_letters(outbox, 1)
    assert cli("failed", "discard", dead, "--reason", "a test order", "--by", "ada@bastion", "--yes").code == 0
    shown = cli("events", "show", dead, "-o", "json").json
    assert shown["state"] == "discarded"
    assert (shown["discard_reason"], shown["discarded_by"]) == ("a test order", "ada@bastion")


@pytest.mark.parametrize(
    "arguments",
    [
        ["failed", "retry", "--all"],
        ["failed", "discard", "dead-0", "--reason", "x"],
        ["failed", "replace", "dead-0", "{}", "--reason", "x"],
        ["hold", "--all", "--reason", "x"],
        ["table", "create"],
        ["table", "ttl", "--enable"],
    ],
)
def test_without_a_terminal_a_change_needs_yes(cli: Cli, outbox: InMemoryOutbox, arguments: list[str]) -> None:
    ids = dead_letters(outbox, 1)
    ran = cli(*arguments)
    assert ran.code == 2
    assert ran.err.splitlines()[-1].startswith("REFUSED: nothing was changed, ")
    assert "Add --yes" in ran.err
    assert statuses(outbox, ids) == {EventStatus.FAILED}


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 130)])
def test_on_a_terminal_it_asks(
    cli: Cli, outbox: InMemoryOutbox, monkeypatch: pytest.MonkeyPatch, answer: str, code: int
) -> None:
    ids = dead_letters(outbox, 2)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    asked: list[str] = []

    def reply(question: str) -> str:
        asked.append(question)
        return answer

    monkeypatch.setattr("click.termui.visible_prompt_func", reply)
    ran = cli("failed", "retry", "--all")
    assert ran.code == code
    assert "2 dead letters" in "".join(asked) + ran.err
    assert statuses(outbox, ids) == {EventStatus.PENDING if code == 0 else EventStatus.FAILED}


@pytest.mark.parametrize("arguments", [[], ["dead-0", "--all"], ["dead-0", "--type", "x"]])
def test_a_repair_needs_one_selection(cli: Cli, outbox: InMemoryOutbox, arguments: list[str]) -> None:
    assert cli("failed", "retry", *arguments, "--yes").code == 2


def test_a_dry_run_changes_nothing(cli: Cli, outbox: InMemoryOutbox) -> None:
    ids = dead_letters(outbox, 3)
    ran = cli("failed", "discard", "--all", "--reason", "x", "--dry-run")
    assert set(ran.out.split()) == set(ids)
    assert "nothing was changed" in ran.err
    assert statuses(outbox, ids) == {EventStatus.FAILED}


@pytest.mark.parametrize("action", ["retry", "discard"])
def test_a_dry_run_of_ids_tells_which_would_not_change(cli: Cli, outbox: InMemoryOutbox, action: str) -> None:
    dead_letters(outbox, 1)
    emit(outbox, Event("order.placed", id="due"))
    options = ["--reason", "x"] if action == "discard" else []
    command = ["failed", action, "dead-0", "due", "gone", *options]
    ran = cli(*command, "--dry-run", "-o", "json")
    would = ["dead-0", "due"] if action == "discard" else ["dead-0"]
    refused = [{"id": "gone", "status": None}]
    assert ran.code == 1
    assert ran.json["ids"] == would
    assert ran.json["refused"] == (refused if action == "discard" else [{"id": "due", "status": "PENDING"}, *refused])
    assert "gone: would not be changed, no event has this id; " in cli(*command, "--dry-run").err
    # The repair itself says the same.
    assert statuses(outbox, ["dead-0"]) == {EventStatus.FAILED}
    done = cli(*command, *(["--yes"] if options else []), "-o", "json").json
    assert (done["done"], done["refused"]) == (would, ran.json["refused"])


def test_export_writes_payloads_as_jsonl(cli: Cli, outbox: InMemoryOutbox, tmp_path: Path) -> None:
    dead_letters(outbox, 3)
    file = tmp_path / "dead.jsonl"
    ran = cli("failed", "export", str(file))
    assert ran.code == 0
    assert ran.out == ""
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert {line["payload"]["n"] for line in lines} == {0, 1, 2}
    assert len(cli("failed", "export", "-", "--type", "order.placed").lines) == 3


def test_a_dead_letter_is_replaced_by_a_corrected_event(cli: Cli, outbox: InMemoryOutbox) -> None:
    (dead,) = dead_letters(outbox, 1)
    ran = cli("failed", "replace", dead, '{"n": 7}', "--reason", "a wrong number", "--yes", "-o", "json")
    assert ran.code == 0, ran.err
    assert '-  "n": 0' in ran.err
    assert '+  "n": 7' in ran.err
    new = cli("events", "show", ran.json["id"], "-o", "json").json
    assert (new["payload"], new["metadata"], new["state"]) == ({"n": 7}, {"replaces": dead}, "due")
    assert cli("events", "show", dead, "-o", "json").json["replaced_by"] == ran.json["id"]
    again = cli("failed", "replace", dead, "{}", "--reason", "x", "--yes")
    assert again.code == 1
    assert "DISCARDED" in again.err


def test_a_payload_is_edited(cli: Cli, outbox: InMemoryOutbox, monkeypatch: pytest.MonkeyPatch) -> None:
    dead, other = dead_letters(outbox, 2)
    monkeypatch.setattr("click.edit", lambda text, extension: text.replace("0", "7"))
    ran = cli("failed", "replace", dead, "--edit", "--reason", "x", "--dry-run", "-o", "json")
    assert ran.json == {"schema": 1, "kind": "replace", "replaced": dead, "id": None, "dry_run": True}
    assert outbox.status_of(dead) is EventStatus.FAILED
    assert cli("failed", "replace", dead, "--edit", "--reason", "x", "--yes").code == 0
    monkeypatch.setattr("click.edit", lambda text, extension: text)
    assert "not changed" in cli("failed", "replace", other, "--edit", "--reason", "x", "--yes").err


@pytest.mark.parametrize("arguments", [[], ["{}", "--edit"], ["{"]])
def test_a_replacement_needs_one_payload(cli: Cli, outbox: InMemoryOutbox, arguments: list[str]) -> None:
    (dead,) = dead_letters(outbox, 1)
    assert cli("failed", "replace", dead, *arguments, "--reason", "x", "--yes").code == 2
    assert outbox.status_of(dead) is EventStatus.FAILED


class Interrupting(InMemoryOutbox):
    """Its user presses Ctrl-C while a batch is written."""

    async def redrive(self, ids: Any, **options: Any) -> Repaired:
        os.kill(os.getpid(), signal.SIGINT)
        # The event loop sees the signal before it goes on here.
        await asyncio.sleep(0.05)
        return await super().redrive(ids, **options)


def test_ctrl_c_ends_after_the_batch_and_says_how_to_go_on(
    cli: Cli, outbox: InMemoryOutbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = dead_letters(outbox, 250)
    outbox.__class__ = Interrupting
    ran = cli("failed", "retry", "--all", "--yes")
    assert ran.code == 130
    assert "stopped: 100 events done" in ran.err
    outbox.__class__ = InMemoryOutbox
    assert sum(outbox.status_of(event_id) is EventStatus.PENDING for event_id in ids) == 100
    (line,) = re.findall(r"^to go on: dynamodb-outbox (.*)$", ran.err, re.MULTILINE)
    # No terminal is there to ask.
    assert len(cli(*shlex.split(line), "-o", "json").json["done"]) == 150


class Busy(InMemoryOutbox):
    """Another operator retries all dead letters that a command has just read."""

    async def list_events(self, *args: Any, **options: Any) -> Page:
        page = await super().list_events(*args, **options)
        await self.redrive([event.id for event in page.events])
        return page


def test_a_group_is_changed_only_as_it_was_read(
    cli: Cli, outbox: InMemoryOutbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = dead_letters(outbox, 3)
    (group,) = cli("failed", "groups", "-o", "json").json["groups"]
    # The question comes before, and has to see them.
    monkeypatch.setattr("dynamodb_outbox.cli.commands.repairing._confirm", lambda *args, **options: None)
    outbox.__class__ = Busy
    ran = cli("failed", "discard", "--group", group["group"], "--reason", "x", "--yes", "-o", "json")
    assert (ran.code, ran.json["done"]) == (1, [])
    assert statuses(outbox, ids) == {EventStatus.PENDING}


def test_the_command_to_go_on_has_the_same_options(
    cli: Cli, outbox: InMemoryOutbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead_letters(outbox, 1)

    async def down(*args: Any, **options: Any) -> Any:
        raise UnavailableError(operation="update_item", attempts=1, reason="down", maybe_applied=False)

    monkeypatch.setattr(outbox, "discard", down)
    options = ["--rate", "3/m", "--by", "ada", "--reason", "no need"]
    ran = cli("--retention", "7d", "failed", "discard", "--all", "--yes", *options)
    assert ran.code == 3
    (line,) = re.findall(r"^to go on: dynamodb-outbox (.*)$", ran.err, re.MULTILINE)
    words = shlex.split(line)
    pairs = dict(pairwise(words))
    assert [pairs[name] for name in ("--retention", "--by", "--reason", "--rate")] == [
        "604800.0",
        "ada",
        "no need",
        "0.05",
    ]


def test_an_id_that_looks_like_an_option_is_not_read_as_one(cli: Cli, outbox: InMemoryOutbox) -> None:
    fail(outbox, Event("order.placed", id="--all"), Event("order.placed", id="other"))
    ran = cli("events", "show", "--", "--all")
    lines = re.findall(r"(?:again|up): +dynamodb-outbox (.*)$", ran.err, re.MULTILINE)
    assert len(lines) == 2
    for line in lines:
        words = shlex.split(line)
        at = words.index("failed") + 2
        assert cli(*words[:at], "--yes", *words[at:]).code == 0
    assert outbox.status_of("--all") is EventStatus.DISCARDED
    assert outbox.status_of("other") is EventStatus.FAILED


def test_resume_goes_on_where_one_was_interrupted(cli: Cli, outbox: InMemoryOutbox) -> None:
    emit(outbox, Event("order.placed", id="e"))
    (claim,) = asyncio.run(outbox.claim(1))
    asyncio.run(outbox.settle([(claim, Held(due_at=0))]))
    # The hold has ended already, or the read of the holds does not show it yet.
    ran = cli("resume", "--type", "order.placed", "-o", "json")
    assert (ran.json["moved"], outbox.status_of("e")) == (1, EventStatus.PENDING)


@pytest.mark.parametrize("options", [["--reason", " "], ["--reason", "x" * 501], ["--reason", "x", "--by", " "]])
def test_a_hold_needs_a_reason_that_workers_can_read(cli: Cli, outbox: InMemoryOutbox, options: list[str]) -> None:
    assert cli("hold", "--all", "--yes", *options).code == 2
    assert cli("holds", "-o", "json").json["holds"] == []


def test_recover_makes_expired_leases_due_again(cli: Cli, outbox: InMemoryOutbox) -> None:
    emit(outbox, Event("order.placed", id="order-1"))
    asyncio.run(outbox.claim(1))
    outbox._options = replace(outbox.options, clock=lambda: time.time() + 100)
    assert cli("recover", "--dry-run", "-o", "json").json["ids"] == ["order-1"]
    assert outbox.status_of("order-1") is EventStatus.PROCESSING
    ran = cli("recover", "-o", "json")
    assert ran.json["reset"] == ["order-1"]
    assert outbox.status_of("order-1") is EventStatus.PENDING


def test_recover_leaves_it_to_a_worker_whether_a_retry_is_left(cli: Cli, outbox: InMemoryOutbox) -> None:
    emit(outbox, Event("order.placed", id="order-1"))
    outbox._table.events["order-1"].retry_count = 20  # by a handler with max_retries=30
    asyncio.run(outbox.claim(1))
    outbox._options = replace(outbox.options, clock=lambda: time.time() + 100)
    assert cli("recover", "-o", "json").json["failed"] == []
    assert outbox.status_of("order-1") is EventStatus.PENDING


def test_hold_and_resume(cli: Cli, outbox: InMemoryOutbox) -> None:
    ran = cli(
        "hold",
        "--type",
        "order.placed",
        "--reason",
        "bank is down",
        "--for",
        "30m",
        "--by",
        "ada",
        "--yes",
        "-o",
        "json",
    )
    assert ran.code == 0, ran.err
    assert shlex.split(ran.json["undo"])[-3:] == ["resume", "--type", "order.placed"]
    (hold,) = cli("holds", "-o", "json").json["holds"]
    assert (hold["type"], hold["reason"], hold["by"]) == ("order.placed", "bank is down", "ada")
    assert hold["until"] > hold["since"]
    assert "bank is down" in cli("status").out
    assert cli("resume", "--type", "order.placed", "--dry-run", "-o", "json").json["was_held"] is True
    assert cli("resume", "--type", "order.placed", "--yes", "-o", "json").json["was_held"] is True
    assert cli("holds", "-o", "json").json["holds"] == []
    assert "no hold is in force" in cli("resume", "--type", "order.placed").out


def test_hold_with_a_dry_run_holds_nothing(cli: Cli, outbox: InMemoryOutbox) -> None:
    assert "would be on hold" in cli("hold", "--all", "--reason", "x", "--dry-run").out
    assert cli("holds", "-o", "json").json["holds"] == []


@pytest.mark.parametrize("command", [["hold", "--reason", "x"], ["resume"]])
@pytest.mark.parametrize("arguments", [[], ["--all", "--type", "x"]])
def test_a_hold_is_of_all_or_of_one_type(
    cli: Cli, outbox: InMemoryOutbox, command: list[str], arguments: list[str]
) -> None:
    assert cli(*command, *arguments).code == 2


def test_templates_name_the_table(cli: Cli, outbox: InMemoryOutbox) -> None:
    assert f"Default: {TABLE}" in cli("template", "cloudformation").out
    assert f'"{TABLE}"' in cli("template", "terraform").out
    policy = json.loads(cli("template", "iam", "--role", "worker").out)
    assert all(TABLE in json.dumps(statement["Resource"]) for statement in policy["Statement"])
