"""Every adapter of this library says since when a claimed event has been due."""

from __future__ import annotations

import pytest

from dynamodb_outbox import Event
from dynamodb_outbox.adapter import Claim, EmitClaim, Outbox, Retry
from tests.contract.adapters import claim_one, settle_one
from tests.fakes import Clock


async def test_claim_has_the_time_that_the_event_was_due_at(outbox: Outbox, clock: Clock) -> None:
    await outbox.publish([Event("order.placed", id="e")], due_at=clock.now + 5)
    clock.now += 12
    claim = await claim_one(outbox)
    assert claim.due_at == pytest.approx(clock.now - 7, abs=0.001)
    await settle_one(outbox, claim, Retry(delay=60, error="no"))
    clock.now += 61
    assert (await claim_one(outbox)).due_at == pytest.approx(clock.now - 1, abs=0.001)


async def test_event_that_is_claimed_on_emit_was_due_at_its_emit(outbox: Outbox, clock: Clock) -> None:
    claims: list[Claim] = []
    event = Event("order.placed", id="e")
    await outbox.publish([event], emit_claim=EmitClaim(tokens={"e": "a" * 32}, claimed=claims.append))
    assert [claim.due_at for claim in claims] == [pytest.approx(clock.now, abs=0.001)]
