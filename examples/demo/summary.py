"""The summary: the verdict in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from examples.demo.ledger import Execution, Ledger
from examples.demo.plan import LEASE_SECONDS
from examples.demo.verdict import Kill, Verdict

LISTED: Final = 10
"""The most events that are listed of a kind."""


def summarise(verdict: Verdict, *, ledger: Ledger, kill: Kill | None, seconds: float) -> Iterator[str]:
    """Say in a few lines what happened, and what is wrong if something is."""
    yield (
        f"{_events(verdict.emitted)} emitted: {verdict.completed} completed, {len(verdict.failed)} failed, "
        f"{len(verdict.lost)} lost, in {seconds:.1f} s."
    )
    yield f"{ledger.retries} retries, because a handler had raised."
    if kill is not None:
        handlers = "1 handler" if kill.running == 1 else f"{kill.running} handlers"
        yield (
            f"One worker was killed while {handlers} ran in it. "
            f"{_events(ledger.recovered)} recovered from it, once their leases of {LEASE_SECONDS:g} s had run out: "
            "those that its handlers ran for, those that it had claimed and not begun, and those that it had handled "
            "and not settled."
        )
    explained = len(verdict.duplicates) - len(verdict.unexplained)
    yield (
        f"{_events(len(verdict.duplicates))} handled more than once, {explained} of them because the killed worker had "
        "begun and not settled them."
    )
    yield from _complaints(verdict, ledger)
    yield "Every event ended as it should." if verdict.good else "NOT every event ended as it should."


def _complaints(verdict: Verdict, ledger: Ledger) -> Iterator[str]:
    if verdict.emitted != verdict.expected:
        yield f"  {verdict.expected - verdict.emitted} of {verdict.expected} events were not emitted"
    yield from _listed("failed", verdict.failed, ledger)
    yield from _listed("lost", verdict.lost, ledger)
    yield from _listed("unexplained duplicate", verdict.unexplained, ledger)


def _listed(what: str, event_ids: Sequence[str], ledger: Ledger) -> Iterator[str]:
    for event_id in event_ids[:LISTED]:
        executions = [
            f"attempt {one.attempt} in process {one.pid} began at {one.started:.3f}, {_end(one)}"
            for one in ledger.executions(event_id)
        ]
        yield f"  {what}: {event_id}: {'; '.join(executions) or 'no attempt'}"
    if len(event_ids) > LISTED:
        yield f"  {what}: {len(event_ids) - LISTED} more"


def _end(execution: Execution) -> str:
    return "never ended" if execution.ended is None else f"ended at {execution.ended:.3f} ({execution.result})"


def _events(count: int) -> str:
    return "1 event" if count == 1 else f"{count:,} events"
