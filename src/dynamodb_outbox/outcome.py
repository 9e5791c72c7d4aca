"""Outcomes: what dispatch says of a claim, and settle writes. The union is closed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Completed:
    """Every handler succeeded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """A handler failed, and attempts are left. `delay` is in seconds from the settle on."""

    delay: float
    error: str
    handled_by: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The event is to be set aside: it was rejected, or no attempt is left."""

    error: str
    handled_by: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Released:
    """The handlers were not run to an end. Somebody else may take the event at once; no attempt is counted."""


type_names = {Completed: "complete", Retry: "retry", Failed: "fail", Released: "release"}

Outcome = Completed | Retry | Failed | Released
