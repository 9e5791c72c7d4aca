"""What the README and the pages of docs/ say agrees with the code, and leads somewhere."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import get_args

import pytest

from dynamodb_outbox import Delivery, HandlerOptions, OutboxEventBus, Transaction
from dynamodb_outbox.observers import Observation
from reliability.mutants.catalogue import MUTANTS

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
LIBRARY = ROOT / "src" / "dynamodb_outbox"
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]


def first_columns(text: str) -> list[str]:
    """The names in the first cells of the tables' rows."""
    return re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)


def test_readme_stays_short() -> None:
    assert len(README.splitlines()) <= 180


def test_options_of_an_emit_are_described_and_taken_where_the_page_says() -> None:
    page = (DOCS / "how-to" / "emit-options.md").read_text(encoding="utf-8")
    calls = (OutboxEventBus.emit, OutboxEventBus.emit_many, Transaction.emit, Delivery.emit)
    taken = [
        {p.name for p in inspect.signature(call).parameters.values() if p.kind is p.KEYWORD_ONLY} for call in calls
    ]
    taken[2].remove("if_exists")  # it takes the default only
    rows = re.findall(r"^\| \[`(\w+)`\]\(#\w+\) \|[^|]*\|(.*)\|$", page, re.MULTILINE)
    assert {option for option, _ in rows} == set().union(*taken)
    for option, cells in rows:
        assert f"\n## {option}\n" in page, option
        assert [cell.strip() == "yes" for cell in cells.split("|")] == [option in names for names in taken], option


def test_every_observation_is_listed() -> None:
    listed = first_columns((DOCS / "how-to" / "observing.md").read_text())
    assert sorted(listed) == sorted(observation.__name__ for observation in get_args(Observation))


def test_every_option_of_a_handler_is_named_in_the_readme() -> None:
    handlers = README.partition("## Handlers")[2].partition("\n## ")[0]
    for option in HandlerOptions.__annotations__:
        assert f"`{option}`" in handlers, option


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(((?!https?:)[^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_headings_lead_to_one(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(((?!https?:)[^)#]*)#([^)]+)\)", page.read_text()):
        linked = (page.parent / target).resolve() if target else page
        assert linked.suffix != ".md" or anchor in anchors_of(linked), f"{target}#{anchor}"


def anchors_of(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_glossary_has_each_word_once_in_alphabetical_order() -> None:
    words = re.findall(r"^- \*\*(.+?)\*\*: ", (DOCS / "glossary.md").read_text(), re.MULTILINE)
    assert words == sorted(set(words), key=str.lower)
    assert len(words) > 50


def test_every_page_is_in_the_index() -> None:
    index = (DOCS / "README.md").read_text()
    for page in DOCS.rglob("*.md"):
        assert page.name == "README.md" or f"]({page.relative_to(DOCS)})" in index


def test_every_fault_has_a_test_that_is_there() -> None:
    rows = re.findall(r"^\| (\d+) \| .* \| (.*) \| (✓?) ?\|$", (DOCS / "reliability.md").read_text(), re.MULTILINE)
    assert [int(number) for number, _, _ in rows] == list(range(1, len(rows) + 1))
    for number, tests, _ in rows:
        named = re.findall(r"`([\w/]+\.py)::(\w+)`", tests)
        assert named, number
        for file, test in named:
            assert f"def {test}(" in (ROOT / "tests" / file).read_text(), test
    broken = {mutant.row for mutant in MUTANTS}
    assert {int(number) for number, _, mark in rows if mark} == broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_make_targets_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:^\$ |`)make ([a-z][a-z-]+)", page.read_text(), re.MULTILINE):
        assert f"\n{target}:" in makefile, target


def listed_in_the_layout() -> dict[str, str]:
    """The files of the tree in CONTRIBUTING.md, each with what it is for."""
    (tree,) = re.findall(r"^```text\nsrc/dynamodb_outbox/\n(.*?)^```", CONTRIBUTING, re.DOTALL | re.MULTILINE)
    folders: list[str] = []
    listed: dict[str, str] = {}
    for line in tree.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2 - 1
        name, _, about = line.strip().partition(" ")
        folders[depth:] = [name]
        if not name.endswith("/"):
            listed["".join(folders)] = about.strip()
    return listed


def test_layout_lists_every_file_of_the_library_and_none_that_is_gone() -> None:
    listed = listed_in_the_layout()
    files = {str(path.relative_to(LIBRARY)) for path in LIBRARY.rglob("*.py")}
    assert listed.keys() == {file for file in files if file == "__init__.py" or not file.endswith("/__init__.py")}
    assert all(listed.values())


def test_layout_names_every_other_folder() -> None:
    folders = [ROOT / name for name in ("examples", "templates", "tools", "docs", "benchmarks")]
    folders += [path for parent in ("tests", "reliability") for path in (ROOT / parent).iterdir()]
    for folder in folders:
        if folder.is_dir() and any(path.suffix != ".pyc" for path in folder.rglob("*.*")):
            assert f"`{folder.relative_to(ROOT)}/`" in CONTRIBUTING, folder


def test_architecture_names_files_that_exist() -> None:
    page = (DOCS / "explanation" / "architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"`([\w/]+\.py)`", page)
    assert len(named) > 40
    assert [name for name in named if not (LIBRARY / name).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_paths_that_pages_name_exist(page: Path) -> None:
    for path in re.findall(
        r"`((?:src|tests|docs|tools|examples|templates|reliability|benchmarks)/[\w./-]*)`", page.read_text()
    ):
        assert (ROOT / path).exists(), path
