"""Writes results: a table for people, or JSON for programs. Data goes to stdout, and words to stderr."""

from __future__ import annotations

import errno
import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import click

from dynamodb_outbox.cli.records import SCHEMA
from dynamodb_outbox.cli.settings import Output, Settings
from dynamodb_outbox.cli.terminal import plain

if TYPE_CHECKING:
    from rich.console import Console

WIDE: Final = 500
"""The width of a table that is not written to a terminal. Its columns are as wide as their cells."""
LONGEST_CELL: Final = 120
_HIDDEN: Final = re.compile(r"[\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")
"""What JSON leaves as it is: codes that some terminals obey, and characters that turn or hide the text next to them."""


@dataclass(frozen=True, slots=True)
class Printer:
    """Writes in the form that `--output` names."""

    output: Output
    color: bool = True
    quiet: bool = False

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Make the printer that the global options describe."""
        return cls(settings.output, settings.color, settings.quiet)

    def show(self, document: dict[str, Any], people: Callable[[Printer], None]) -> None:
        """Write a document as JSON, or let `people` write it for people."""
        if self.output == "table":
            people(self)
        else:
            self._json(document)

    def show_many(self, document: dict[str, Any], member: str, kind: str, people: Callable[[Printer], None]) -> None:
        """Write a document whose `member` is a list; with jsonl, write each entry as a document of its kind."""
        if self.output == "jsonl":
            for entry in document[member]:
                self.line(kind, entry)
        else:
            self.show(document, people)

    def line(self, kind: str, record: dict[str, Any]) -> None:
        """Write one record as a line of JSON."""
        click.echo(as_json({"schema": SCHEMA, "kind": kind, **record}))

    def _json(self, document: dict[str, Any]) -> None:
        indent = 2 if self.output == "json" else None
        click.echo(as_json(document, indent=indent))

    def note(self, text: str) -> None:
        """Write words to stderr, unless the user wants none."""
        if not self.quiet:
            click.echo(plain(text), err=True)

    def warn(self, text: str) -> None:
        """Write to stderr what the user has to know: why the program exits with another code than 0."""
        click.echo(plain(text), err=True)

    def text(self, text: str, *, style: str = "") -> None:
        """Write a line for people, with a style of rich such as `bold red`."""
        self._console().print(plain(text), style=style or None, markup=False, highlight=False, soft_wrap=True)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Write a table with a heading."""
        from rich.table import Table  # noqa: PLC0415 - JSON needs no rich
        from rich.text import Text  # noqa: PLC0415

        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        for column in columns:
            table.add_column(column.upper(), overflow="fold")
        for row in rows:
            table.add_row(*(Text(cell(value)) for value in row))
        self._console().print(table)

    def pairs(self, pairs: Iterable[tuple[str, object]]) -> None:
        """Write names and values, one pair to a line; leave out values that are None or empty."""
        kept = [(name, plain(str(value))) for name, value in pairs if value not in (None, "", [])]
        width = max((len(name) for name, _ in kept), default=0)
        for name, value in kept:
            self.text(indented(f"{name.ljust(width)}  {value}", width + 2))

    def _console(self) -> Console:
        from rich.console import Console  # noqa: PLC0415 - JSON needs no rich

        class Unadorned(Console):
            def on_broken_pipe(self) -> None:
                # rich would end the program with the exit code of a finding.
                raise BrokenPipeError(errno.EPIPE, "the reader of stdout has ended")

        is_terminal = sys.stdout.isatty()
        return Unadorned(
            file=sys.stdout,
            width=None if is_terminal else WIDE,
            no_color=not self.color,
            force_terminal=is_terminal,
            emoji=False,  # otherwise `:id:` in an id becomes an emoji
        )


def as_json(record: dict[str, Any], *, indent: int | None = None) -> str:
    """Write JSON. Characters that drive a terminal, or hide, are escaped in it; a reader gets the same text."""
    separators = (",", ":") if indent is None else None
    text = json.dumps(record, ensure_ascii=False, indent=indent, separators=separators)
    return _HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def indented(text: str, width: int) -> str:
    """Indent all lines but the first, so that a line of a stored text does not look like one of the program."""
    return text.replace("\n", f"\n{' ' * width}")


def cell(value: object) -> str:
    """Write a value into one line of a table."""
    text = "-" if value in (None, "") else plain(str(value)).replace("\n", " ")
    return text if len(text) <= LONGEST_CELL else f"{text[: LONGEST_CELL - 1]}…"
