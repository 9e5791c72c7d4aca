from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from examples.demo.events import make_events, write_events
from examples.demo.history import Record, What
from examples.demo.ledger import Ledger
from examples.demo.summary import summarise
from examples.demo.verdict import Kill, Verdict, judge
from tests.thorough import often

ROOT = Path(__file__).resolve().parents[2]
EVENTS = often(100, thorough=250)
LINE = re.compile(r"demo: emitted=(\d+) completed=(\d+) failed=(\d+) lost=(\d+) duplicates=(\d+)")
KILLED, OTHER = 10, 11
KILL = Kill(pid=KILLED, at=100.0, running=1)


def run_demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "examples.demo", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


@pytest.mark.thorough
def test_every_event_of_the_demo_is_completed_although_a_worker_is_killed(tmp_path: Path) -> None:
    # As `make demo` runs it, but for the number of events: moto takes most of the time, and more with each of them.
    events = tmp_path / "events.jsonl"
    write_events(events, make_events(EVENTS))
    demo = run_demo("--events", str(events))
    assert demo.returncode == 0, demo.stdout + demo.stderr
    *text, last = demo.stdout.splitlines()
    numbers = LINE.fullmatch(last)
    assert numbers is not None, last
    assert numbers.groups()[:4] == (str(EVENTS), str(EVENTS), "0", "0")
    assert not any(LINE.fullmatch(line) for line in text)
    assert "SIGKILL" in demo.stdout


@pytest.mark.thorough
def test_dashboard_of_the_demo_shows_its_events(tmp_path: Path) -> None:
    events = tmp_path / "events.jsonl"
    write_events(events, make_events(50))
    command = [sys.executable, "-m", "examples.demo", "--events", str(events), "--dashboard"]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as demo:
        assert demo.stdout is not None
        address = next(match[1] for line in demo.stdout if (match := re.search(r"dashboard is at (\S+)", line)))
        overview = httpx.get(address, follow_redirects=True)
        written, errors = demo.communicate(timeout=280)
    assert demo.returncode == 0, written + errors
    assert overview.status_code == 200
    assert "outbox-demo" in overview.text
    assert LINE.fullmatch(written.splitlines()[-1])


def test_a_file_without_events_is_refused(tmp_path: Path) -> None:
    events = tmp_path / "events.jsonl"
    events.write_text('{"type": "user.created", "payload": {}}\n{"kind": "no event"}\n')
    demo = run_demo("--events", str(events))
    assert demo.returncode == 1
    assert "line 2" in demo.stderr
    assert "Traceback" not in demo.stderr


def execution(pid: int, start: float, *, end: float | None, what: What = What.DONE, attempt: int = 1) -> list[Record]:
    started = Record(what=What.START, event_id="e", pid=pid, at=start, attempt=attempt)
    if end is None:
        return [started]
    return [started, Record(what=what, event_id="e", pid=pid, at=end, attempt=attempt)]


def verdict_of(*executions: list[Record], status: str | None = "COMPLETED", expected: int = 1) -> Verdict:
    emitted = Record(what=What.EMITTED, event_id="e", pid=1, at=0.0)
    ledger = Ledger([emitted, *(record for records in executions for record in records)])
    verdict = judge(expected=expected, ledger=ledger, statuses={} if status is None else {"e": status}, kill=KILL)
    text = list(summarise(verdict, ledger=ledger, kill=KILL, seconds=1.0))
    assert text[-1].startswith("Every event" if verdict.good else "NOT every event")
    assert verdict.exit_code == (0 if verdict.good else 1)
    return verdict


def test_an_event_handled_once_is_good() -> None:
    verdict = verdict_of(execution(OTHER, 1, end=2))
    assert verdict.good
    assert verdict.line == "demo: emitted=1 completed=1 failed=0 lost=0 duplicates=0"


def test_a_retry_is_not_a_duplicate() -> None:
    verdict = verdict_of(execution(OTHER, 1, end=2, what=What.FAIL), execution(KILLED, 3, end=4, attempt=2))
    assert verdict.good
    assert verdict.duplicates == ()


@pytest.mark.parametrize("end", [None, 99.9], ids=["in the middle", "before the settle"])
def test_a_duplicate_after_the_kill_is_explained(end: float | None) -> None:
    verdict = verdict_of(execution(KILLED, 99, end=end), execution(OTHER, 105, end=106, attempt=2))
    assert verdict.good
    assert verdict.duplicates == ("e",)


@pytest.mark.parametrize(
    "executions",
    [
        [execution(OTHER, 1, end=2), execution(OTHER, 3, end=4)],
        [execution(OTHER, 1, end=None), execution(OTHER, 9, end=10, attempt=2)],
        [execution(OTHER, 1, end=5, what=What.FAIL), execution(KILLED, 2, end=6)],
        [execution(KILLED, 1, end=2), execution(OTHER, 9, end=10)],
        [execution(KILLED, 99, end=None), execution(OTHER, 105, end=106), execution(OTHER, 107, end=108)],
    ],
    ids=["done twice", "lease expired", "at the same time", "before the kill", "once more than the kill explains"],
)
def test_an_unexplained_duplicate_is_not_good(executions: list[list[Record]]) -> None:
    verdict = verdict_of(*executions)
    assert not verdict.good
    assert verdict.unexplained == ("e",)
    assert verdict.line.endswith("completed=1 failed=0 lost=0 duplicates=1")


@pytest.mark.parametrize("status", ["PENDING", "PROCESSING", None])
def test_a_lost_event_is_not_good(status: str | None) -> None:
    verdict = verdict_of(status=status)
    assert not verdict.good
    assert verdict.lost == ("e",)


def test_an_event_completed_without_its_handler_is_lost() -> None:
    assert verdict_of(execution(OTHER, 1, end=2, what=What.FAIL)).lost == ("e",)


def test_a_failed_event_is_not_good() -> None:
    verdict = verdict_of(execution(OTHER, 1, end=2, what=What.FAIL), status="FAILED")
    assert not verdict.good
    assert verdict.line == "demo: emitted=1 completed=0 failed=1 lost=0 duplicates=0"


def test_an_event_that_was_not_emitted_is_not_good() -> None:
    assert not verdict_of(execution(OTHER, 1, end=2), expected=2).good


def test_summary_says_why_more_events_are_recovered_than_handlers_ran() -> None:
    first, second = (Record(what=What.EMITTED, event_id=event_id, pid=1, at=0.0) for event_id in ("e", "claimed"))
    # The killed worker had begun one event, and had claimed another without beginning it.
    begun = [*execution(KILLED, 99, end=None), *execution(OTHER, 105, end=106, attempt=2)]
    claimed = [
        Record(what=What.START, event_id="claimed", pid=OTHER, at=105.0, attempt=2),
        Record(what=What.DONE, event_id="claimed", pid=OTHER, at=106.0, attempt=2),
    ]
    ledger = Ledger([first, second, *begun, *claimed])
    verdict = judge(expected=2, ledger=ledger, statuses={"e": "COMPLETED", "claimed": "COMPLETED"}, kill=KILL)
    text = "\n".join(summarise(verdict, ledger=ledger, kill=KILL, seconds=1.0))
    assert verdict.good
    assert "killed while 1 handler ran in it. 2 events recovered from it" in text
    assert "those that it had claimed and not begun" in text
    assert "1 event handled more than once" in text
