"""Explores configurations, with all rules or without some, and walks through what is too large."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from reliability.models.exploring import Explored, explore
from reliability.models.suite import Configuration, Mutant, Rules, Survivor
from reliability.models.walking import walk_until

SURVIVED_STATES = 60_000
"""How many states of a configuration are explored without a redundant rule."""
Report = Callable[[int, int], None]
"""Gets the numbers of explored and of known states."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """The result of a mutant, or of a survivor."""

    is_as_expected: bool
    explored: Explored
    text: str


def explored(
    configuration: Configuration,
    *,
    without: Rules = (),
    most_states: int | None = None,
    report: Report | None = None,
) -> Explored:
    """Explore every state of a configuration, or the first `most_states`."""
    return explore(configuration.model(without), most_states=most_states, report=report)


def tried(mutant: Mutant | Survivor, *, most_states: int = SURVIVED_STATES, report: Report | None = None) -> Trial:
    """Explore the protocol without a rule; a mutant must be found, a survivor must survive `most_states`."""
    if isinstance(mutant, Mutant):
        found = explored(mutant.found_in, without=mutant.without, report=report)
        is_found = found.broken is not None and found.broken.startswith(mutant.breaks)
        text = f"{found.broken} ({len(found.trace)} steps)" if found.broken else "SURVIVES"
        return Trial(is_as_expected=is_found, explored=found, text=text)
    states = 0
    for configuration in mutant.tried_in:
        found = explored(configuration, without=mutant.without, most_states=most_states, report=report)
        states += found.states
        if found.broken is not None:
            return Trial(is_as_expected=False, explored=found, text=f"is not redundant: {found.broken}")
    text = f"survives {states:,} states, as it must: {mutant.reason}"
    return Trial(is_as_expected=True, explored=Explored(states=states), text=text)


def walked(
    configurations: Sequence[Configuration], seconds: float, *, seed: int = 0
) -> list[tuple[Configuration, Explored]]:
    """Walk at random for a number of seconds, through configurations that are too large to be explored."""
    results: list[tuple[Configuration, Explored]] = []
    for configuration in configurations:
        is_over = _after(seconds / len(configurations))
        results.append((configuration, walk_until(configuration.model(), is_over=is_over, seed=seed)))
    return results


def _after(seconds: float) -> Callable[[int], bool]:
    end = time.monotonic() + seconds
    return lambda _walks: time.monotonic() >= end
