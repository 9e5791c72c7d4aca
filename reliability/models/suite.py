"""The configurations of a model, and the protocol without some of its rules.

A rule whose mutant is found is needed. A few rules are redundant: other rules already prevent what they prevent. They
are kept because they cost nothing. Their mutants must survive, so that a change that makes them necessary is noticed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Protocol

from reliability.models.exploring import Model

Rules = tuple[str, ...]
"""The names of rules that do not hold."""


class Size(Enum):
    """How long an exploration takes."""

    SMALL = auto()
    """Seconds."""
    LARGE = auto()
    """Minutes."""
    ENDLESS = auto()
    """Only random walks go through it."""


class Configuration(Protocol):
    """The things in the world of a model, and how often each of them may happen."""

    @property
    def name(self) -> str:
        """Its name, which says what may happen."""
        ...

    @property
    def size(self) -> Size:
        """How long its exploration takes."""
        ...

    def model(self, without: Rules = ()) -> Model[Any]:
        """Make the model, perhaps without some of the rules."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """The protocol without some rules: a small configuration must find what breaks."""

    name: str
    without: Rules
    breaks: str
    """The property that is broken, such as LOSS."""
    found_in: Configuration


@dataclass(frozen=True, slots=True, kw_only=True)
class Survivor:
    """The protocol without a rule that is redundant."""

    name: str
    without: Rules
    reason: str
    tried_in: Sequence[Configuration]


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """Everything that a model is explored in."""

    configurations: Sequence[Configuration]
    walked: Sequence[Configuration]
    """Too large to be explored: random walks go through them."""
    mutants: Sequence[Mutant]
    survivors: Sequence[Survivor]
