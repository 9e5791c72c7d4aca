"""Starting DynamoDB Local, on which the tests and the benchmarks rely."""

from __future__ import annotations

import random
import socket
from collections.abc import Sequence

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
