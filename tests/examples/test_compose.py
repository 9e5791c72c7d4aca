"""The compose file, as far as it can be read without a container engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture
def services() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]


@pytest.mark.parametrize(
    ("name", "image", "port"),
    [("dynamodb-local", "amazon/dynamodb-local", "8000"), ("localstack", "localstack/localstack", "4566")],
)
def test_a_service_is_pinned_checked_and_published(services: dict[str, Any], name: str, image: str, port: str) -> None:
    service = services[name]
    repository, _, tag = service["image"].partition(":")
    assert repository == image
    assert tag[:1].isdigit(), "the image must be pinned to a version"
    [published] = service["ports"]
    assert published.rsplit(":", 2)[-2:] == [port, port]
    assert f"http://localhost:{port}" in service["healthcheck"]["test"][1]


def test_dynamodb_local_alone_starts_by_default(services: dict[str, Any]) -> None:
    assert {name for name, service in services.items() if "profiles" not in service} == {"dynamodb-local"}
    assert services["localstack"]["profiles"] == ["localstack"]


def test_dynamodb_local_shares_its_tables_and_keeps_nothing(services: dict[str, Any]) -> None:
    assert services["dynamodb-local"]["command"].split() == ["-jar", "DynamoDBLocal.jar", "-sharedDb", "-inMemory"]


def test_localstack_runs_dynamodb_only(services: dict[str, Any]) -> None:
    assert services["localstack"]["environment"] == {"SERVICES": "dynamodb"}
