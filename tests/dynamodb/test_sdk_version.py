"""An SDK that is older than supported, which a pin elsewhere can bring, is named before it fails in odd ways."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import aiobotocore
import pytest

from dynamodb_outbox import DynamoDBOutbox
from dynamodb_outbox.dynamodb.transport.sdk import OLDEST_SUPPORTED


@pytest.mark.parametrize("old", ["2.7.0", "2.24.3", "1.4.2", "2.24.0.dev1"])
async def test_sdk_that_is_older_than_supported_is_named_at_construction(
    moto_client: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, old: str
) -> None:
    monkeypatch.setattr(aiobotocore, "__version__", old)
    DynamoDBOutbox(moto_client, table_name="events")
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert f"aiobotocore {old} is installed, but the oldest supported version is 2.25" in record.message
    assert "aioboto3>=15.4" in record.message


@pytest.mark.parametrize("supported", [aiobotocore.__version__, "2.25.0", "2.30.1", "3.10.0", "3.0.0rc1", "unknown"])
async def test_supported_sdk_is_not_warned_of(
    moto_client: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, supported: str
) -> None:
    monkeypatch.setattr(aiobotocore, "__version__", supported)
    DynamoDBOutbox(moto_client, table_name="events")
    assert not caplog.records


def test_oldest_supported_sdk_is_the_one_that_is_required() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    oldest = ".".join(map(str, OLDEST_SUPPORTED))
    assert f"aiobotocore>={oldest},<4" in project["dependencies"]
