"""Mutants: copies of the library with one text replaced."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
PACKAGE: Final = Path("src", "dynamodb_outbox")


class StaleMutantError(Exception):
    """The text that a mutant replaces is missing from the code, or occurs more than once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One broken place of the library.

    `row` is the row of docs/reliability.md that the mutant makes untrue, `file` is relative to the package, and `test`
    is the id of the test that must fail in one of its assertions.
    """

    row: int
    name: str
    file: str
    text: str
    replacement: str
    test: str

    def apply(self, code: str) -> str:
        """Break the code of the file. Raises `StaleMutantError`."""
        found = code.count(self.text)
        if found != 1:
            raise StaleMutantError(f"{self.name}: its text is {found} times in {self.file}, and must be there once")
        return code.replace(self.text, self.replacement)

    def make(self, folder: Path) -> Path:
        """Copy the library below a folder, broken; returns what to put first on the path."""
        source = copy_of_library(folder)
        file = source / PACKAGE.name / self.file
        file.write_text(self.apply(file.read_text()))
        return source


def copy_of_library(folder: Path) -> Path:
    """Copy the library below a folder as it is; returns what to put first on the path.

    The copy has the compiled modules, too, which takes a third off a trial. Python compiles a file again if its time or
    its size differs from what the compiled module names.
    """
    source = folder / "src"
    shutil.copytree(ROOT / PACKAGE, source / PACKAGE.name)
    return source
