"""The settings of the examples."""

from __future__ import annotations

import pytest


@pytest.fixture
def settings(moto_endpoint: str, table_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTBOX_ENDPOINT", moto_endpoint)
    monkeypatch.setenv("OUTBOX_TABLE", table_name)
    monkeypatch.setenv("OUTBOX_CREATE_TABLE", "1")
