"""The result of one check."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final


class Mark(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"


SEVERITY: Final = (Mark.FAIL, Mark.WARN, Mark.SKIP, Mark.OK)
"""The order in which findings are read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one check: the evidence, the likely cause, and the commands that repair it.

    `check` is a short name that does not change, `title` says in one line what is the case. `docs` is a page of the
    documentation. `is_risk`: nothing is wrong yet, so it explains no fault.
    """

    check: str
    mark: Mark
    title: str
    evidence: tuple[str, ...] = ()
    cause: str = ""
    repair: tuple[str, ...] = ()
    docs: str = ""
    is_risk: bool = False

    def record(self) -> dict[str, Any]:
        """Write the finding for JSON."""
        return {
            "check": self.check,
            "mark": str(self.mark),
            "title": self.title,
            "evidence": list(self.evidence),
            "cause": self.cause,
            "repair": list(self.repair),
            "docs": self.docs,
        }


def ok(check: str, title: str) -> Finding:
    """Make the finding of a check that found nothing wrong."""
    return Finding(check=check, mark=Mark.OK, title=title)


def skip(check: str, title: str) -> Finding:
    """Make the finding of a check that could not be made."""
    return Finding(check=check, mark=Mark.SKIP, title=title)


def ordered(findings: list[Finding]) -> list[Finding]:
    """Order findings by severity. Within a severity, they stay in the order of the checks: causes before effects."""
    return sorted(findings, key=lambda finding: SEVERITY.index(finding.mark))
