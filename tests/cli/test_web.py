"""`web` and `dashboards`: what they pass on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dynamodb_outbox import InMemoryOutbox
from dynamodb_outbox.cli.commands import web
from dynamodb_outbox.cli.commands.dashboards import KINDS
from dynamodb_outbox.dashboards.render import KINDS as RENDERED
from tests.cli.conftest import Cli


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The options of the dashboard that was served."""
    options: dict[str, Any] = {}

    async def serve(outbox: Any, **given: Any) -> None:
        options.update(given, outbox=outbox)
        given["on_started"]("http://127.0.0.1:8080/")

    monkeypatch.setattr("dynamodb_outbox.web.serve", serve)
    return options


def test_web_serves_the_outbox(cli: Cli, outbox: InMemoryOutbox, served: dict[str, Any], tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("a token of many characters\n")
    ran = cli("web", "--port", "9000", "--read-only", "--token-file", str(token), "--environment", "production")
    assert ran.code == 0, ran.err
    assert "http://127.0.0.1:8080/" in ran.err
    assert served["outbox"] is outbox
    assert (served["port"], served["read_only"], served["environment"]) == (9000, True, "production")
    assert served["token"] == "a token of many characters"


def test_web_refuses_to_be_reached_by_others_without_a_token(cli: Cli, outbox: InMemoryOutbox) -> None:
    ran = cli("web", "--host", "0.0.0.0")  # noqa: S104 - it is refused
    assert ran.code == 2
    assert "a token is needed" in ran.err


def test_web_says_what_to_install(cli: Cli, outbox: InMemoryOutbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "NEEDED", ("a_package_that_is_not_there",))
    ran = cli("web")
    assert ran.code == 2
    assert "dynamodb-outbox[web]" in ran.err


@pytest.mark.parametrize("kind", KINDS)
def test_dashboards_are_written_to_stdout(cli: Cli, kind: str) -> None:
    ran = cli("dashboards", kind, "--runbook", "https://wiki.example.org/outbox")
    assert ran.code == 0, ran.err
    assert "https://wiki.example.org/outbox" in ran.out
    assert kind != "grafana" or json.loads(ran.out)


def test_every_dashboard_is_a_choice() -> None:
    assert KINDS == RENDERED
