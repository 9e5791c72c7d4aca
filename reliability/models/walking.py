"""Random walks through a model that has too many states to explore them all."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random

from reliability.models.exploring import Explored, Model, S, Step, words

FAULT_CHANCE = 0.15
"""The chance that the next step is a fault, if one is possible."""
END_CHANCE = 0.3
"""The chance that a walk ends at a goal, because some goals have further steps."""
MOST_STEPS = 3_000
"""A walk with more steps than this has lost its way: every walk must come to a goal."""
SHOWN_STEPS = 60
"""How many of its last steps are shown of a broken walk."""


def walk_until(model: Model[S], *, is_over: Callable[[int], bool], seed: int = 0) -> Explored:
    """Walk again and again until `is_over` says so, or a property is broken. `is_over` gets the number of walks."""
    random = Random(seed)
    walks = moves = 0
    while not is_over(walks):
        walked = _walk(model, random)
        moves += walked.steps
        walks += 1
        if walked.broken is not None:
            return Explored(broken=walked.broken, trace=walked.trace, steps=moves, walks=walks, is_complete=False)
    return Explored(steps=moves, walks=walks, is_complete=False)


def _walk(model: Model[S], random: Random) -> Explored:
    state = model.start()
    trace: deque[str] = deque(maxlen=SHOWN_STEPS)
    for number in range(MOST_STEPS):
        steps = list(model.steps(state))
        if model.is_goal(state) and (not steps or random.random() < END_CHANCE):
            return Explored(steps=number)
        if not steps:
            return Explored(broken="LIVE: no step is left before the goal", trace=tuple(trace), steps=number)
        step = _pick(steps, random)
        trace.append(words(step.label))
        broken = model.broken_by(state, step.state) or model.broken_in(step.state)
        state = step.state
        if broken is not None:
            return Explored(broken=broken, trace=tuple(trace), steps=number)
    return Explored(broken=f"LIVE: no goal after {MOST_STEPS:,} steps", trace=tuple(trace), steps=MOST_STEPS)


def _pick(steps: list[Step[S]], random: Random) -> Step[S]:
    faults = [step for step in steps if step.is_fault]
    others = [step for step in steps if not step.is_fault]
    if faults and (not others or random.random() < FAULT_CHANCE):
        return random.choice(faults)
    return random.choice(others)
