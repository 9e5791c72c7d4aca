"""The tutorial is followed from its first line to its last, with both emulators that it names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from threading import Thread
from uuid import uuid4

import pytest

from tests.docs.tutorial import Reader, Step, steps_of
from tests.examples.serving import free_port

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "tutorial.md").read_text()


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(directory=tmp_path)
    yield reader
    reader.leave()


def test_every_block_is_followed() -> None:
    assert len(steps_of(PAGE)) == len(re.findall(r"^```\w+$", PAGE, re.MULTILINE))


@pytest.mark.thorough
def test_page_keeps_what_it_says_with_moto(reader: Reader) -> None:
    follow(reader, PAGE.replace("8001", str(free_port())))


@pytest.mark.thorough
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


@pytest.mark.parametrize(
    ("mark", "body"),
    [
        ("run", "$ python -c 'print(1)'\n2\n"),
        ("run", "$ python -c 'raise SystemExit(1)'\n"),
        ("install", "$ pip install a-package-that-is-not-there\n"),
        ("edit app.py", "-a = 3\n+a = 4\n"),
        ("start server: ready", "$ python -c 'print(1)'\n"),
        ("request 404", "$ curl http://localhost:{port}/\nanother body\n"),
        ("request 200", "$ curl http://localhost:{port}/\nit is not here\n"),
        ("walk", "$ ls\n"),
    ],
)
def test_step_that_does_not_do_what_the_page_says_fails(
    reader: Reader, mark: str, body: str, missing_page: int
) -> None:
    (reader.directory / "app.py").write_text("a = 1\na = 2\n")
    with pytest.raises((AssertionError, PackageNotFoundError)):
        reader.follow(Step(mark=mark, body=body.replace("{port}", str(missing_page))))


def test_lines_that_a_program_prints_are_expected_in_their_order(reader: Reader) -> None:
    reader.patience = 0.2
    log = reader.directory / "service.log"
    log.write_text("first\nbetween\nsecond\n")
    reader.printed["service"] = [log]
    reader.follow(Step(mark="service prints", body="first\n...\nsecond\n"))
    with pytest.raises(AssertionError, match="is not in"):
        reader.follow(Step(mark="service prints", body="second\nfirst\n"))


@pytest.fixture
def missing_page() -> Iterator[int]:
    """A server that answers every request with a status of 404; yields its port."""

    class Missing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404)
            self.end_headers()
            self.wfile.write(b"it is not here")

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Missing) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()
