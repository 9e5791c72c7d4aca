"""`events tail` and `metrics`: commands that go on until Ctrl-C."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from dynamodb_outbox import Event, InMemoryOutbox, UnavailableError
from tests.cli.conftest import TABLE, Cli
from tests.cli.stored import dead_letters, emit

Between = Callable[[list[Callable[[], Any]]], None]


@pytest.fixture
def between(monkeypatch: pytest.MonkeyPatch) -> Between:
    """Does one thing in each pause of a command, and then presses Ctrl-C. In `tail`, the things are asynchronous."""

    def install(things: list[Callable[[], Any]]) -> None:
        left = iter(things)

        def pause(seconds: float) -> None:
            thing = next(left, None)
            if thing is None:
                raise KeyboardInterrupt
            thing()

        async def pause_async(seconds: float) -> None:
            thing = next(left, None)
            if thing is None:
                raise KeyboardInterrupt
            # In the loop of the command: an outbox belongs to one loop at a time.
            await thing()

        monkeypatch.setattr(time, "sleep", pause)
        monkeypatch.setattr(anyio, "sleep", pause_async)

    return install


def test_tail_shows_what_comes_into_a_state(cli: Cli, outbox: InMemoryOutbox, between: Between) -> None:
    emit(outbox, Event("order.placed", id="old"))
    between([lambda: outbox.publish([Event("order.placed", id="new")]), anyio.lowlevel.checkpoint])
    ran = cli("events", "tail")
    assert ran.code == 130
    (line,) = ran.out.splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d  due         order\.placed  new  retries 0", line)


def test_tail_can_begin_with_what_is_there(cli: Cli, outbox: InMemoryOutbox, between: Between) -> None:
    emit(outbox, Event("order.placed", id="old"), Event("user.created", id="other"))
    dead_letters(outbox, 1)
    between([])
    assert len(cli("events", "tail", "--existing").out.splitlines()) == 3
    between([])
    assert [
        each["id"] for each in cli("events", "tail", "--existing", "--type", "user.created", "-o", "jsonl").lines
    ] == ["other"]
    between([])
    (found,) = cli("events", "tail", "--existing", "--state", "failed", "-o", "json").lines
    assert (found["kind"], found["state"]) == ("event", "failed")


def test_metrics_are_those_of_the_table_of_metrics(cli: Cli, outbox: InMemoryOutbox) -> None:
    dead_letters(outbox, 2)
    emit(outbox, Event("order.placed"), due_at=time.time() - 100)
    ran = cli("metrics", "--once")
    assert ran.code == 0
    values = dict(line.rsplit(" ", 1) for line in ran.out.splitlines() if not line.startswith("#"))
    assert values[f'dynamodb_outbox_events{{outbox_table="{TABLE}",outbox_status="due"}}'] == "1"
    assert values[f'dynamodb_outbox_events{{outbox_table="{TABLE}",outbox_status="failed"}}'] == "2"
    assert float(values[f'dynamodb_outbox_oldest_due_age_seconds{{outbox_table="{TABLE}"}}']) == pytest.approx(
        100, abs=30
    )
    assert float(values[f'dynamodb_outbox_sample_time_seconds{{outbox_table="{TABLE}"}}']) == pytest.approx(
        time.time(), abs=30
    )
    assert "# TYPE dynamodb_outbox_events gauge\n" in ran.out


def test_metrics_go_on_after_a_failure(
    cli: Cli, outbox: InMemoryOutbox, between: Between, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "outbox.prom"
    sample = outbox.sample

    async def fail(*, count_limit: int = 1_000) -> Any:
        raise UnavailableError(operation="query", reason="no connection", attempts=3, maybe_applied=False)

    def cut() -> None:
        assert 'outbox_status="due"} 0' in file.read_text()
        monkeypatch.setattr(outbox, "sample", fail)

    def mend() -> None:
        monkeypatch.setattr(outbox, "sample", sample)
        emit(outbox, Event("order.placed"))

    between([cut, mend, lambda: None])
    ran = cli("metrics", "--file", str(file))
    assert ran.code == 130
    assert ran.err.count("error: ") == 1
    assert 'outbox_status="due"} 1' in file.read_text()
    assert list(tmp_path.iterdir()) == [file]


def test_metrics_tell_that_a_file_cannot_be_written(cli: Cli, outbox: InMemoryOutbox, tmp_path: Path) -> None:
    ran = cli("metrics", "--once", "--file", str(tmp_path / "missing" / "outbox.prom"))
    assert ran.code == 2
    assert "--file" in ran.err
