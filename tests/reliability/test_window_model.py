"""The protocol of the windows holds in small configurations, and its rules are needed; `make models` explores more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

import pytest

from reliability.models.exploring import Step, explore
from reliability.models.suite import Mutant, Survivor
from reliability.models.trial import explored, tried
from reliability.models.walking import walk_until
from reliability.models.windows.configurations import (
    CONFIGURATIONS,
    PARTLY,
    SMALL,
    WALKED,
    Configuration,
)
from reliability.models.windows.mutants import MUTANTS, SURVIVORS
from reliability.models.windows.rules import Rules


@pytest.mark.cases(4)  # and all of them with THOROUGH=1
@pytest.mark.parametrize("configuration", SMALL, ids=lambda configuration: configuration.name)
def test_every_property_holds_in_every_state(configuration: Configuration) -> None:
    result = explored(configuration)
    assert (result.broken, result.trace) == (None, ())
    assert result.is_complete
    assert result.states > 100


@pytest.mark.thorough
@pytest.mark.cases(4)  # and all of them with THOROUGH=1
@pytest.mark.parametrize("configuration", PARTLY, ids=lambda configuration: configuration.name)
def test_every_property_but_liveness_holds_in_the_first_states(configuration: Configuration) -> None:
    result = explored(configuration, most_states=15_000)
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
    trial = tried(survivor, most_states=5_000)
    assert trial.is_as_expected, trial.text


@pytest.mark.cases(4)  # and all of them with THOROUGH=1
@pytest.mark.parametrize("configuration", WALKED, ids=lambda configuration: configuration.name)
def test_random_walks_through_large_configurations_break_nothing(configuration: Configuration) -> None:
    result = walk_until(configuration.model(), is_over=lambda walks: walks == 50, seed=1)
    assert (result.broken, result.trace) == (None, ())
    assert result.walks == 50


def test_random_walks_find_a_broken_protocol() -> None:
    model = WALKED[0].model(without=("recoverers_visit_every_number",))
    result = walk_until(model, is_over=lambda walks: walks == 2_000, seed=1)
    assert result.broken is not None
    assert result.broken.startswith("LOSS")


def test_every_rule_has_a_mutant_or_a_survivor() -> None:
    dropped = {rule for each in (*MUTANTS, *SURVIVORS) for rule in each.without}
    assert dropped == {field.name for field in fields(Rules)}


def test_names_are_told_apart() -> None:
    names = [each.name for each in (*CONFIGURATIONS, *WALKED, *MUTANTS, *SURVIVORS)]
    assert len(set(names)) == len(names)


class Counter:
    """A counter that wants to reach 4 and may jump by a fault, to show what the explorer does."""

    def __init__(self, *, jump: int, forbidden: int = -1) -> None:
        self._jump = jump
        self._forbidden = forbidden

    def start(self) -> int:
        return 0

    def steps(self, state: int) -> Iterator[Step[int]]:
        if state < 4:
            yield Step(("add", 1), state + 1)
        if state == 2:
            yield Step(("jump by", self._jump), state + self._jump, is_fault=True)

    def is_goal(self, state: int) -> bool:
        return state == 4

    def broken_by(self, before: int, after: int) -> str | None:
        return "the step is too large" if after - before > 5 else None

    def broken_in(self, state: int) -> str | None:
        return "the state is forbidden" if state == self._forbidden else None


def test_explorer_visits_every_state() -> None:
    result = explore(Counter(jump=-2))
    assert (result.broken, result.states, result.is_complete) == (None, 5, True)


@pytest.mark.parametrize(
    ("model", "broken", "trace"),
    [
        (Counter(jump=1, forbidden=3), "the state is forbidden", ("add 1", "add 1", "add 1")),
        (Counter(jump=6), "the step is too large", ("add 1", "add 1", "jump by 6")),
        (Counter(jump=5), "LIVE: without a further fault, no step leads to the goal", ("add 1", "add 1", "jump by 5")),
    ],
)
def test_explorer_shows_the_shortest_way_to_what_is_broken(model: Counter, broken: str, trace: tuple[str, ...]) -> None:
    result = explore(model)
    assert (result.broken, result.trace) == (broken, trace)


def test_exploration_can_be_cut() -> None:
    result = explore(Counter(jump=1), most_states=3)
    assert (result.broken, result.is_complete) == (None, False)


def test_explorer_reports_its_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reliability.models.exploring.PROGRESS_STATES", 2)
    reports: list[tuple[int, int]] = []
    explore(Counter(jump=1), report=lambda taken, known: reports.append((taken, known)))
    assert reports == [(2, 3), (4, 5)]


def test_walks_depend_on_their_seed_alone() -> None:
    walks = [walk_until(WALKED[0].model(), is_over=lambda walks: walks == 5, seed=seed).steps for seed in (3, 3, 4)]
    assert walks[0] == walks[1] != walks[2]
