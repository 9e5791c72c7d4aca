"""Measures what a sample costs: read units and requests, for short and long backlogs.

The simulated table counts read units by the rule of DynamoDB. So 100,000 rows need no real table, and the figures are
exact and the same on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from benchmarks.units import Projection
from dynamodb_outbox import DynamoDBOutbox, Event
from dynamodb_outbox.dynamodb.items.codec import encode_event
from dynamodb_outbox.dynamodb.schema.shards import Shards
from reliability.simulation.backend import Backend
from reliability.simulation.client import Client

NOW: Final = 1_790_000_000.0
PAYLOAD: Final = {"text": "x" * 300}
"""With it, an item has half a kilobyte."""
ROWS: Final = (0, 100, 100_000)
TABLES: Final[tuple[tuple[Projection, int], ...]] = (("ALL", 1), ("KEYS_ONLY", 1), ("ALL", 8))
"""The projection of the index, and its shards."""
TABLE: Final = "events"


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRun:
    """The cost of one sample of so many due events; `due` is the count as it is shown."""

    rows: int
    projection: Projection
    shards: int
    due: str
    read_units: float
    requests: int


async def of_backlog(*, rows: int, projection: Projection, shards: int) -> SampleRun:
    """Sample a backlog of due events, with the default limit of 1,000."""
    backend = Backend(clock=lambda: NOW)
    requests = 0

    async def send(operation: str, parameters: dict[str, object]) -> object:
        nonlocal requests
        requests += 1
        return backend.execute(operation, parameters)

    outbox = DynamoDBOutbox(Client(send), table_name=TABLE, shards=shards, clock=lambda: NOW)
    await outbox.create_table(projection=projection)
    item, _ = encode_event(Event("order.placed", PAYLOAD), due_at=NOW, numbers="native")
    placing = Shards(shards)
    for number in range(rows):
        due = {"N": str(int(NOW * 1000) - rows + number)}
        row = placing.placed({**item, "id": {"S": f"{number:036}"}, "gsiSortKey": due})
        backend.execute("put_item", {"TableName": TABLE, "Item": row})
    requests = 0
    sample = await outbox.sample()
    return SampleRun(
        rows=rows,
        projection=projection,
        shards=shards,
        due=str(sample.due),
        read_units=sample.read_units or 0.0,
        requests=requests,
    )
