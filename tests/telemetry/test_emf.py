"""The embedded metric format: one line a minute and type, with the names that CloudWatch alarms use."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest

from dynamodb_outbox import ConfigurationError, Event, OutboxEventBus
from dynamodb_outbox.integrations.emf import MAX_VALUES, EmfObserver
from dynamodb_outbox.observers import HandlerSucceeded
from dynamodb_outbox.stored_events import Count
from tests.fakes import Recorder, ScriptedOutbox
from tests.telemetry.test_metrics import Sampled, sample
from tests.virtual_time import VirtualTime


class Lines:
    """The lines that were written, as documents."""

    def __init__(self) -> None:
        self.documents: list[dict[str, Any]] = []

    def write(self, line: str) -> None:
        assert "\n" not in line
        self.documents.append(json.loads(line))

    def of(self, event_type: str | None) -> dict[str, Any]:
        (found,) = [document for document in self.documents if document.get("type") == event_type]
        return found


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def observer(bus: OutboxEventBus, lines: Lines) -> EmfObserver:
    observer = EmfObserver(bus, write=lines.write)
    bus.add_observer(observer)
    return observer


def metrics_of(document: dict[str, Any]) -> dict[str, str]:
    """Check the form of a document, and return the unit of each metric."""
    (described,) = document["_aws"]["CloudWatchMetrics"]
    assert isinstance(document["_aws"]["Timestamp"], int)
    for names in described["Dimensions"]:
        assert all(isinstance(document[name], str) for name in names)
    assert len(described["Metrics"]) <= 100
    for metric in described["Metrics"]:
        values = document[metric["Name"]]
        for value in values if isinstance(values, list) else [values]:
            assert isinstance(value, (int, float))
        assert not isinstance(values, list) or 1 <= len(values) <= MAX_VALUES
    return {metric["Name"]: metric["Unit"] for metric in described["Metrics"]}


async def test_lines_of_an_interval(
    bus: OutboxEventBus, observer: EmfObserver, lines: Lines, virtual_time: VirtualTime
) -> None:
    @bus.on("order.placed", name="bill", max_retries=0)
    async def bill(event: Event) -> None:
        if event.payload == "bad":
            raise ValueError("secret-error")

    await bus.emit_many([Event("order.placed", id="secret-1"), Event("order.placed", "bad", id="secret-2")])
    await bus.run_once()
    assert lines.documents == []
    observer.flush()
    of_type, of_table = lines.of("order.placed"), lines.of(None)
    units = metrics_of(of_type)
    assert units["messaging.process.duration"] == "Seconds"
    assert units["dynamodb_outbox.event.completed"] == "Count"
    assert len(of_type["messaging.process.duration"]) == 2
    assert of_type["messaging.process.errors"] == 1
    assert of_type["dynamodb_outbox.event.completed"] == of_type["dynamodb_outbox.event.failed"] == 1
    assert of_type["messaging.client.sent.messages"] == of_type["messaging.client.consumed.messages"] == 2
    (described,) = of_type["_aws"]["CloudWatchMetrics"]
    assert described["Namespace"] == "DynamoDBOutbox"
    assert described["Dimensions"] == [["table"], ["table", "type"]]
    assert metrics_of(of_table)["messaging.client.operation.duration.claim"] == "Seconds"
    assert of_table["dynamodb_outbox.worker.slots"] == bus.outbox.options.slots
    assert of_table["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [["table"]]
    assert "secret" not in json.dumps(lines.documents)


async def test_idle_worker_writes_a_line_a_minute(bus: OutboxEventBus, observer: EmfObserver, lines: Lines) -> None:
    async with bus:
        await anyio.sleep(150)
    assert len(lines.documents) == 2
    assert all(document["dynamodb_outbox.worker.slots"] for document in lines.documents)


async def test_failed_emits_are_counted_apart(
    bus: OutboxEventBus, outbox: ScriptedOutbox, observer: EmfObserver, lines: Lines
) -> None:
    await bus.emit("order.placed", id="order-1")
    with pytest.raises(Exception, match="order-1"):
        await bus.emit("order.placed", id="order-1")
    observer.flush()
    assert lines.of("order.placed")["messaging.client.sent.messages"] == 1
    assert lines.of("order.placed")["messaging.client.sent.messages.errors"] == 1
    assert lines.of(None)["messaging.client.operation.errors"] == 1


async def test_values_of_many_calls_are_a_sample(bus: OutboxEventBus, observer: EmfObserver, lines: Lines) -> None:
    facts: dict[str, Any] = {"event_id": "e", "event_type": "order.placed", "handler": "bill", "attempt": 1}
    for number in range(1000):
        observer(HandlerSucceeded(**facts, seconds=float(number)))
    observer.flush()
    values = lines.of("order.placed")["messaging.process.duration"]
    assert len(set(values)) == MAX_VALUES
    assert max(values) > 500


async def test_without_types_there_is_one_line(bus: OutboxEventBus, lines: Lines) -> None:
    observer = EmfObserver(bus, write=lines.write, by_type=False)
    bus.add_observer(observer)
    bus.on("order.placed", Recorder())
    await bus.emit("order.placed")
    await bus.run_once()
    observer.flush()
    (document,) = lines.documents
    assert document["dynamodb_outbox.event.completed"] == 1
    assert "type" not in document


async def test_sample_of_the_table(lines: Lines) -> None:
    outbox = Sampled()
    bus = OutboxEventBus(outbox)
    observer = EmfObserver(bus, write=lines.write)
    outbox.found = sample(datetime.now(UTC))
    await bus.sampler.get()
    observer.flush()
    (document,) = lines.documents
    assert document["dynamodb_outbox.oldest_due.age"] == 90
    assert document["dynamodb_outbox.events.failed"] == 2
    assert metrics_of(document)["dynamodb_outbox.oldest_due.age"] == "Seconds"


async def test_blocked_keys_are_left_out_while_they_are_unknown(lines: Lines) -> None:
    outbox = Sampled()
    bus = OutboxEventBus(outbox)
    observer = EmfObserver(bus, write=lines.write)
    outbox.found = replace(sample(datetime.now(UTC)), blocked_keys=Count(at_least=0, is_exact=False))
    await bus.sampler.get()
    observer.flush()
    (document,) = lines.documents
    assert document["dynamodb_outbox.events.failed"] == 2
    assert "dynamodb_outbox.blocked_keys" not in document


async def test_lines_go_to_standard_output(bus: OutboxEventBus, capsys: pytest.CaptureFixture[str]) -> None:
    observer = EmfObserver(bus)
    bus.add_observer(observer)
    await bus.run_once()
    observer.flush()
    assert "_aws" in json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("options", [{"namespace": ""}, {"interval": 0}, {"by_type": 1}, {"write": "stdout"}])
async def test_bad_options_are_refused(bus: OutboxEventBus, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        EmfObserver(bus, **options)
