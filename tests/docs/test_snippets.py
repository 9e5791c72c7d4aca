"""Every Python block of the README and of docs/ is tried as it is printed.

A block is marked in the line above it. `<!-- run -->` is a complete program: it has to print the `text` block below
it, which is marked `<!-- prints -->`; `...` stands there for any text. `<!-- run PACKAGE -->` needs a package.
`<!-- fragment -->` is a part of a program: it has to compile. `<!-- file NAME -->` is a file of the tutorial, which
`test_tutorial.py` follows from its first line to its last.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from doctest import ELLIPSIS, OutputChecker
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from tests.backends import open_client

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>run|fragment|file) ?(?P<needs>[\w.]*) -->\n)?^```python\n(?P<code>.*?)^```\n"
    r"(?:\n<!-- prints -->\n```text\n(?P<prints>.*?)^```\n)?",
    re.DOTALL | re.MULTILINE,
)
BUSINESS_TABLES = ("orders", "accounts")
SLOW = "the holds could not be read"
"""How a log line begins that may come on a busy machine: the emulator has not answered for seconds."""


@dataclass(frozen=True, kw_only=True)
class Snippet:
    place: str
    mark: str | None
    needs: str
    code: str
    prints: str | None


def snippets_of(page: Path) -> Iterator[Snippet]:
    text = page.read_text()
    for block in BLOCK.finditer(text):
        line = text.count("\n", 0, block.start("code"))
        yield Snippet(place=f"{page.relative_to(ROOT)}:{line}", **block.groupdict(""))


SNIPPETS = [snippet for page in PAGES for snippet in snippets_of(page)]
PROGRAMS = [pytest.param(snippet, id=snippet.place) for snippet in SNIPPETS if snippet.mark == "run"]
FRAGMENTS = [pytest.param(snippet, id=snippet.place) for snippet in SNIPPETS if snippet.mark == "fragment"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_is_marked_and_every_program_says_what_it_prints(page: Path) -> None:
    snippets = list(snippets_of(page))
    text = page.read_text()
    assert len(snippets) == text.count("```python")
    assert sum(bool(snippet.prints) for snippet in snippets) == text.count("<!-- prints -->")
    for snippet in snippets:
        assert snippet.mark, snippet.place
        assert bool(snippet.prints) == (snippet.mark == "run"), snippet.place
        assert snippet.mark != "file" or page.name == "tutorial.md", snippet.place


@pytest.fixture
def emptied_endpoint(moto_endpoint: str) -> str:
    """The moto server without what other tests left there."""
    with urlopen(Request(f"{moto_endpoint}/moto-api/reset", method="POST")):  # noqa: S310 - our own server
        return moto_endpoint


@pytest.fixture
async def engine(emptied_endpoint: str) -> str:
    """The moto server with the tables that the pages write to, and no others."""
    key: dict[str, Any] = {"AttributeName": "id"}
    async with open_client(emptied_endpoint) as client:
        for table in BUSINESS_TABLES:
            await client.create_table(
                TableName=table,
                AttributeDefinitions=[{**key, "AttributeType": "S"}],
                KeySchema=[{**key, "KeyType": "HASH"}],
                BillingMode="PAY_PER_REQUEST",
            )
    return emptied_endpoint


@pytest.mark.cases(8)
@pytest.mark.parametrize("snippet", PROGRAMS)
def test_program_prints_what_its_page_says(engine: str, snippet: Snippet, tmp_path: Path) -> None:
    # The suite of the newest aiobotocore has no aioboto3, which cannot be installed beside it.
    if snippet.needs and find_spec(snippet.needs) is None:
        pytest.skip(f"{snippet.needs} is not installed")
    script = tmp_path / "snippet.py"
    script.write_text(snippet.code)
    environment = os.environ | {"AWS_ENDPOINT_URL": engine, "PYTHONWARNINGS": "error"}
    ran = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert ran.returncode == 0, ran.stderr
    # The log tells of what a handler raises; nothing else may be said there.
    told = [line for line in ran.stderr.splitlines() if not line.startswith(SLOW)]
    assert not told or "raise " in snippet.code, ran.stderr
    assert OutputChecker().check_output(snippet.prints or "", ran.stdout, ELLIPSIS), ran.stdout + ran.stderr


@pytest.mark.parametrize("snippet", FRAGMENTS)
def test_fragment_compiles(snippet: Snippet) -> None:
    compile(snippet.code, snippet.place, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
