"""The table or its index is deleted while a worker runs, and made again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from dynamodb_outbox import DynamoDBOutbox, Event, IndexNotFoundError, OutboxEventBus, PollingError, TableNotFoundError
from dynamodb_outbox.observers import PollingFailed
from tests.backends import until_indexes_are_made
from tests.conftest import MakeOutbox, fresh_dynamodb_local
from tests.reliability.proxy_rules import Runs, eventually


@pytest.fixture(scope="module")
def local_endpoint(local_endpoint: str) -> Iterator[str]:
    with fresh_dynamodb_local(instead_of=local_endpoint) as endpoint:
        yield endpoint


@pytest.mark.thorough
@pytest.mark.parametrize("what", ["table", "index"])
async def test_worker_resumes_when_what_was_deleted_is_made_again(
    make_outbox: MakeOutbox, local_client: Any, table: str, what: str
) -> None:
    errors: list[Any] = []
    told: list[Any] = []
    outbox = make_outbox(on_error=errors.append, observers=[told.append])
    bus = OutboxEventBus(outbox)
    bus.on("order.placed", runs := Runs())
    kept = await local_client.describe_table(TableName=table)
    async with bus:
        await bus.emit("order.placed", id="before")
        await bus.drain(20)
        if what == "table":
            await local_client.delete_table(TableName=table)
        else:
            deletion = {"Delete": {"IndexName": "status-gsiSortKey-index"}}
            await local_client.update_table(TableName=table, GlobalSecondaryIndexUpdates=[deletion])
        missing = TableNotFoundError if what == "table" else IndexNotFoundError
        # The emulator takes its time to delete an index, and answers queries with an internal error meanwhile.
        await eventually(lambda: sum(isinstance(error.__cause__, missing) for error in errors) >= 2, within=180)
        assert bus.running
        with pytest.raises(missing):
            await outbox.claim(1)
        if what == "table":
            await outbox.create_table()
        else:
            (index,) = kept["Table"]["GlobalSecondaryIndexes"]
            creation = {name: index[name] for name in ("IndexName", "KeySchema", "Projection")}
            await local_client.update_table(
                TableName=table,
                AttributeDefinitions=kept["Table"]["AttributeDefinitions"],
                GlobalSecondaryIndexUpdates=[{"Create": creation}],
            )
            await until_indexes_are_made(local_client, table)
        # Not by the bus, which would handle it without a look at the index.
        await DynamoDBOutbox(local_client, table_name=table).publish([Event("order.placed", id="after")])
        await eventually(lambda: "after" in runs.ids)
        await bus.drain(20)
    assert runs.ids == ["before", "after"]
    failed = [fact for fact in told if isinstance(fact, PollingFailed)]
    assert {type(fact.error) for fact in failed} >= {missing}
    assert len(failed) == sum(isinstance(error, PollingError) for error in errors)
