"""The scriptable outbox does to calls what a test asks of it, and nothing else."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from dynamodb_outbox import Event, LeaseLostError, UnavailableError
from dynamodb_outbox.adapter import Claim, Completed, Recovered, Released
from tests.fakes import ScriptedOutbox

DOWN = UnavailableError(operation="query", attempts=1, reason="down", maybe_applied=False)
LOST = LeaseLostError(event_id="e", event_type="order.placed", outcome="complete")


async def claims_of(outbox: ScriptedOutbox, count: int) -> list[Claim]:
    await outbox.publish([Event("order.placed") for _ in range(count)])
    return await outbox.claim(count)


async def test_nth_call_fails_and_the_others_are_carried_out() -> None:
    outbox = ScriptedOutbox()
    (claim,) = await claims_of(outbox, 1)
    outbox.fail("settle", DOWN, nth=2)
    assert await outbox.settle([(claim, Completed())]) == [None]
    with pytest.raises(UnavailableError):
        await outbox.settle([(claim, Completed())])
    assert await outbox.settle([(claim, Completed())]) == [None]
    assert (outbox.count_of("settle"), outbox.count_of("claim", "publish"), outbox.claims) == (3, 2, [claim])


async def test_call_that_fails_afterwards_was_carried_out() -> None:
    outbox = ScriptedOutbox()
    outbox.fail("publish", DOWN, after=True)
    with pytest.raises(UnavailableError):
        await outbox.publish([Event("order.placed", id="e")])
    outbox.restore("publish")
    await outbox.publish([Event("order.placed")])
    assert len(outbox.stored_ids) == 2
    assert outbox.stored("e").retry_count == 0


async def test_refused_and_answered_calls_are_not_carried_out() -> None:
    outbox = ScriptedOutbox()
    first, second = await claims_of(outbox, 2)
    outbox.refuse("settle", LOST, when=lambda call: len(call.argument) == 2)
    assert await outbox.settle([(first, Completed()), (second, Completed())]) == [LOST, LOST]
    assert await outbox.settle([(first, Released())]) == [None]
    outbox.answer("recover", Recovered(reset=("e",)))
    assert await outbox.recover() == Recovered(reset=("e",))
    assert [await outbox.count(status) for status in ("PENDING", "PROCESSING")] == [1, 1]


async def test_held_call_waits_for_its_gate() -> None:
    outbox = ScriptedOutbox()
    gate = outbox.pause("claim")
    claiming = asyncio.create_task(claims_of(outbox, 1))
    with anyio.fail_after(10):
        await outbox.called("claim")
        await gate.reached.wait()
        assert not claiming.done()
        gate.open()
        assert len(await claiming) == 1
