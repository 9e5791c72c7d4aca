"""The FastAPI example with a dashboard, with its lifespan."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from asgi_lifespan import LifespanManager

from examples.dashboard_app import app


@pytest.fixture
async def http(settings: None) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        LifespanManager(app) as manager,
        httpx.AsyncClient(transport=httpx.ASGITransport(manager.app), base_url="http://example") as http,
    ):
        yield http


@pytest.mark.parametrize(
    ("user", "status", "may_hold"),
    [(None, 403, False), ("eve@example.org", 200, False), ("ada@example.org", 200, True)],
)
async def test_the_proxy_says_who_asks(http: httpx.AsyncClient, user: str | None, status: int, may_hold: bool) -> None:
    headers = {} if user is None else {"x-forwarded-email": user}
    reply = await http.get("/outbox/", headers=headers)
    assert reply.status_code == status
    assert ("Hold all workers" in reply.text) is may_hold
