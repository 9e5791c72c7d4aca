"""Recorders and journals: what a worker does comes back as records, also from several processes' files."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest

from dynamodb_outbox import DuplicateEventError, Event, InMemoryOutbox, OutboxEventBus, Reject, RetryLater
from reliability.history import (
    Outcome,
    Record,
    Result,
    Stored,
    StoredQueue,
    StoredWindow,
    event_ids_of,
    shortened,
    text_of,
)
from reliability.items import stored_of
from reliability.journal import Journal, line_of, read, record_of
from reliability.recording import Recorder


def sample(kind: type[Any]) -> Any:
    values: dict[str, Any] = {"float": 1.5, "float | None": 2.5, "str": "x", "int": 3, "bool": True}
    values |= {"bool | None": False, "tuple[str, ...]": ("a", "b"), "Result": Result.FAILED, "Outcome": Outcome.RETRY}
    values["Stored | None"] = Stored(event_id="a", status="PENDING", retry_count=1, sort_key=2, handled_by=("h",))
    values["StoredWindow | None"] = StoredWindow(window="w", status="WINDOW", token="t", seed="00", start=1, end=2)
    values["StoredQueue | None"] = StoredQueue(key="k", status="PENDING", ids=("a", "b"), head=("c",), token="t")
    return kind(**{member.name: values[str(member.type)] for member in fields(kind)})


@pytest.mark.parametrize("kind", get_args(Record), ids=lambda kind: kind.__name__)
def test_every_record_comes_back_from_its_line_as_it_was(kind: type[Any]) -> None:
    record = sample(kind)
    assert record_of(line_of(record)) == record


def test_several_writers_share_a_journal_and_a_torn_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    assert read(path) == []
    first, second = Journal(path), Journal(path)
    records = [sample(kind) for kind in get_args(Record)]
    for number, record in enumerate(records):
        (first if number % 2 else second)(record)
    first.close()
    second.close()
    with path.open("a") as file:
        file.write('{"record": "Claimed", "at"')
    assert read(path) == records


async def test_recorder_sees_a_life_from_the_emit_to_the_redrive() -> None:
    history: list[Record] = []
    outbox = InMemoryOutbox(poll_interval=0.01, base_backoff=0.001, claim_on_emit=False)
    recorder = Recorder(history.append, worker="w1", now=time.time)
    port = recorder.around(outbox)
    bus = OutboxEventBus(port, on_error=recorder.report)

    @bus.on("fine", name="fine")
    async def fine(event: Event) -> None:
        pass

    @bus.on("later", name="later")
    async def later(event: Event) -> None:
        if event.id not in event_ids_failed():
            raise RetryLater(0.002)

    def event_ids_failed() -> set[str]:
        return {name for record in history if "Ended" in type(record).__name__ for name in event_ids_of(record)}

    @bus.on("bad", name="bad")
    async def bad(event: Event) -> None:
        raise Reject("never")

    for type_ in ("fine", "later", "bad"):
        await bus.emit(type_, id=type_)
    with pytest.raises(DuplicateEventError):
        await bus.emit("fine", id="fine")
    recorder.started(outbox)
    async with bus:
        await bus.drain(10)
    assert len((await bus.retry_events(["bad"])).done) == 1

    def told(event_id: str) -> list[str]:
        return [type(record).__name__ for record in history if event_id in event_ids_of(record)]

    emitted = ["EmitAsked", "EmitAcknowledged"]
    attempt = ["Claimed", "HandlerStarted", "HandlerEnded", "Settled"]
    assert told("fine") == [*emitted, "EmitAsked", "EmitRefused", *attempt]
    assert told("later") == emitted + attempt + attempt
    assert told("bad") == [*emitted, *attempt, "Redriven"]
    claims = {record.token for record in history if type(record).__name__ == "Claimed"}
    per_token = Counter(record.token for record in history if type(record).__name__ == "HandlerStarted")
    assert per_token == Counter(claims)
    ends = [record for record in history if type(record).__name__ == "HandlerEnded"]
    assert {(end.event_id, end.result, end.retry_in, end.final) for end in ends} == {
        ("fine", Result.SUCCEEDED, None, False),
        ("later", Result.FAILED, 0.002, False),
        ("later", Result.SUCCEEDED, None, False),
        ("bad", Result.FAILED, None, True),
    }


async def test_claims_on_emit_are_recorded_with_their_tokens_before_their_handlers() -> None:
    history: list[Record] = []
    outbox = InMemoryOutbox(poll_interval=0.01)
    recorder = Recorder(history.append, worker="w1", now=time.time)
    bus = OutboxEventBus(recorder.around(outbox), on_error=recorder.report)

    @bus.on("t", name="h")
    async def handler(event: Event) -> None:
        pass

    async with bus:
        await bus.emit("t", id="a")
        await bus.drain(10)
    claimed = next(record for record in history if type(record).__name__ == "Claimed")
    started = next(record for record in history if type(record).__name__ == "HandlerStarted")
    assert claimed.on_emit
    assert started.token == claimed.token
    assert history.index(claimed) < history.index(started)


def test_shortened_history_is_of_one_event_and_reads_well() -> None:
    records = [sample(kind) for kind in get_args(Record)]
    kept = shortened(records, event_id="x")
    assert {type(record).__name__ for record in kept} >= {"Claimed", "WorkerKilled", "FaultBegan"}
    assert "CallsCounted" not in {type(record).__name__ for record in kept}
    assert "WorkerKilled" in text_of(kept)
    assert shortened(records, event_id="another") == []


def test_items_are_read_as_the_low_level_api_gives_them() -> None:
    item = {"id": {"S": "a"}, "status": {"S": "PENDING"}, "retryCount": {"N": "2"}, "gsiSortKey": {"N": "7"}}
    item |= {"claimToken": {"S": "t"}, "handledBy": {"SS": ["y", "x"]}}
    read_back = stored_of(item)
    assert read_back == Stored(
        event_id="a", status="PENDING", retry_count=2, sort_key=7, token="t", handled_by=("x", "y"), indexed=True
    )
    assert not stored_of(item, index_key="statusShard").indexed
