"""Nobody sees or changes anything without a decision of the application."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from dynamodb_outbox import ConfigurationError, InMemoryOutbox, OutboxEventBus
from dynamodb_outbox.web import OPERATOR, VIEWER, Access, Request, Response, Role, anyone_may_view, outbox_dashboard
from dynamodb_outbox.web.routes import ROUTES
from tests.web.client import Client
from tests.web.conftest import Make, fail_events, failing

NEEDS = {
    "/dead-letters.jsonl": {Role.VIEW, Role.PAYLOAD},
    "/retry": {Role.VIEW, Role.RETRY},
    "/skip": {Role.VIEW, Role.RETRY},
    "/recover": {Role.VIEW, Role.RETRY},
    "/retry-many": {Role.VIEW, Role.RETRY},
    "/discard": {Role.VIEW, Role.DISCARD},
    "/discard-many": {Role.VIEW, Role.DISCARD},
    "/replace": {Role.VIEW, Role.PAYLOAD, Role.EDIT},
    "/hold": {Role.VIEW, Role.PAUSE},
    "/resume": {Role.VIEW, Role.PAUSE},
}
"""The roles of each address that needs more than `view`."""


def test_authorize_has_no_default(outbox: InMemoryOutbox) -> None:
    with pytest.raises(TypeError, match="authorize"):
        outbox_dashboard(outbox)  # type: ignore[call-arg]


@pytest.mark.parametrize("wrong", [None, True, "ada"])
def test_authorize_has_to_be_a_function(outbox: InMemoryOutbox, wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="authorize"):
        outbox_dashboard(outbox, authorize=wrong)


@pytest.mark.parametrize("path", ["/", "/no-such-page", "/retry", "/static/app.css", ""])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_none_is_refused_everywhere(client_with: Make, path: str, method: str) -> None:
    client = client_with(authorize=lambda request: None)
    reply = await client.request(method, path)
    assert (reply.status, reply.body) == (403, "You have no access to this dashboard.")


@pytest.mark.parametrize("result", [True, "ada", {"user": "ada"}, 1])
async def test_another_result_shows_nothing(client_with: Make, result: Any, caplog: pytest.LogCaptureFixture) -> None:
    reply = await client_with(authorize=lambda request: result).get("/")
    assert reply.status == 500
    assert "Outbox" not in reply.body
    assert "must return an Access, a Response or None" in caplog.text


async def test_an_error_of_authorize_shows_nothing(client_with: Make, caplog: pytest.LogCaptureFixture) -> None:
    def authorize(request: Request) -> Access:
        raise KeyError("session")

    reply = await client_with(authorize=authorize).get("/")
    assert reply.status == 500
    assert "session" not in reply.body
    assert "KeyError" in caplog.text


async def test_authorize_may_be_async_and_may_redirect_to_a_login(client_with: Make) -> None:
    async def authorize(request: Request) -> Response:
        return Response(b"", 303, {"location": "/login"})

    reply = await client_with(authorize=authorize).get("/")
    assert (reply.status, reply.headers["location"]) == (303, "/login")


@pytest.mark.parametrize("roles", ["view", ["view", "administrate"], 3, None])
def test_unknown_roles_are_refused(roles: Any) -> None:
    with pytest.raises(ConfigurationError, match="roles"):
        Access("ada", roles)


@pytest.mark.parametrize("user", ["", None, 5])
def test_a_user_has_a_name(user: Any) -> None:
    with pytest.raises(ConfigurationError, match="user"):
        Access(user, VIEWER)


def test_no_role_includes_another() -> None:
    for role in Role:
        access = Access("ada", [role])
        assert [other for other in Role if access.may(other)] == [role]


def test_named_sets_of_roles() -> None:
    assert {"view"} == VIEWER
    assert set(Role) - {"edit"} == OPERATOR
    assert anyone_may_view(Request(method="GET", path="/")).roles == {"view"}


def test_each_address_that_changes_something_needs_more_than_view() -> None:
    for path, route in ROUTES.items():
        assert set(route.roles) == NEEDS.get(path, {Role.VIEW}), path
        assert route.post is None or len(route.roles) > 1, path


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("missing", Role)
async def test_an_address_is_refused_without_one_of_its_roles(
    client_with: Make, path: str, method: str, missing: Role
) -> None:
    client = client_with(*(set(Role) - {missing}))
    await client.get("/")
    reply = await (client.post(path) if method == "POST" else client.get(path))
    if missing in ROUTES[path].roles:
        assert reply.status == 403
        assert f"`{missing}`" in reply.text
    else:
        assert reply.status != 403


async def test_buttons_that_a_person_may_not_press_are_not_there(bus: OutboxEventBus, client_with: Make) -> None:
    await fail_events(bus, failing(id="f1"))
    client = client_with(Role.VIEW)
    for path in ("/", "/event?id=f1", "/events?state=failed", "/dead-letters", "/types"):
        page = (await client.get(path)).page
        posts = [attributes for attributes in page.all("form") if attributes.get("method") == "post"]
        actions = {attributes.get("action") for attributes in posts} | {
            attributes.get("formaction") for attributes in page.all("button")
        }
        assert actions <= {None, ""}, path
        assert not any(link.lstrip("./").startswith(("retry", "discard", "replace")) for link in page.links()), path


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
async def test_other_methods_are_refused(client: Client, method: str) -> None:
    assert (await client.request(method, "/")).status == 405


@pytest.mark.parametrize("path", [path for path, route in ROUTES.items() if route.get is None])
async def test_get_changes_nothing(client: Client, path: str) -> None:
    assert (await client.get(path)).status == 405


async def test_every_action_is_written_to_the_audit_log_without_payloads(
    bus: OutboxEventBus, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dynamodb_outbox.web.audit")
    await fail_events(bus, failing(id="f1", text="secret"), failing(id="f2", text="secret"))
    caplog.clear()
    reply = await client.get("/event", id="f1")
    reply = await client.confirm(await client.confirm(reply, "discard"), "discard", reason="a duplicate\nuser='eve'")
    assert reply.status == 303
    (record,) = [record for record in caplog.records if record.name.endswith("audit")]
    assert "user='ada' action=discarded" in record.getMessage()
    assert "done=('f1',)" in record.getMessage()
    assert "\n" not in record.getMessage()
    assert "secret" not in record.getMessage()
