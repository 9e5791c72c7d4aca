"""The health of a bus while DynamoDB is cut off or refuses: it says so, and restarts nothing."""

from __future__ import annotations

from typing import Any

import pytest

from dynamodb_outbox import Check, Event, HealthOptions, HealthStatus, OutboxEventBus
from reliability.proxy import CUT_BEFORE, Proxy, refused
from tests.conftest import MakeOutbox
from tests.reliability.proxy_rules import Runs, eventually


def storage_of(bus: OutboxEventBus) -> Check:
    (check,) = [check for check in bus.health().checks if check.name == "storage"]
    return check


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (CUT_BEFORE, "UnavailableError"),
        (refused("ThrottlingException", "Rate exceeded"), "ThrottledError"),
        (refused("AccessDeniedException", "not authorized to perform: dynamodb:Query"), "CredentialsError"),
        (refused("ResourceNotFoundException", "Requested resource not found"), "TableNotFoundError"),
    ],
    ids=["cut", "throttled", "denied", "table missing"],
)
async def test_outage_is_told_and_over_and_the_bus_stays_live_and_ready(
    make_outbox: MakeOutbox, proxy: Proxy, fault: Any, error: str
) -> None:
    outbox = make_outbox(on_error=lambda error: None, processing_timeout=3)
    bus = OutboxEventBus(outbox, health=HealthOptions(storage_unhealthy=2))
    bus.on("order.placed", runs := Runs())
    async with bus:
        await bus.emit("order.placed", id="before")
        await bus.drain(60)
        await eventually(lambda: bus.health().status is HealthStatus.HEALTHY, within=60)
        proxy.rule = lambda request: fault
        await eventually(lambda: storage_of(bus).status is HealthStatus.DEGRADED, within=60)
        assert error in storage_of(bus).reason
        await eventually(lambda: storage_of(bus).status is HealthStatus.UNHEALTHY, within=60)
        health = bus.health()
        assert (health.status, health.live, health.ready) == (HealthStatus.UNHEALTHY, True, True)
        proxy.rule = lambda request: None
        await eventually(lambda: bus.health().status is HealthStatus.HEALTHY, within=60)
        await bus.emit("order.placed", id="after")
        await bus.drain(60)
    assert runs.ids == ["before", "after"]


async def test_sample_of_a_real_table_tells_of_dead_letters(make_outbox: MakeOutbox) -> None:
    bus = OutboxEventBus(
        make_outbox(on_error=lambda error: None, max_retries=0, claim_on_emit=False),
        health=HealthOptions(sample_interval=1),
    )

    @bus.on("order.placed")
    async def fails(event: Event) -> None:
        raise ValueError("no address")

    def faults() -> set[str]:
        return {check.name for check in bus.health().checks if check.status is not HealthStatus.HEALTHY}

    async with bus:
        await bus.emit("order.placed")
        await eventually(lambda: "dead_letters" in faults(), within=60)
        assert bus.health().ready
