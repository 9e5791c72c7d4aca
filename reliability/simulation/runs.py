"""Runs scenarios, each in a separate world."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from random import Random
from unittest import mock

from dynamodb_outbox.dynamodb.delivering import queue_exits
from dynamodb_outbox.dynamodb.ordering.queue import WIDTH
from dynamodb_outbox.dynamodb.windows import activity, upkeep
from reliability.simulation.drawing import scenario_of
from reliability.simulation.entropy import seeded, undisturbed
from reliability.simulation.result import Result
from reliability.simulation.scenario import QueueSizes, Scenario, WindowSizes
from reliability.simulation.world import World


def run(seed: int, *, has_keys: bool = False) -> Result:
    """Run the scenario of a seed, and judge its history."""
    (result,) = run_each([seed], has_keys=has_keys)
    return result


def run_each(seeds: Iterable[int], *, has_keys: bool = False) -> Iterator[Result]:
    """Run the scenarios of seeds, one after the other; with `has_keys`, all of them have ordering keys."""
    with undisturbed():
        for seed in seeds:
            yield _run(scenario_of(seed, has_keys=has_keys))


def _run(scenario: Scenario) -> Result:
    with world_of(scenario) as world:
        return world.run()


@contextmanager
def narrow(sizes: QueueSizes | None) -> Generator[None]:
    """Have queues of another width, which workers keep for fewer events."""
    if sizes is None:
        yield
        return
    modules = [module for name, module in sys.modules.items() if name.startswith("dynamodb_outbox.dynamodb")]
    with ExitStack() as stack:
        for module in modules:
            if getattr(module, "WIDTH", None) == WIDTH:
                stack.enter_context(mock.patch.object(module, "WIDTH", sizes.width))
        stack.enter_context(mock.patch.object(queue_exits, "MAX_KEPT", sizes.kept))
        yield


@contextmanager
def sized(sizes: WindowSizes | None) -> Generator[None]:
    """Have windows of other sizes."""
    if sizes is None:
        yield
        return
    with (
        mock.patch.multiple(
            activity,
            OPEN_AT=sizes.open_at,
            KEEP_AT=1,
            LEAST_AHEAD=sizes.ahead,
            LONGEST_SPAN=sizes.span,
            STRAGGLER_SPAN=sizes.span // 2,
        ),
        mock.patch.multiple(upkeep, LEAST_AHEAD=sizes.ahead, STRAGGLER_SPAN=sizes.span // 2),
    ):
        yield


@contextmanager
def world_of(scenario: Scenario) -> Generator[World]:
    """Make the world of a scenario. Inside of this context, everything in this process follows from the seed."""
    world = World(scenario, Random(f"{scenario.seed} world"))
    chance = seeded(Random(f"{scenario.seed} entropy"), now=lambda: world.timeline.now)
    with chance, sized(scenario.sizes), narrow(scenario.queues):
        try:
            yield world
        finally:
            world.timeline.bury()
