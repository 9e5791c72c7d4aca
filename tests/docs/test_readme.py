"""The snippets of the README run as they are printed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
SNIPPET = re.compile(r"(<!-- run ?(?P<needs>\w*) -->\n)?```python\n(?P<code>.*?)```", re.DOTALL)
SNIPPETS = list(SNIPPET.finditer(README))
PRINTS = ["welcome, ada@example.org", "stored ", "charged 5 on attempt 2\ncharge: rejected: nothing to charge"]


def test_every_snippet_is_marked_to_be_run() -> None:
    assert len(SNIPPETS) == README.count("```python") == len(PRINTS)
    assert all(snippet[1] for snippet in SNIPPETS)


@pytest.mark.parametrize(("snippet", "prints"), list(zip(SNIPPETS, PRINTS, strict=False)))
def test_snippet_runs_as_printed(moto_endpoint: str, snippet: re.Match[str], prints: str, tmp_path: Path) -> None:
    if snippet["needs"] and find_spec(snippet["needs"]) is None:
        pytest.skip(f"{snippet['needs']} is not installed")
    script = tmp_path / "snippet.py"
    script.write_text(snippet["code"])
    environment = os.environ | {"AWS_ENDPOINT_URL": moto_endpoint, "PYTHONWARNINGS": "error"}
    ran = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    # A rejected event is an error that the log tells of; nothing else may be said there.
    assert not ran.stderr or "Reject(" in snippet["code"], ran.stderr
    assert prints in ran.stdout
    if "emit_many" in snippet["code"] and "welcome" in prints:
        assert len(ran.stdout.splitlines()) == 101


def test_configuration_table_has_every_option_with_its_default() -> None:
    import inspect

    from dynamodb_outbox import DynamoDBOutbox

    internal = {"self", "client", "clock", "random"}
    parameters = {
        name: parameter.default
        for name, parameter in inspect.signature(DynamoDBOutbox.__init__).parameters.items()
        if name not in internal
    }
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", README, re.MULTILINE))
    assert rows.keys() == parameters.keys()
    for name, default in parameters.items():
        printed = rows[name].strip("`").replace('"', "'")
        expected = {"table_name": "\N{EN DASH}", "concurrency": "5 * batch_size"}.get(name, repr(default))
        assert printed == expected, name


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(((?!http)[^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for page in (README, (ROOT / "CONTRIBUTING.md").read_text()):
        for target in re.findall(r"(?:^\$ |`)make ([a-z][a-z-]+)", page, re.MULTILINE):
            assert f"\n{target}:" in makefile, target
