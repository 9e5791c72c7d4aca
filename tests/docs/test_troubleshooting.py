"""The troubleshooting page leads from every error, observation and line of the log to an entry."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

import dynamodb_outbox
from dynamodb_outbox import errors
from dynamodb_outbox.observers import Observation

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGE = (DOCS / "troubleshooting.md").read_text()
LOG_METHODS = {"debug", "info", "warning", "error", "exception", "critical"}
ERRORS = [
    name
    for name in errors.__all__
    if isinstance(getattr(errors, name), type) and issubclass(getattr(errors, name), errors.OutboxError)
]


@pytest.mark.parametrize("name", ERRORS)
def test_every_error_leads_to_an_entry(name: str) -> None:
    assert f"`{name}`" in PAGE, f"docs/troubleshooting.md must say why {name} happens and what to do"


def test_every_name_of_the_page_exists() -> None:
    named = set(re.findall(r"`([A-Z]\w*[a-z]\w*)`", PAGE))
    of_others = {"AccessDenied", "AioConfig", "ExpiredToken", "TransactionConflict"}
    observations = {observation.__name__ for observation in get_args(Observation)}
    assert named <= {*dynamodb_outbox.__all__, *errors.__all__, *observations, *vars(builtins), *of_others}


@pytest.mark.parametrize("observation", [observation.__name__ for observation in get_args(Observation)])
def test_every_observation_is_explained(observation: str) -> None:
    pages = [PAGE, (DOCS / "how-to" / "observing.md").read_text()]
    assert any(f"`{observation}`" in page for page in pages)


def test_every_line_of_the_log_leads_to_an_entry() -> None:
    excerpts = re.findall(r'^\| "(.+?)" \|', PAGE.partition("## Lines in the log")[2], re.MULTILINE)
    messages = list(log_messages())
    assert len(messages) > 10
    for message in messages:
        assert any(excerpt in message for excerpt in excerpts), f"docs/troubleshooting.md does not explain: {message}"
    for excerpt in excerpts:
        assert any(excerpt in message for message in messages), f"no line of the log contains {excerpt!r}"


def log_messages() -> Iterator[str]:
    """The texts that the library logs or warns with, without what is filled in, and without those of its errors."""
    for file in sorted((ROOT / "src").rglob("*.py")):
        for call in ast.walk(ast.parse(file.read_text())):
            match call:
                case ast.Call(func=ast.Attribute(value=ast.Name(id="logger"), attr=method), args=[text, *_]) if (
                    method in LOG_METHODS
                ):
                    yield from text_of(text)
                case ast.Call(func=ast.Attribute(value=ast.Name(id="warnings"), attr="warn"), args=[text, *_]):
                    yield from text_of(text)


def text_of(expression: ast.expr) -> Iterator[str]:
    parts = [part.value for part in ast.walk(expression) if isinstance(part, ast.Constant)]
    text = "".join(part for part in parts if isinstance(part, str))
    if text != "%s":
        yield text
