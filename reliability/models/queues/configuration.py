"""A configuration: a world to explore, and how often each thing may happen."""

from __future__ import annotations

from dataclasses import dataclass

from reliability.models.queues.model import QueueModel
from reliability.models.queues.rules import rules_without
from reliability.models.queues.state import Budget
from reliability.models.queues.world import Emission, Script, World
from reliability.models.suite import Size


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """A world to explore. `World` describes the fields."""

    name: str
    scripts: tuple[Script, ...]
    budget: Budget
    size: Size = Size.SMALL
    workers: int = 2
    room: int = 1
    emits_claim: bool = True
    emitters_repeat: bool = True
    failed_key: str = "block"
    loads_ahead: bool = False

    def model(self, without: tuple[str, ...] = ()) -> QueueModel:
        """Make the model, perhaps without some of the rules."""
        world = World(
            self.scripts,
            self.budget,
            workers=self.workers,
            room=self.room,
            emits_claim=self.emits_claim,
            emitters_repeat=self.emitters_repeat,
            failed_key=self.failed_key,
            loads_ahead=self.loads_ahead,
            rules=rules_without(without),
        )
        return QueueModel(world)


def emits(*events: int) -> Script:
    """Emit events one after the other."""
    return tuple(Emission((event,)) for event in events)


def together(*events: int) -> Script:
    """Emit events that share an APPEND."""
    return (Emission(events),)


def in_transaction(*events: int) -> Script:
    """Emit events in one transaction."""
    return (Emission(events, in_transaction=True),)
