"""The tutorial is followed from its first line to its last, with both emulators that it names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.docs.tutorial import Reader, steps_of
from tests.examples.serving import free_port

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "tutorial.md").read_text()


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(directory=tmp_path)
    yield reader
    reader.leave()


def test_every_block_is_followed() -> None:
    assert len(steps_of(PAGE)) == len(re.findall(r"^```\w+$", PAGE, re.MULTILINE))


def test_page_keeps_what_it_says_with_moto(reader: Reader) -> None:
    follow(reader, PAGE.replace("8001", str(free_port())))


def test_page_keeps_what_it_says_with_dynamodb_local(reader: Reader, local_endpoint: str) -> None:
    reader.skipped = frozenset({"emulator"})
    unique = uuid4().hex[:12]  # other tests have tables there, too
    page = PAGE.replace('"orders"', f'"orders-{unique}"').replace("shop-outbox", f"shop-outbox-{unique}")
    follow(reader, page.replace("http://localhost:8001", local_endpoint))


def follow(reader: Reader, page: str) -> None:
    for step in steps_of(page.replace("8000", str(free_port()))):
        reader.follow(step)
    printed = "".join(log.read_text() for log in reader.printed["service"])
    assert printed.count("confirm order o-2 to kurt") == 1
    assert printed.count("handler 'ship' failed on") == 3
