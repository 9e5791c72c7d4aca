"""Services that claim so much on emit that windows open: the simulation finds nothing, whatever disturbs them.

A failure is looked into with `python -m reliability.simulation --seed N`.
"""

from __future__ import annotations

import pytest

from reliability.checker import report
from reliability.history import WindowWritten
from reliability.simulation.runs import run

SEEDS = (0,)
"""Seeds of busy services, each of which shows that something is broken in one of the mutants."""


@pytest.mark.parametrize("seed", SEEDS)
def test_no_event_of_a_busy_service_is_lost(seed: int) -> None:
    result = run(seed)
    assert not result.violations, report(list(result.violations), result.history)
    assert any(isinstance(record, WindowWritten) for record in result.history)
