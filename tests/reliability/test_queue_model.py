"""The protocol of ordered queues holds in small configurations, and needs its rules; `make models` explores more."""

from __future__ import annotations

from dataclasses import fields

import pytest

from reliability.models.queues.configuration import Configuration
from reliability.models.queues.configurations import LISTED_TWICE, SMALL
from reliability.models.queues.large_configurations import LARGE, WALKED
from reliability.models.queues.mutants import MUTANTS, SURVIVORS
from reliability.models.queues.rules import Rules
from reliability.models.suite import Mutant, Size, Survivor
from reliability.models.trial import explored, tried
from reliability.models.walking import walk_until
from tests.thorough import often


@pytest.mark.cases(4)  # and all of them with THOROUGH=1
@pytest.mark.parametrize("configuration", SMALL, ids=lambda configuration: configuration.name)
def test_every_property_holds_in_every_state(configuration: Configuration) -> None:
    result = explored(configuration)
    assert (result.broken, result.trace) == (None, ())
    assert result.is_complete
    assert result.states > 40


def test_every_property_but_liveness_holds_in_the_first_states_with_events_that_are_listed_twice() -> None:
    result = explored(LISTED_TWICE, most_states=10_000)
    assert (result.broken, result.trace, result.is_complete) == (None, (), False)


@pytest.mark.cases(4)  # and all of them with THOROUGH=1
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_protocol_without_a_rule_is_found_to_be_broken(mutant: Mutant) -> None:
    trial = tried(mutant)
    assert trial.is_as_expected, trial.text
    assert trial.explored.trace


@pytest.mark.cases(4)  # and all of them with THOROUGH=1
@pytest.mark.parametrize("survivor", SURVIVORS, ids=lambda survivor: survivor.name)
def test_redundant_rule_may_be_dropped(survivor: Survivor) -> None:
    trial = tried(survivor, most_states=3_000)
    assert trial.is_as_expected, trial.text


@pytest.mark.cases(4)  # and all of them with THOROUGH=1
@pytest.mark.parametrize("configuration", WALKED, ids=lambda configuration: configuration.name)
def test_random_walks_through_large_configurations_break_nothing(configuration: Configuration) -> None:
    most = often(8, thorough=40)
    result = walk_until(configuration.model(), is_over=lambda walks: walks == most, seed=1)
    assert (result.broken, result.trace) == (None, ())
    assert result.walks == most


def test_random_walks_find_a_broken_protocol() -> None:
    model = WALKED[0].model(without=("fronts_are_loaded",))
    result = walk_until(model, is_over=lambda walks: walks == 500, seed=1)
    assert result.broken is not None
    assert result.broken.startswith("ORDER")


def test_every_rule_has_a_mutant_or_a_survivor() -> None:
    dropped = {rule for each in (*MUTANTS, *SURVIVORS) for rule in each.without}
    assert dropped == {field.name for field in fields(Rules)}


def test_every_property_is_broken_by_a_mutant() -> None:
    properties = {"ORDER", "BLOCK", "ONE", "LOSS", "POP", "FINAL", "TWICE", "SHAPE", "LIVE", "ASIDE"}
    assert {mutant.breaks for mutant in MUTANTS} == properties


def test_names_are_told_apart() -> None:
    names = [each.name for each in (*SMALL, *LARGE, *WALKED, *MUTANTS, *SURVIVORS)]
    assert len(set(names)) == len(names)


def test_only_small_configurations_are_explored_every_day() -> None:
    assert {configuration.size for configuration in SMALL} == {Size.SMALL}
    assert {configuration.size for configuration in LARGE} == {Size.LARGE}
