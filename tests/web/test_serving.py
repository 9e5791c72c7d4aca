"""The stand-alone dashboard is reachable for others with a token only."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import pytest

from dynamodb_outbox import ConfigurationError, InMemoryOutbox
from dynamodb_outbox.web import OPERATOR, VIEWER, Access, Request, Response, serve
from dynamodb_outbox.web.serving import authorize_with, check_exposure
from tests.web.client import Document
from tests.web.conftest import failing

TOKEN = "0123456789abcdef"


def basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


@asynccontextmanager
async def served(outbox: InMemoryOutbox, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    started: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve(outbox, port=0, on_started=started.set_result, **options))
    try:
        await asyncio.wait([serving, started], return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()
        async with httpx.AsyncClient(base_url=await started) as client:
            yield client
    finally:
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "outbox.internal", ""])  # noqa: S104 - it is refused
async def test_other_machines_need_a_token(outbox: InMemoryOutbox, host: str) -> None:
    with pytest.raises(ConfigurationError, match="a token is needed"):
        await serve(outbox, host=host, port=0)
    check_exposure(host, TOKEN)


@pytest.mark.parametrize("token", ["", "short", "0123456789abcde"])
async def test_token_that_can_be_guessed_is_refused(outbox: InMemoryOutbox, token: str) -> None:
    with pytest.raises(ConfigurationError, match="16 or more"):
        await serve(outbox, token=token)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_this_machine_needs_none(host: str) -> None:
    check_exposure(host, None)


async def test_address_answers_for_this_machine_only(outbox: InMemoryOutbox) -> None:
    async with served(outbox, environment="staging") as client:
        reply = await client.get("/")
        assert reply.status_code == 200
        assert "staging" in reply.text
        rebound = await client.get("/", headers={"host": "evil.test"})
        assert rebound.status_code == 400


async def test_port_that_is_taken_is_said(outbox: InMemoryOutbox) -> None:
    async with served(outbox) as client:
        with pytest.raises(OSError, match="in use"):
            await serve(outbox, port=client.base_url.port or 0)


async def test_token_is_asked_for_and_taken(outbox: InMemoryOutbox) -> None:
    async with served(outbox, token=TOKEN) as client:
        refused = await client.get("/")
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"].startswith("Basic ")
        assert "<html" not in refused.text
        for header in (basic("ada", "wrong"), "Bearer wrong", "Basic ?", "Digest x", basic("ada", "")):
            assert (await client.get("/", headers={"authorization": header})).status_code == 401
        page = await client.get("/", headers={"authorization": basic("ada", TOKEN)})
        assert page.status_code == 200
        assert "ada" in Document(page.text).text
        assert (await client.get("/", headers={"authorization": f"Bearer {TOKEN}"})).status_code == 200


async def test_read_only_has_no_actions(outbox: InMemoryOutbox) -> None:
    await outbox.publish([failing(id="e1")])
    async with served(outbox, read_only=True) as client:
        page = await client.get("/event?id=e1")
        assert "the mail server is down" in page.text
        assert not Document(page.text).all("form", method="post")
        assert (await client.post("/discard")).status_code == 403


@pytest.mark.parametrize("roles", [VIEWER, OPERATOR])
def test_name_of_a_user_comes_from_the_password_dialog(roles: frozenset[Any]) -> None:
    authorize = authorize_with(TOKEN, roles)
    access = authorize(Request(method="GET", path="/", headers={"authorization": basic("ada", TOKEN)}))
    assert access == Access("ada", roles)
    nameless = authorize(Request(method="GET", path="/", headers={"authorization": basic("", TOKEN)}))
    assert nameless == Access("token", roles)
    assert isinstance(authorize(Request(method="GET", path="/")), Response)


def test_process_without_a_user_name_can_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> str:
        raise KeyError("getpwuid(): uid not found: 1234")

    monkeypatch.setattr("getpass.getuser", missing)
    assert authorize_with(None, VIEWER)(Request(method="GET", path="/")) == Access("unknown", VIEWER)
