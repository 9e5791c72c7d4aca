"""The progress of a repair: a line on a terminal that is rewritten."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager


class Progress:
    """How many events are done."""

    def __init__(self, label: str, *, is_shown: bool) -> None:
        self.done = 0
        self._label = label
        self._is_shown = is_shown

    def update(self, done: int) -> None:
        """Note and show the number of events that are done."""
        self.done = done
        if self._is_shown:
            sys.stderr.write(f"\r{self._label}: {self.done:,} events")
            sys.stderr.flush()

    def end(self) -> None:
        """End the line."""
        if self._is_shown and self.done:
            sys.stderr.write("\n")


@contextmanager
def progress(label: str, *, is_shown: bool) -> Generator[Progress]:
    """Show progress, if stderr is a terminal."""
    shown = Progress(label, is_shown=is_shown and sys.stderr.isatty())
    try:
        yield shown
    finally:
        shown.end()
