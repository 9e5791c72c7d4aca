"""What the faults of the drill are made of, and how it is seen that one is repaired."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from dynamodb_outbox import EventState
from examples.on_call_drill.deployment import CURRENT, FORMER, Deployment, Release
from examples.on_call_drill.shop import Shop, until


@dataclass
class Scene:
    """The shop, which emits, and the platform of the service, which delivers."""

    shop: Shop
    deployment: Deployment

    async def until_delivered(self, event_type: str, *, at_least: int | None = None) -> None:
        """Wait until the service has handled the events of a type, or so many of them."""
        wanted = len(self.shop.emitted[event_type]) if at_least is None else at_least

        async def is_delivered() -> bool:
            return await self.shop.count(event_type, EventState.COMPLETED) >= wanted

        await until(is_delivered)

    async def until_in(self, state: EventState, event_type: str, *, at_least: int | None = None) -> None:
        """Wait until the events of a type are in a state, or so many of them."""
        wanted = len(self.shop.emitted[event_type]) if at_least is None else at_least

        async def is_there() -> bool:
            return await self.shop.count(event_type, state) >= wanted

        await until(is_there)

    async def undelivered(self, event_type: str) -> str:
        """Say how many events of a type are not handled; nothing if all are."""
        total = len(self.shop.emitted[event_type])
        missing = total - await self.shop.count(event_type, EventState.COMPLETED)
        return f"{missing} of {total} events of the type {event_type} are not delivered" if missing else ""

    async def left_on_hold(self) -> str:
        """Say what is on hold; nothing if nothing is."""
        holds = await self.shop.outbox.holds()
        return f"a hold is left, of {holds[0].type or 'all events'}" if holds else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault: how it comes about, what is heard of it, and how it is seen that it is repaired."""

    alert: str
    """What an engineer gets to know."""
    cause: str
    repair: tuple[str, ...]
    """Commands that repair it. Others may do so, too."""
    checks: tuple[str, ...]
    """What the doctor says first; where it then asks for an option, also what it says with it."""
    prepare: Callable[[Scene], Awaitable[None]]
    unrepaired: Callable[[Scene], Awaitable[str]]
    """Says what is still wrong, without a word about the cause; nothing once the fault is repaired."""
    shards: int = 1
    has_time_to_live: bool = True
    releases: Sequence[Release] = (FORMER, CURRENT)
    current: str = CURRENT.name


ORDERS: Final = "order.placed"
INVOICES: Final = "invoice.requested"
FOREIGN: Final = "stock.counted"


async def orders_are_undelivered(scene: Scene) -> str:
    """Say how many orders are not handled, or that somebody has left a hold."""
    return await scene.undelivered(ORDERS) or await scene.left_on_hold()
