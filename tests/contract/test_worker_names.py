"""Every adapter of this library stores which process has claimed an event."""

from __future__ import annotations

from dynamodb_outbox import Event
from dynamodb_outbox.adapter import Completed, EmitClaim, Outbox
from dynamodb_outbox.worker_identity import MAX_IDENTITY_BYTES, worker_identity
from tests.contract.adapters import claim_one, settle_one


async def test_claim_names_its_process_and_the_name_stays(outbox: Outbox) -> None:
    await outbox.publish([Event("order.placed", id="e")])
    waiting = await outbox.get("e")
    assert waiting is not None
    assert waiting.claimed_by is None
    claim = await claim_one(outbox)
    held = await outbox.get("e")
    assert held is not None
    assert held.claimed_by == worker_identity.text
    assert len(worker_identity.text.encode()) <= MAX_IDENTITY_BYTES
    await settle_one(outbox, claim, Completed())
    over = await outbox.get("e")
    assert over is not None
    assert over.claimed_by == worker_identity.text


async def test_event_that_is_claimed_on_emit_has_the_name_too(outbox: Outbox) -> None:
    event = Event("order.placed", id="e")
    await outbox.publish([event], emit_claim=EmitClaim(tokens={"e": "a" * 32}, claimed=lambda claim: None))
    held = await outbox.get("e")
    assert held is not None
    assert held.claimed_by == worker_identity.text
