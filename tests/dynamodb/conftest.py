"""DynamoDB Local behind a proxy that records what is sent, and breaks what it is told to."""

from __future__ import annotations

from typing import Any

import pytest

from dynamodb_outbox import DynamoDBOutbox
from dynamodb_outbox.dynamodb.delivering import membership
from reliability.proxy import Proxy


@pytest.fixture
async def outbox(client: Any, proxy: Proxy, table_name: str) -> DynamoDBOutbox:
    """An outbox on a new table, whose workers look so rarely that no request is there but those that a test makes."""
    made = DynamoDBOutbox(client, table_name=table_name, conditional_writes="batch", poll_interval=30)
    await made.create_table()
    proxy.requests.clear()
    return made


class PeersTime:
    """A loop's time that a test moves by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def current_time(self) -> float:
        return self.now


@pytest.fixture
def peers_time(monkeypatch: pytest.MonkeyPatch) -> PeersTime:
    """The time by which workers judge each other: nobody is gone, or impatient, because the machine pauses."""
    time = PeersTime()
    monkeypatch.setattr(membership, "anyio", time)
    monkeypatch.setattr(membership, "CALL_SECONDS", 30.0)
    return time
