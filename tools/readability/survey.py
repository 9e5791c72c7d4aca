"""Surveys the project: the markers in each kind of prose, and the lengths in each tree of code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.readability.lengths import Length, file_length, function_lengths
from tools.readability.limits import MARKERS_PER_1000_WORDS, line_limit
from tools.readability.markers import MARKERS, Marker
from tools.readability.passages import Passage, markdown_passages, python_passages

PROSE: Final = {
    "src": ("src",),
    "docs": ("README.md", "CONTRIBUTING.md", "docs"),
    "reliability": ("reliability",),
    "benchmarks": ("benchmarks",),
}
CODE: Final = ("src", "reliability", "benchmarks", "tools")


@dataclass(frozen=True, slots=True)
class Hit:
    """A marker found in prose."""

    marker: Marker
    path: Path
    line: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prose:
    """The prose of one kind, such as `docs`, and the markers in it."""

    name: str
    words: int
    hits: tuple[Hit, ...]
    limit: float

    @property
    def rate(self) -> float:
        """Markers per 1,000 words, rounded as it is printed."""
        return round(1000 * len(self.hits) / self.words, 1) if self.words else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """The longest file and function of one tree, and everything beyond its limit."""

    name: str
    longest_file: Length
    longest_function: Length | None
    too_long: tuple[Length, ...]


def survey_prose(root: Path) -> list[Prose]:
    """Count the markers in each kind of prose below the root of the project."""
    return [
        prose(name, [passage for path in paths for passage in passages(root, path)], MARKERS_PER_1000_WORDS[name])
        for name, paths in PROSE.items()
    ]


def survey_code(root: Path) -> list[Code]:
    """Measure each tree of code below the root of the project."""
    return [_code(root, name) for name in CODE if any((root / name).rglob("*.py"))]


def prose(name: str, found: Iterable[Passage], limit: float) -> Prose:
    """Count the words and the markers of passages."""
    found = list(found)
    hits = tuple(hit for passage in found for hit in _hits(passage))
    return Prose(name=name, words=sum(len(passage.text.split()) for passage in found), hits=hits, limit=limit)


def passages(root: Path, name: str) -> Iterator[Passage]:
    """Yield the prose of a file or directory: of its Markdown files below `docs`, else of its Python files."""
    start = root / name
    files = [start] if start.is_file() else sorted([*start.rglob("*.md"), *start.rglob("*.py")])
    for file in files:
        read = markdown_passages if file.suffix == ".md" else python_passages
        for passage in read(file):
            yield Passage(file.relative_to(root), passage.lines)


def _hits(passage: Passage) -> Iterator[Hit]:
    for marker in MARKERS:
        for match in marker.pattern.finditer(passage.text):
            around = passage.text[max(0, match.start() - 30) : match.end() + 30]
            yield Hit(marker, passage.path, passage.line_at(match.start()), around)


def _code(root: Path, name: str) -> Code:
    files, functions = [], []
    for path in sorted((root / name).rglob("*.py")):
        files.append(_below(root, file_length(path)))
        functions += [_below(root, length) for length in function_lengths(path)]
    return Code(
        name=name,
        longest_file=max(files, key=lambda length: length.lines),
        longest_function=max(functions, key=lambda length: length.lines, default=None),
        too_long=tuple(length for length in (*files, *functions) if length.lines > line_limit(length)),
    )


def _below(root: Path, length: Length) -> Length:
    return Length(length.path.relative_to(root), length.function, length.lines)
