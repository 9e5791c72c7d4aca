"""The check that keeps the prose plain and the files short."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tools.readability.__main__ import main
from tools.readability.lengths import file_length, function_lengths
from tools.readability.limits import ALLOWANCES, FILE_LINES, FUNCTION_LINES, line_limit
from tools.readability.markers import MARKERS
from tools.readability.passages import Passage, markdown_passages, python_passages
from tools.readability.survey import passages, prose

# name of the marker: a sentence that has it, and plain sentences that do not
EXAMPLES = {
    "those that": ("Leave out those that wait.", "Leave out the events that wait. Those events are late."),
    "one that": ("Give it to a worker or to one that is idle.", "Give it to one worker. It has one handler."),
    "pronoun at the end": ("The handlers, if there are none.", "The writes go one by one, and none of them is lost."),
    "possessive without a noun": ("The latency is twice a put's.", "The latency is twice a put's latency."),
    "of its own": (
        "It runs in a task of its own.",
        "It runs in its own task. Messages of your own exceptions are logged.",
    ),
    "is ours": ("The claim is not ours.", "Our claim is lost."),
    "so many": ("Wait for so many seconds.", "Wait for that number of seconds."),
    "such a one": ("A map that looks like such a one.", "Such a map is wrapped."),
    "whoever": ("Taken by whoever is first.", "Taken by the first worker."),
    "What ... is": ("What is left is released.", "What is an outbox? Release what is left."),
    "It is ... that": ("It is the lease that decides.", "It is possible that the lease ended."),
    "what becomes of": ("Return what became of the writes.", "Return the results of the writes."),
    "make of": ("Make of a mapping an item.", "Make an item of a mapping."),
    "causal for": ("Repeat it, for a reply can be lost.", "Repeat it, for example after a timeout."),
    "but for": ("Everything ends but for the probe.", "It works the same way, but for coroutines."),
    "is no": ("A value that is no number.", "There is no value. It is no longer a number."),
    "for nobody": ("It is built for nobody.", "Nobody reads it."),
    "told of": ("Observers are told of it.", "Observers are told when it starts."),
    "set aside": ("The event is set aside.", "Set the event's status."),
    "anew": ("Begin anew.", "Begin again."),
    "mend": ("Mend the item.", "Fix the item, and recommend it."),
    "beside": ("An emit beside a write.", "An emit besides a write."),
    "had better": ("It had better end.", "It had a better end."),
    "as ... as ever": ("It waits as long as it ever did.", "It waits as long as the lease."),
    "all the same": ("It is stored all the same.", "All the same handlers run."),
    "birth": ("Events claimed at birth.", "Events claimed on emit."),
    "look": ("Until the next look.", "Look for events. It looks like a number. Have a look at the item."),
    "engine": ("The engine refused it.", "The search engine is down. See https://example.org/engines.html."),
}


def found(text: str) -> list[str]:
    return [hit.marker.name for hit in prose("text", [Passage(Path("text.md"), ((1, text),))], limit=0).hits]


def test_each_marker_has_an_example_and_advice() -> None:
    assert {marker.name for marker in MARKERS} == set(EXAMPLES)
    assert all(marker.advice for marker in MARKERS)


@pytest.mark.parametrize("name", EXAMPLES)
def test_marker_is_found_in_dialect_and_not_in_plain_words(name: str) -> None:
    dialect, plain = EXAMPLES[name]
    assert name in found(dialect)
    assert name not in found(plain)


@pytest.mark.parametrize("package", ["httpx", "anyio"])
def test_well_written_libraries_have_few_markers(package: str) -> None:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent
    counted = prose(package, passages(folder.parent, package), limit=1.2)
    assert counted.words > 5_000
    assert counted.rate <= counted.limit


def test_docstrings_comments_and_messages_are_prose(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text(
        '"""The module."""\n'
        "\n"
        "# A comment that runs\n"
        "# over two lines. `code` in it\n"
        "LIMIT = 3  # noqa: X123 - with a reason\n"
        '"""The limit."""\n'
        'raise ValueError(f"the value {LIMIT} is too large")\n'
        'condition = "status = :PENDING AND gsiSortKey = :seen"\n'
        'name = "status-index"\n'
    )
    texts = {passage.text: passage.lines[0][0] for passage in python_passages(file)}
    assert texts == {
        "The module.": 1,
        "A comment that runs over two lines. code in it": 3,
        "with a reason": 5,
        "The limit.": 6,
        "the value code is too large": 7,
    }


def test_markdown_is_prose_without_its_code(tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    file.write_text(
        "# Title\n\nA paragraph with `some\ncode` and a [link](other.md).\n"
        "<!-- run -->\n```python\nprint('mend')\n```\n"
        "- an item\n\n| a cell | another |\n|---|---|\n"
    )
    texts = [passage.text for passage in markdown_passages(file)]
    assert texts == ["Title", "A paragraph with code and a link.", "an item", "a cell", "another"]


def test_marker_is_reported_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text('def f() -> None:\n    """Do it.\n\n    Then do\n    it anew.\n    """\n')
    (hit,) = prose("src", passages(tmp_path, "module.py"), limit=0).hits
    assert (hit.path, hit.line, hit.marker.name) == (Path("module.py"), 5, "anew")


def test_lengths_of_files_and_functions(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text("class A:\n    def f(self) -> None:\n        async def g() -> None:\n            pass\n\n\nx = 1\n")
    assert file_length(file).lines == 7
    assert {length.function: length.lines for length in function_lengths(file)} == {"A.f": 3, "A.f.g": 2}


def test_exceptions_are_for_one_file_or_function_and_have_a_reason() -> None:
    for allowance in ALLOWANCES:
        path, _, function = allowance.name.partition(":")
        general = FUNCTION_LINES if function else FILE_LINES
        assert allowance.lines > general
        assert allowance.reason
        assert path.endswith(".py")


def test_general_limit_holds_without_an_exception(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text("x = 1\n")
    assert line_limit(file_length(file)) == FILE_LINES


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for folder in ("src", "docs", "reliability", "benchmarks", "tools"):
        (tmp_path / folder).mkdir()
    (tmp_path / "README.md").write_text("# Plain words\n")
    (tmp_path / "CONTRIBUTING.md").write_text("# Plain words\n")
    (tmp_path / "src" / "module.py").write_text('"""Store events."""\n\n\ndef f() -> None:\n    """Do it."""\n')
    return tmp_path


def test_plain_project_passes(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([], project) == 0
    output = capsys.readouterr().out
    assert "src/module.py (5 lines)" in output
    assert "src/module.py:f (2 lines)" in output


def test_dialect_fails_and_is_listed(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "docs" / "page.md").write_text("Plain.\n\nBegin anew.\n")
    assert main(["--list", "docs"], project) == 1
    captured = capsys.readouterr()
    assert "docs/page.md:3: anew: ... Begin anew. ...\n    say 'again'" in captured.out
    assert "docs: 142.9 markers per 1,000 words" in captured.err


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("x = 1\n" * (FILE_LINES + 1), "src/long.py has 301 lines, the limit is 300"),
        ("def f() -> None:\n" + "    x = 1\n" * FUNCTION_LINES, "src/long.py:f has 41 lines, the limit is 40"),
    ],
)
def test_long_code_fails(project: Path, capsys: pytest.CaptureFixture[str], code: str, message: str) -> None:
    (project / "src" / "long.py").write_text(code)
    assert main([], project) == 1
    assert message in capsys.readouterr().err
