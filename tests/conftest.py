"""Engines and fixtures. Every engine that runs, and every one that does not, is named at the end of the run."""

from __future__ import annotations

import gc
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from importlib.metadata import version
from io import BytesIO
from threading import Lock, Thread
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from botocore.loaders import JSONFileLoader
from hypothesis import HealthCheck, settings

import dynamodb_local
from dynamodb_outbox import DynamoDBOutbox
from dynamodb_outbox.event_ids import event_ids
from reliability.proxy import Proxy, running_proxy
from tests.backends import CLIENTS, ENGINES, open_client, open_tuned_client
from tests.programs import PACKAGES, path_of
from tests.thorough import LEFT_OUT, leave_out, what_was_left_out

# The SDK must find credentials, and must not look for others on this machine.
os.environ |= {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ENDPOINT_URL"):
    os.environ.pop(name, None)


# How long an example takes, and its making, says nothing but how busy the machine is.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


_load_file = JSONFileLoader.load_file


@cache
def _load_once(path: str) -> Any:
    return _load_file(JSONFileLoader(), path)


# Each session of the SDK parses the model of the service again, which takes longer than a short test.
JSONFileLoader.load_file = lambda self, path: _load_once(path)  # type: ignore[method-assign]  # on purpose


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ENGINES] = {}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    leave_out(config, items)


def pytest_collection_finish() -> None:
    # Thousands of tests are listed. The garbage collector need not look through them during each of them.
    gc.collect()
    gc.freeze()


def pytest_sessionfinish(session: pytest.Session) -> None:
    # One of several processes of pytest-xdist has the first tell what it ran.
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["engines"] = session.config.stash[ENGINES]
        session.config.workeroutput["left out"] = list(session.config.stash[LEFT_OUT])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    output = getattr(node, "workeroutput", {})
    node.config.stash[ENGINES] |= output.get("engines", {})
    # Each process collects all tests, and leaves out the same.
    tests, variants = output.get("left out", (0, 0))
    node.config.stash[LEFT_OUT] = (tests, variants)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    terminalreporter.section("engines")
    for engine in ("InMemoryOutbox", "moto server", "DynamoDB Local", *PACKAGES, "axe-core"):
        terminalreporter.write_line(f"{engine}: {config.stash[ENGINES].get(engine, 'not asked for by these tests')}")
    if left_out := what_was_left_out(config):
        terminalreporter.write_line(f"NOT RUN: {left_out}")
    terminalreporter.write_line(f"clients: aiobotocore {version('aiobotocore')}, aioboto3 {_aioboto3()}")


def _aioboto3() -> str:
    try:
        return version("aioboto3")
    except ModuleNotFoundError:
        return "NOT INSTALLED, its tests were skipped"


@pytest.fixture(scope="session")
def moto_endpoint(request: pytest.FixtureRequest) -> Iterator[str]:
    """A moto server for the session.

    It answers one request at a time. By itself it lets another thread write between a condition and its write.
    """
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server

    moto, turn = DomainDispatcherApplication(create_backend_app), Lock()

    def answer(environ: dict[str, Any], start_response: Any) -> Any:
        # A caller that sends half of a request keeps no other waiting.
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        # A long poll of SQS would keep all others waiting, and the sender of its message among them.
        is_poll = environ.get("HTTP_X_AMZ_TARGET") == "AmazonSQS.ReceiveMessage"
        with nullcontext() if is_poll else turn:
            return moto(environ | {"wsgi.input": BytesIO(body)}, start_response)

    server = make_server("127.0.0.1", 0, answer, threaded=True, request_handler=MotoRequestHandler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    request.config.stash[ENGINES]["moto server"] = f"ran ({version('moto')})"
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()


@pytest.fixture(scope="session")
def local_endpoint(request: pytest.FixtureRequest) -> Iterator[str]:
    """DynamoDB Local for the session; skips where it cannot run, unless REQUIRE_DYNAMODB_LOCAL=1.

    One that runs already is named by DYNAMODB_LOCAL_ENDPOINT.
    """
    engines = request.config.stash[ENGINES]
    if running := os.environ.get("DYNAMODB_LOCAL_ENDPOINT"):
        engines["DynamoDB Local"] = f"ran ({running})"
        yield running
        return
    try:
        engine = dynamodb_local.running(quick=True)
        endpoint = engine.__enter__()
    except dynamodb_local.UnavailableError as error:
        engines["DynamoDB Local"] = f"DID NOT RUN: {error}"
        if os.environ.get("REQUIRE_DYNAMODB_LOCAL") == "1":
            pytest.fail(f"REQUIRE_DYNAMODB_LOCAL=1, but {error}")
        pytest.skip(f"DynamoDB Local cannot run: {error}")
    engines["DynamoDB Local"] = "ran (1.25.1)"
    yield endpoint
    engine.__exit__(None, None, None)


@contextmanager
def fresh_dynamodb_local(*, instead_of: str) -> Iterator[str]:
    """Run a new DynamoDB Local, to make or delete an index: in one that has run most tests that takes minutes."""
    if "DYNAMODB_LOCAL_ENDPOINT" in os.environ:
        yield instead_of
        return
    with dynamodb_local.running(quick=True) as endpoint:
        yield endpoint


@pytest.fixture
def fresh_local_endpoint(local_endpoint: str) -> Iterator[str]:
    with fresh_dynamodb_local(instead_of=local_endpoint) as endpoint:
        yield endpoint


@pytest.fixture(autouse=True)
def random_ids() -> Iterator[None]:
    """Begin and end each test as a process begins: no window is open, and ids are random."""
    event_ids.forget()
    yield
    event_ids.forget()


@pytest.fixture
def table_name() -> str:
    return f"outbox-{uuid4().hex[:12]}"


@pytest.fixture
async def moto_client(moto_endpoint: str) -> AsyncIterator[Any]:
    async with open_client(moto_endpoint) as client:
        yield client


@pytest.fixture
async def local_client(local_endpoint: str) -> AsyncIterator[Any]:
    async with open_client(local_endpoint) as client:
        yield client


@pytest.fixture
async def proxy(local_endpoint: str) -> AsyncIterator[Proxy]:
    """A proxy before DynamoDB Local, that records what is sent, and breaks what it is told to."""
    async with running_proxy(local_endpoint) as running:
        yield running


@pytest.fixture
async def client(proxy: Proxy) -> AsyncIterator[Any]:
    """A client whose calls go through the proxy."""
    async with open_client(proxy.endpoint) as opened:
        yield opened


@pytest.fixture(params=[open_client, open_tuned_client])
async def either_client(request: pytest.FixtureRequest, proxy: Proxy) -> AsyncIterator[Any]:
    """The same, once with the SDK's JSON and once with ours."""
    async with request.param(proxy.endpoint) as opened:
        yield opened


@pytest.fixture(params=CLIENTS.values(), ids=CLIENTS)
async def each_client(request: pytest.FixtureRequest, proxy: Proxy) -> AsyncIterator[Any]:
    """The same, once with each client that an outbox is used with; the plain one repeats requests by itself."""
    async with request.param(proxy.endpoint) as opened:
        yield opened


# One for all tests of a process: its start takes longer than most tests. It lives in the event loop of the session.
@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    path = path_of("Chromium", request.config)
    from tests.browsing import running_chromium

    async with running_chromium(path) as browser:
        request.config.stash[ENGINES]["Chromium"] = f"ran ({browser.version})"
        yield browser


MakeOutbox = Callable[..., DynamoDBOutbox]


@pytest.fixture
async def local_outbox(local_client: Any, table_name: str) -> MakeOutbox:
    """Makes outboxes on one new table of DynamoDB Local."""
    await DynamoDBOutbox(local_client, table_name=table_name).create_table()

    def make(**options: Any) -> DynamoDBOutbox:
        return DynamoDBOutbox(local_client, table_name=table_name, **options)

    return make
