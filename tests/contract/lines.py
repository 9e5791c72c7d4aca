"""Events with ordering keys, for the contract of adapters."""

from __future__ import annotations

from typing import Any, Final

from dynamodb_outbox import Event, EventStatus
from dynamodb_outbox.adapter import Claim, Completed, EmitClaim, Outbox

WIDTH: Final = 10
"""The item of a queue has room for two lists of this many events; more are on pages."""


def keyed(*ids: str, key: str = "order-17", type: str = "order.paid") -> list[Event]:
    """Make events of one key."""
    return [Event(type, {"id": each}, id=each, ordering_key=key) for each in ids]


def numbered(count: int) -> list[str]:
    """Make ids."""
    return [f"e{number:03}" for number in range(count)]


def emit_claim(*ids: str) -> tuple[EmitClaim, list[Claim]]:
    """Reserve events for the worker of this process; return what was claimed, too: nothing before the emit."""
    claims: list[Claim] = []
    return EmitClaim(tokens={each: f"token-{each}" for each in ids}, claimed=claims.append), claims


async def statuses(outbox: Outbox, *ids: str) -> list[EventStatus | None]:
    """Read the statuses of events; None if there is no such event."""
    stored = [await outbox.get(each) for each in ids]
    return [None if event is None else event.status for event in stored]


async def work_off(outbox: Outbox, *, keep_keys: bool = False, most: int = 1_000) -> list[str]:
    """Claim and complete events until none is due; return their ids in the order in which they were claimed."""
    ids: list[str] = []
    clock: Any = outbox.options.clock
    while len(ids) < most and (claims := await outbox.claim(10)):
        # A worker does not try a row again that it has just tried, and knows a row by its time.
        clock.now += 0.001
        while claims:
            ids += [claim.event.id for claim in claims]
            answers = await outbox.settle([(claim, Completed()) for claim in claims], keep_keys=keep_keys)
            assert all(answer is None or isinstance(answer, Claim) for answer in answers)
            claims = [answer for answer in answers if isinstance(answer, Claim)]
    return ids
