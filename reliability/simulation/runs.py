"""Runs scenarios, each in a separate world."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from random import Random
from unittest import mock

from dynamodb_outbox.dynamodb.windows import activity, upkeep
from reliability.simulation.drawing import scenario_of
from reliability.simulation.entropy import seeded, undisturbed
from reliability.simulation.result import Result
from reliability.simulation.scenario import Scenario, WindowSizes
from reliability.simulation.world import World


def run(seed: int) -> Result:
    """Run the scenario of a seed, and judge its history."""
    (result,) = run_each([seed])
    return result


def run_each(seeds: Iterable[int]) -> Iterator[Result]:
    """Run the scenarios of seeds, one after the other."""
    with undisturbed():
        for seed in seeds:
            yield _run(seed)


def _run(seed: int) -> Result:
    with world_of(scenario_of(seed)) as world:
        return world.run()


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
    with seeded(Random(f"{scenario.seed} entropy"), now=lambda: world.timeline.now), sized(scenario.sizes):
        try:
            yield world
        finally:
            world.timeline.bury()
