"""The display: a live table in a terminal, plain lines anywhere else."""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Final, Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

LINE_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerView:
    """What is shown of a worker."""

    name: str
    pid: int
    handling: int
    handled: int
    killed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What is shown of a moment, `seconds` after the start."""

    seconds: float
    total: int
    emitted: int
    pending: int
    processing: int
    completed: int
    failed: int
    retries: int
    recovered: int
    workers: tuple[WorkerView, ...]


COUNTERS: Final = ("emitted", "pending", "processing", "completed", "failed", "retries", "recovered")
COLOURS: Final = {"completed": "green", "failed": "red", "retries": "yellow", "recovered": "magenta"}


class Display(Protocol):
    """Where the demo shows what goes on."""

    def opened(self) -> AbstractContextManager[object]:
        """Show things until the context ends."""
        ...

    def show(self, snapshot: Snapshot) -> None:
        """Show the state of a moment."""
        ...

    def say(self, text: str) -> None:
        """Tell of something that happened."""
        ...


def display_for_stdout() -> Display:
    """Choose by what standard output is."""
    console = Console(highlight=False)
    if sys.stdout.isatty() and not console.is_dumb_terminal:
        return LiveDisplay(console)
    return PlainDisplay()


class PlainDisplay:
    """Prints a line per second."""

    def __init__(self) -> None:
        self._next = 0.0

    def opened(self) -> AbstractContextManager[object]:
        return nullcontext()

    def show(self, snapshot: Snapshot) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + LINE_SECONDS
            counters = "  ".join(f"{name} {getattr(snapshot, name)}" for name in COUNTERS)
            self.say(f"{snapshot.seconds:5.1f} s  {counters}")

    def say(self, text: str) -> None:
        print(text, flush=True)


class LiveDisplay:
    """Redraws a table in place; what is said scrolls by above it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=10)

    def opened(self) -> AbstractContextManager[object]:
        return self._live

    def show(self, snapshot: Snapshot) -> None:
        self._live.update(Group(_bars(snapshot), _counters(snapshot), _workers(snapshot)))

    def say(self, text: str) -> None:
        self._console.print(text, markup=False)


def _bars(snapshot: Snapshot) -> RenderableType:
    grid = Table.grid(padding=(0, 1))
    for name in ("emitted", "completed"):
        value: int = getattr(snapshot, name)
        bar = ProgressBar(total=snapshot.total, completed=value, width=50, complete_style=COLOURS.get(name, "cyan"))
        grid.add_row(f"{name:>9}", bar, f"{value} of {snapshot.total}")
    return grid


def _counters(snapshot: Snapshot) -> RenderableType:
    table = Table(title=f"{snapshot.seconds:.1f} s", title_justify="left")
    for name in COUNTERS:
        table.add_column(name, justify="right", min_width=len(name))
    table.add_row(*(Text(str(getattr(snapshot, name)), style=COLOURS.get(name, "")) for name in COUNTERS))
    return table


def _workers(snapshot: Snapshot) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    for worker in snapshot.workers:
        state = Text("killed", style="bold red") if worker.killed else Text(f"handling {worker.handling}")
        grid.add_row(worker.name, f"process {worker.pid}", f"handled {worker.handled}", state)
    return grid
