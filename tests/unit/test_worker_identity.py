"""The name of a process in its claims."""

from __future__ import annotations

import os
import re
import socket

import pytest

from dynamodb_outbox.worker_identity import MAX_IDENTITY_BYTES, WorkerIdentity, identity_of


def test_identity_is_of_host_process_and_instance() -> None:
    identity = WorkerIdentity()
    host, pid, instance = identity.text.split("/")
    assert host
    assert socket.gethostname().startswith(host.rstrip("_?")[:10])
    assert pid == str(os.getpid())
    assert re.fullmatch("[0-9a-f]{6}", instance)
    assert identity.text == identity.text
    assert WorkerIdentity().text != identity.text


@pytest.mark.parametrize("host", ["", "h" * 300, "ä" * 300, "a/b c", "\udc00"])
def test_identity_is_short_and_plain_whatever_the_host_is_called(host: str) -> None:
    text = identity_of(host, 4_194_304, "3f9a2c")
    assert len(text.encode()) <= MAX_IDENTITY_BYTES
    assert re.fullmatch(r"[A-Za-z0-9._?-]+/4194304/3f9a2c", text)


def test_a_fork_has_another_identity() -> None:
    identity = WorkerIdentity()
    parent = identity.text
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writing, identity.text.encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        child = pipe.read()
    assert child.split("/")[1] == str(pid)
    assert child != parent
    assert child.split("/")[2] != parent.split("/")[2]
    assert identity.text == parent
