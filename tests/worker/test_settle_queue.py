"""The settle queue: outcomes that come together are written together, and each is written or reported."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import anyio

from dynamodb_outbox import Event, LeaseLostError, SettleError
from dynamodb_outbox.adapter import Claim, Completed, Released
from dynamodb_outbox.worker.kept_keys import BUSY_AFTER, KeptKeys
from dynamodb_outbox.worker.settle_queue import BATCH, WRITERS, SettleQueue
from tests.fakes import ScriptedOutbox


def batches(outbox: ScriptedOutbox) -> list[int]:
    """How many outcomes were written together."""
    return [len(call.argument) for call in outbox.calls["settle"]]


async def claims(outbox: ScriptedOutbox, count: int) -> list[Claim]:
    await outbox.publish([Event("order.placed") for _ in range(count)])
    return await outbox.claim(count)


async def test_outcomes_that_come_during_a_write_go_with_the_next() -> None:
    outbox, settled = ScriptedOutbox(), []
    gate = outbox.pause("settle")
    commit = SettleQueue(outbox, on_settled=lambda *args: settled.append(args), report=lambda error: None)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            commit.open(group)
            for claim in await claims(outbox, 100):
                commit.submit(claim, Completed())
                await anyio.sleep(0)
            assert batches(outbox) == [1] * WRITERS
            gate.open()
            commit.close()
    assert sum(batches(outbox)) == len(settled) == 100
    assert max(batches(outbox)) == BATCH
    assert len(batches(outbox)) <= WRITERS + 5


async def test_outcomes_are_written_though_everything_is_cancelled() -> None:
    outbox, settled = ScriptedOutbox(), []
    gate = outbox.pause("settle")
    commit = SettleQueue(outbox, on_settled=lambda *args: settled.append(args), report=lambda error: None)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            commit.open(group)
            commit.submit((await claims(outbox, 1))[0], Released())
            await anyio.sleep(0)
            group.cancel_scope.cancel()
            gate.open()
            commit.close()
    assert len(settled) == 1


async def test_outcomes_are_written_though_each_task_is_cancelled() -> None:
    outbox, settled = ScriptedOutbox(), []
    commit = SettleQueue(outbox, on_settled=lambda *args: settled.append(args), report=lambda error: None)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            commit.open(group)
            await anyio.sleep(0.01)
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            await anyio.sleep(0.01)
            for claim in await claims(outbox, 100):
                commit.submit(claim, Released())
            await anyio.sleep(0.01)
            commit.close()
    # Asserted outside of the group, because the group ends silently when one of its tasks does.
    assert len(settled) == 100


async def test_outcomes_that_are_given_up_at_the_deadline_are_reported() -> None:
    outbox = ScriptedOutbox()
    outbox.pause("settle")
    settled: list[Any] = []
    reported: list[Any] = []
    commit = SettleQueue(outbox, on_settled=lambda *args: settled.append(args), report=reported.append)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            commit.open(group)
            for claim in await claims(outbox, BATCH * WRITERS + 30):
                commit.submit(claim, Completed())
            await anyio.sleep(0.01)
            commit.abandon_at(anyio.current_time() + 0.01)
            commit.close()
    assert {claim.token for claim, _, _ in settled} == {claim.token for claim in outbox.claims}
    assert {type(error) for error in reported} == {SettleError}
    assert len(settled) == len(reported) == BATCH * WRITERS + 30
    # Those that were sent may have been written.
    assert sum(error.maybe_applied for _, _, error in settled) == BATCH * WRITERS


async def test_writes_are_given_up_at_the_deadline() -> None:
    outbox = ScriptedOutbox()
    outbox.pause("settle")
    commit = SettleQueue(outbox, on_settled=lambda *args: None, report=lambda error: None)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            commit.open(group)
            commit.submit((await claims(outbox, 1))[0], Released())
            await anyio.sleep(0)
            commit.abandon_at(anyio.current_time() + 0.01)


async def test_lost_lease_ends_the_events_in_a_row_of_a_key() -> None:
    outbox, polls = ScriptedOutbox(), []
    keys = KeptKeys(lambda: True, take=lambda claim: None, poll=lambda: polls.append(claim))
    settles = SettleQueue(outbox, on_settled=lambda *args: None, report=lambda error: None, kept_keys=keys)
    *_, claim = in_a_row = await claims(outbox, BUSY_AFTER)
    for handled, following in pairwise(in_a_row):
        keys.on_settled(handled, following)
    lost = LeaseLostError(event_id=claim.event.id, event_type=claim.event.type, outcome="settling")
    settles.record(claim, Released(), lost)
    assert polls == [claim]
    keys.on_settled(claim, None)
    assert polls == [claim]
