"""The diagnosis: all findings in order, and the most likely cause in one sentence."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from dynamodb_outbox.cli.doctor.checks import CHECKS, RISKS
from dynamodb_outbox.cli.doctor.evidence import Evidence
from dynamodb_outbox.cli.doctor.finding import Finding, Mark, ordered

NOT_PROVEN: Final = (
    "A doctor without findings does not prove that handlers do the right thing, nor that other processes have the same "
    "options and permissions as this shell. If single events never arrive, look for them with --deep."
)
_NOTHING: Final = "Nothing is wrong, as far as can be seen from here."


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The findings, what to read first at the beginning."""

    findings: tuple[Finding, ...]

    @property
    def first(self) -> Finding | None:
        """The most likely cause; None if nothing was found."""
        first = self.findings[0]
        return first if first.mark in (Mark.FAIL, Mark.WARN) else None

    @property
    def has_failed(self) -> bool:
        """Whether a check failed."""
        return any(finding.mark is Mark.FAIL for finding in self.findings)

    @property
    def has_warned(self) -> bool:
        """Whether a check warned."""
        return any(finding.mark is Mark.WARN for finding in self.findings)

    def sentence(self) -> str:
        """Say in one sentence what is most likely wrong, and what to do."""
        if self.first is None:
            return _NOTHING
        repair = self.first.repair
        # A line that ends with a colon says when to run the command in the next one.
        steps = repair[:2] if repair[0].endswith(":") else repair[:1]
        what = f"{_NOTHING} A risk" if self.first.is_risk else "Most likely cause"
        return f"{what}: {self.first.title}: {self.first.cause}. Do: {' '.join(steps)}"


def diagnose(evidence: Evidence) -> Diagnosis:
    """Make all checks. The order of the checks decides between findings of the same severity."""
    causes = [check(evidence) for check in CHECKS]
    risks = [replace(check(evidence), is_risk=True) for check in RISKS]
    return Diagnosis(tuple(ordered([*causes, *risks])))
