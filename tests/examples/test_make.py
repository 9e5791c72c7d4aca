"""What `make demo` installs, and how `make test` runs: from the commands that make would carry out."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
IMPORTED = """
import importlib.metadata, json, sys
from moto.moto_server.werkzeug_app import create_backend_app
import examples.demo.__main__, examples.demo.emitter, examples.demo.engine, examples.demo.worker
import dynamodb_outbox.web.uvicorn_server
create_backend_app("dynamodb")
top = {name.partition(".")[0] for name, module in sys.modules.items() if getattr(module, "__file__", None)}
distributions = importlib.metadata.packages_distributions()
print(json.dumps(sorted({one for name in top for one in distributions.get(name, ())})))
"""


NOT_OF_THE_DEMO = {"dynamodb-outbox", "setuptools", "httpx", "sniffio"}
"""The library comes from src. aiobotocore imports httpx where it is installed, anyio sniffio, and others setuptools."""


def commands(venv: Path, *arguments: str) -> str:
    """What make would carry out in an environment."""
    # A make that runs the tests gives its own options, the parallel ones among them, to those it starts.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    make = subprocess.run(
        ["make", "--dry-run", *arguments, f"VENV={venv}"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return make.stdout


def demo_group() -> list[Requirement]:
    return [Requirement(line) for line in PROJECT["dependency-groups"].get("demo", ())]


def needed(requirements: list[Requirement]) -> set[str]:
    """The distributions that pip installs for requirements, by the metadata of those installed here."""
    found: set[str] = set()
    waiting = [(one, frozenset(one.extras)) for one in requirements]
    seen = set(waiting)
    while waiting:
        requirement, extras = waiting.pop()
        found.add(canonicalize_name(requirement.name))
        for line in requires(requirement.name) or ():
            inner = Requirement(line)
            if inner.marker is None or any(inner.marker.evaluate({"extra": extra}) for extra in extras or {""}):
                entry = (inner, frozenset(inner.extras))
                if entry not in seen:
                    seen.add(entry)
                    waiting.append(entry)
    return found


def test_demo_installs_no_tools(tmp_path: Path) -> None:
    made = commands(tmp_path, "demo")
    assert "--group demo" in made
    assert "--group dev" not in made
    assert "--editable" not in made


def test_demo_installs_nothing_where_the_tests_have_run(tmp_path: Path) -> None:
    (tmp_path / ".installed").touch()
    made = commands(tmp_path, "demo")
    assert "pip" not in made
    assert "-m examples.demo" in made


def test_tests_add_what_they_need_to_the_environment_of_the_demo(tmp_path: Path) -> None:
    for stamp in (".created", ".installed-demo"):
        (tmp_path / stamp).touch()
    made = commands(tmp_path, "test")
    assert "--group dev" in made
    assert "-m venv" not in made


def test_demo_installs_what_the_library_needs() -> None:
    group = {one.name: one.specifier for one in demo_group()}
    for line in PROJECT["project"]["dependencies"]:
        dependency = Requirement(line)
        assert group.get(dependency.name) == dependency.specifier


def test_demo_imports_nothing_that_it_does_not_install() -> None:
    python = subprocess.run(
        [sys.executable, "-c", IMPORTED], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    imported = {canonicalize_name(name) for name in json.loads(python.stdout)} - NOT_OF_THE_DEMO
    assert {"moto", "aiobotocore", "rich"} <= imported
    assert imported <= needed(demo_group())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", "-m pytest -n 5 --dist worksteal"),
        ("tests/worker -k stop", "-m pytest -n 5 --dist worksteal tests/worker -k stop"),
        ("-p no:xdist tests/worker", "-m pytest  -p no:xdist tests/worker"),
    ],
)
def test_tests_run_on_all_cores_by_default(tmp_path: Path, arguments: str, expected: str) -> None:
    (tmp_path / ".installed").touch()
    assert expected in commands(tmp_path, "test", f"PYTEST_ARGS={arguments}", "WORKERS=5")


def test_tests_run_in_as_many_processes_as_there_are_cores_or_more(tmp_path: Path) -> None:
    (tmp_path / ".installed").touch()
    found = re.search(r"-m pytest -n (\d+) ", commands(tmp_path, "test"))
    assert found is not None
    assert int(found[1]) >= (os.cpu_count() or 1)
