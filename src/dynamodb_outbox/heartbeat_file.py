"""The heartbeat file: a process without HTTP shows by its time of modification that its worker lives."""

from __future__ import annotations

import math
import os
from pathlib import Path
from time import monotonic
from typing import Final

from dynamodb_outbox.observers import logger

TOUCH_SECONDS: Final = 5.0


class HeartbeatFile:
    """Sets the time of modification of a file, every five seconds at most."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._touched_at = -math.inf
        self._has_failed = False

    def touch(self) -> None:
        """Set the time of modification, if five seconds have passed. A failure is logged once, and raises nothing."""
        now = monotonic()
        if now - self._touched_at < TOUCH_SECONDS:
            return
        self._touched_at = now
        try:
            self._path.touch()
            self._has_failed = False
        except (OSError, ValueError) as error:  # ValueError: a path with a NUL
            if not self._has_failed:
                logger.error("the heartbeat file cannot be written, so that a probe of it will fail: %s", error)
            self._has_failed = True
