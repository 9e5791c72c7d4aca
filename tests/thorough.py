"""How much the longest tests try: with THOROUGH=1, as the checks before a release do, more than every day."""

from __future__ import annotations

import os
from typing import Final

THOROUGH: Final = os.environ.get("THOROUGH") == "1"


def often(every_day: int, *, thorough: int) -> int:
    """Return how often a test tries something."""
    return thorough if THOROUGH else every_day
