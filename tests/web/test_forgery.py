"""Another site cannot act in the name of a user, and no page runs code that is not in its files."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from dynamodb_outbox import EventStatus, InMemoryOutbox, OutboxEventBus
from dynamodb_outbox.web import Dashboard
from dynamodb_outbox.web.routes import ROUTES
from tests.web.client import FORM, SAME_ORIGIN, Client
from tests.web.conftest import Make, fail_events, failing

ACTIONS = [path for path, route in ROUTES.items() if route.post is not None]
FORGED = {
    "another site": {"sec-fetch-site": "cross-site", "origin": "https://evil.test"},
    "a sibling": {"sec-fetch-site": "same-site", "origin": "http://evil.dash.test"},
    "another site that hides its origin": {"sec-fetch-site": "cross-site", "origin": "http://dash.test"},
    "another origin, from an old browser": {"origin": "https://evil.test"},
    "the host on another port": {"origin": "http://dash.test:81"},
    "an origin that begins like the host": {"origin": "http://dash.test.evil.test"},
    "a sandboxed frame": {"origin": "null"},
    "an origin of another kind": {"origin": "file://dash.test"},
    "an origin that is not one": {"origin": "http://[dash.test"},
    "a program": {},
    "a browser with a password": {"authorization": "Basic YWRhOnNlY3JldA=="},
    "a token from another site": {"sec-fetch-site": "cross-site", "authorization": "Bearer abc"},
}


async def picked(bus: OutboxEventBus, client: Client) -> dict[str, str]:
    """The fields that retry the only dead letter, without asking first."""
    await fail_events(bus, failing(id="f1"))
    reply = await client.get("/event", id="f1")
    return reply.page.form("retry") | {"confirmed": "1"}


@pytest.mark.parametrize("headers", FORGED.values(), ids=FORGED)
async def test_forged_action_changes_nothing(
    bus: OutboxEventBus, outbox: InMemoryOutbox, client: Client, headers: dict[str, str]
) -> None:
    fields = await picked(bus, client)
    reply = await client.post("/retry", fields, headers=headers)
    assert reply.status == 403
    assert "refused" in reply.text
    assert outbox.status_of("f1") is EventStatus.FAILED


@pytest.mark.parametrize("headers", FORGED.values(), ids=FORGED)
@pytest.mark.parametrize("path", ACTIONS)
async def test_every_action_is_protected(client: Client, path: str, headers: dict[str, str]) -> None:
    await client.get("/")
    assert (await client.post(path, headers=headers)).status == 403


@pytest.mark.parametrize("token", ["", "x", "A" * 43, "é" * 43])
@pytest.mark.parametrize("path", ACTIONS)
async def test_every_action_needs_the_token_of_the_cookie(client: Client, path: str, token: str) -> None:
    await client.get("/")
    reply = await client.post(path, csrf=token)
    assert reply.status == 403
    assert "token" in reply.text


async def test_action_without_a_cookie_is_refused(client: Client) -> None:
    reply = await client.post("/recover", csrf="")
    assert reply.status == 403


@pytest.mark.parametrize(
    "headers",
    [
        SAME_ORIGIN,
        {"sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "none"},
        {"origin": "http://dash.test"},
        {"origin": "https://DASH.test"},
    ],
)
async def test_action_of_a_page_is_taken(
    bus: OutboxEventBus, outbox: InMemoryOutbox, client: Client, headers: dict[str, str]
) -> None:
    assert (await client.post("/retry", await picked(bus, client), headers=headers)).status == 303
    assert outbox.status_of("f1") is EventStatus.PENDING


async def test_program_with_a_bearer_token_needs_no_cookie(
    bus: OutboxEventBus, outbox: InMemoryOutbox, client: Client
) -> None:
    fields = await picked(bus, client) | {"csrf": ""}
    client.cookie = ""
    assert (await client.post("/retry", fields, headers={"authorization": "Bearer abc"})).status == 303
    assert outbox.status_of("f1") is EventStatus.PENDING


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "multipart/form-data; boundary=x", ""])
async def test_only_forms_are_taken(client: Client, kind: str) -> None:
    await client.get("/")
    assert (await client.post("/recover", headers=SAME_ORIGIN | {"content-type": kind})).status == 415


@pytest.mark.parametrize("body", [b"csrf=%ff", "csrf=é".encode(), b"&".join([b"a=1"] * 6_000)])
async def test_form_that_cannot_be_read_is_refused(client: Client, body: bytes) -> None:
    reply = await client.request("POST", "/recover", headers=SAME_ORIGIN | {"content-type": FORM}, body=body)
    assert reply.status == 400


async def test_cookie_is_out_of_reach_for_scripts_and_other_sites(client: Client) -> None:
    reply = await client.request("GET", "/", scheme="https", mount="/outbox")
    name, *attributes = reply.headers["set-cookie"].split("; ")
    assert re.fullmatch(r"dynamodb_outbox_csrf=[\w-]{43}", name)
    assert attributes == ["Path=/outbox", "HttpOnly", "SameSite=Strict", "Secure"]


async def test_cookie_is_set_once_for_a_browser(client: Client) -> None:
    assert "set-cookie" in (await client.get("/")).headers
    assert "set-cookie" not in (await client.get("/")).headers
    client.cookie = "dynamodb_outbox_csrf=short"
    assert "set-cookie" in (await client.get("/")).headers


async def test_token_of_a_form_is_the_token_of_the_cookie(bus: OutboxEventBus, client: Client) -> None:
    await fail_events(bus, failing(id="f1"))
    reply = await client.get("/event", id="f1")
    assert reply.page.form("retry")["csrf"] == client.cookie.partition("=")[2]


@pytest.mark.parametrize("host", ["evil.test", "", "dash.test.evil.test", "dash.test@evil.test", "[::1"])
async def test_another_host_is_refused_before_anything_else(client_with: Make, host: str) -> None:
    """A name of a foreign site that resolves to this address would otherwise be the same origin."""
    client = client_with("view", allowed_hosts=["Dash.Test"])
    client.host = host
    assert (await client.get("/")).status == 400


@pytest.mark.parametrize("host", ["dash.test", "DASH.test:8080"])
async def test_allowed_host_is_answered(client_with: Make, host: str) -> None:
    client = client_with("view", allowed_hosts=["Dash.Test"])
    client.host = host
    assert (await client.get("/")).status == 200


@pytest.mark.parametrize("path", ["/", "/no-such-page", "/static/app.js", "/api/overview.json", "/retry", ""])
async def test_every_response_has_the_security_headers(client: Client, path: str) -> None:
    headers = (await client.get(path)).headers
    policy = dict(part.strip().partition(" ")[::2] for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["form-action"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cache-control"] == ("private, max-age=86400" if "static" in path else "no-store")


def test_templates_have_no_inline_code_and_turn_no_escaping_off() -> None:
    checked = 0
    for template in (files("dynamodb_outbox.web") / "templates").iterdir():
        text = template.read_text()
        assert not re.search(r"\sstyle=|<style|\son\w+=|javascript:", text), template.name
        assert not re.search(r"\|\s*safe|autoescape|tojson|<script(?! src=)", text), template.name
        checked += 1
    assert checked > 10


async def test_error_of_the_dashboard_tells_nothing(dashboard: Dashboard, outbox: InMemoryOutbox) -> None:
    async def broken(event_id: str) -> None:
        raise RuntimeError("secret")

    outbox.get = broken  # type: ignore[method-assign, assignment]
    reply = await Client(dashboard).get("/event", id="f1")
    assert reply.status == 500
    assert "secret" not in reply.body
