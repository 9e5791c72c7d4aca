"""Measures the length of Python files and of their functions."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Length:
    """The lines of a file or of a function. `function` is the qualified name, or None for a whole file."""

    path: Path
    function: str | None
    lines: int

    def __str__(self) -> str:
        """Render as `path` or `path:function`."""
        return f"{self.path}:{self.function}" if self.function else str(self.path)


def file_length(path: Path) -> Length:
    """Count the lines of a file, blank lines included."""
    return Length(path, None, len(path.read_text().splitlines()))


def function_lengths(path: Path) -> Iterator[Length]:
    """Yield each function of a file, nested functions included, from its `def` to its last line."""
    yield from _functions(path, ast.parse(path.read_text()), "")


def _functions(path: Path, parent: ast.AST, prefix: str) -> Iterator[Length]:
    for node in ast.iter_child_nodes(parent):
        name = prefix
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{prefix}.{node.name}" if prefix else node.name
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield Length(path, name, (node.end_lineno or node.lineno) - node.lineno + 1)
        yield from _functions(path, node, name)
