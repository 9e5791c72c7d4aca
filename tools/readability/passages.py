"""Finds prose: docstrings, comments and messages in Python files, and text without code in Markdown files."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Final

_DIRECTIVE: Final = re.compile(r"^(?:noqa|type:|pragma|ruff:|pyright:|!).*?(?: - |$)")
_CODE_SPAN: Final = re.compile(r"``[^`]+``|`[^`]+`")
_LINK: Final = re.compile(r"!?\[([^]]*)\]\([^)]*\)")
_HTML_COMMENT: Final = re.compile(r"<!--.*?-->")
_PLAIN_WORD: Final = re.compile(r"\(?[A-Za-z][A-Za-z'-]*[.,;:)]*")

_MESSAGE_WORDS: Final = 4
"""A string literal of fewer words is a name, a key or a format."""

_MESSAGE_SHARE: Final = 0.7
"""A string literal whose share of plain words is lower is code, such as a condition expression."""


@dataclass(frozen=True)
class Passage:
    """Connected prose: numbered lines of one file. Code spans are replaced by a neutral word."""

    path: Path
    lines: tuple[tuple[int, str], ...]

    @cached_property
    def text(self) -> str:
        """The lines, joined by single spaces."""
        return " ".join(text for _, text in self.lines)

    def line_at(self, offset: int) -> int:
        """Return the line number of a position in the text."""
        starts = [0, *accumulate(len(text) + 1 for _, text in self.lines)]
        return self.lines[bisect_right(starts, offset, hi=len(self.lines)) - 1][0]


def python_passages(path: Path) -> Iterator[Passage]:
    """Yield the docstrings, comments and messages of a Python file."""
    source = path.read_text()
    for block in _comment_blocks(source):
        yield from _passage(path, block)
    tree = ast.parse(source)
    docstrings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    inside = {value for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for value in node.values}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant | ast.JoinedStr) or node in inside:
            continue
        text = _text(node)
        if node in docstrings or _is_message(text):
            yield from _passage(path, enumerate(text.splitlines(), node.lineno))


def markdown_passages(path: Path) -> Iterator[Passage]:
    """Yield the paragraphs, list items, headings and table cells of a Markdown file, without code blocks."""
    block: list[tuple[int, str]] = []
    in_code = False
    for number, raw in enumerate(path.read_text().splitlines(), 1):
        line = _LINK.sub(r"\1", _HTML_COMMENT.sub("", raw)).strip()
        is_fence = line.startswith("```")
        if in_code or is_fence or line.startswith(("|", "#", "- ", "* ")) or not line:
            yield from _passage(path, block)
            block = []
        in_code ^= is_fence
        if in_code or is_fence:
            continue
        if line.startswith("|"):
            for cell in line.strip("|").split("|"):
                yield from _passage(path, [(number, cell)])
        else:
            block.append((number, line.lstrip("#-* ")))
    yield from _passage(path, block)


def _passage(path: Path, lines: Iterable[tuple[int, str]]) -> Iterator[Passage]:
    cleaned = [(number, text.strip()) for number, text in _without_code_spans(list(lines))]
    kept = tuple((number, text) for number, text in cleaned if re.search(r"\w", text))
    if kept:
        yield Passage(path, kept)


def _without_code_spans(lines: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """Replace code spans, also spans over a line break, and keep the number of lines."""
    joined = "\n".join(text for _, text in lines)
    replaced = _CODE_SPAN.sub(lambda span: "code" + "\n" * span.group().count("\n"), joined)
    return [(number, text) for (number, _), text in zip(lines, replaced.split("\n"), strict=bool(lines))]


def _comment_blocks(source: str) -> Iterator[list[tuple[int, str]]]:
    """Join the lines of a comment, because its sentences run across them; a comment after code stands alone."""
    block: list[tuple[int, str]] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        number = token.start[0]
        is_after_code = not token.line.lstrip().startswith("#")
        if block and (is_after_code or block[-1][0] != number - 1):
            yield block
            block = []
        block.append((number, _DIRECTIVE.sub("", token.string.lstrip("# "))))
    yield block


def _text(node: ast.expr) -> str:
    """Return a string literal as text, with a neutral word for each replacement field of an f-string."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(_text(value) or "code" for value in values)
        case _:
            return ""


def _is_message(text: str) -> bool:
    words = text.split()
    plain = sum(1 for word in words if _PLAIN_WORD.fullmatch(word))
    return len(words) >= _MESSAGE_WORDS and plain >= _MESSAGE_SHARE * len(words)
