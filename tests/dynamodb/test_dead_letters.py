"""Dead letters that other writers have stored, as DynamoDB can hold and Python cannot."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from dynamodb_outbox import EventStatus, OutboxEventBus
from tests.conftest import MakeOutbox

NOW = 1_790_000_000_000
ODD = {
    "nanoseconds": str(NOW * 1_000_000),
    "huge": "1E125",
    "tiny": "1E-130",
    "negative": "-1",
    "long ago": "-9.9E+124",
    "a fraction": f"{NOW}.5",
}
FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
CLAMPED = {"nanoseconds": LAST, "huge": LAST, "long ago": FIRST}


def dead_letter(event_id: str, sort_key: str) -> dict[str, Any]:
    return {
        "id": {"S": event_id},
        "type": {"S": "odd" if event_id in ODD else "usual"},
        "payload": {"M": {}},
        "occurredAt": {"S": "2026-01-01T00:00:00+00:00"},
        "status": {"S": "FAILED"},
        "gsiSortKey": {"N": sort_key},
        "lastError": {"S": "it failed"},
    }


@pytest.mark.parametrize("mode", ["single", "batch"])
async def test_dead_letters_with_any_sort_key_are_listed_counted_and_redriven(
    local_client: Any, local_outbox: MakeOutbox, table_name: str, mode: str
) -> None:
    bus = OutboxEventBus(outbox := local_outbox(conditional_writes=mode))
    rows = ODD | {"usual": str(NOW)}
    for event_id, sort_key in rows.items():
        await local_client.put_item(TableName=table_name, Item=dead_letter(event_id, sort_key))
    listed = {event.id: event for event in await bus.get_failed_events()}
    assert list(listed) == ["huge", "nanoseconds", "a fraction", "usual", "tiny", "negative", "long ago"]
    assert [event.id for event in await bus.get_failed_events(type="usual", limit=1)] == ["usual"]
    assert {event.id for event in await bus.get_failed_events(type="odd")} == set(ODD)
    for event_id, event in listed.items():
        if event_id in CLAMPED:
            assert event.failed_at == CLAMPED[event_id]
            assert "it failed" in event.last_error
            assert "gsiSortKey" in event.last_error
        else:
            assert event.failed_at.timestamp() == pytest.approx(float(rows[event_id]) / 1000)
            assert event.last_error == "it failed"
    assert await outbox.count(EventStatus.FAILED) == len(rows)
    assert len((await bus.retry_events(rows)).done) == len(rows)
    assert await bus.get_failed_events() == []
