"""The stand-alone dashboard: `dynamodb-outbox web`."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import secrets
import socket
from collections.abc import Callable
from typing import Final

from dynamodb_outbox.bus import OutboxEventBus
from dynamodb_outbox.errors import ConfigurationError
from dynamodb_outbox.port import Outbox
from dynamodb_outbox.repairing import user_name
from dynamodb_outbox.web.access import OPERATOR, VIEWER, Access, Authorize, Role
from dynamodb_outbox.web.dashboard import outbox_dashboard
from dynamodb_outbox.web.http import TEXT, Request, Response
from dynamodb_outbox.web.redaction import Redact

SHORTEST_TOKEN: Final = 16
LOCAL_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})


async def serve(
    outbox_or_bus: Outbox | OutboxEventBus,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    token: str | None = None,
    read_only: bool = False,
    allow_edit: bool = False,
    redact: Redact | None = None,
    environment: str | None = None,
    trace_url: str | None = None,
    runbook_url: str | None = None,
    on_started: Callable[[str], None] | None = None,
) -> None:
    """Serve the dashboard until SIGINT or SIGTERM. The caller opens and closes the outbox.

    With a `token`, a browser asks for it as the password, with any user name, which is then stored with every repair;
    a program sends `Authorization: Bearer TOKEN`. Without one, only this machine may connect, and the user is the user
    of this process. `on_started` is called with the address. Raises `ConfigurationError` for a host that others can
    reach without a token, and for a token of less than 16 characters; `OSError` if the port is taken.
    """
    from dynamodb_outbox.web.uvicorn_server import run  # noqa: PLC0415 - a mounted dashboard needs no server

    check_exposure(host, token)
    dashboard = outbox_dashboard(
        outbox_or_bus,
        authorize=authorize_with(token, _roles(read_only=read_only, allow_edit=allow_edit)),
        redact=redact,
        environment=environment,
        trace_url=trace_url,
        runbook_url=runbook_url,
        allowed_hosts=LOCAL_NAMES if token is None or host in LOCAL_NAMES else None,
    )
    listener = _listener(host, port)
    with listener:
        if on_started is not None:
            shown = f"[{host}]" if ":" in host else host
            on_started(f"http://{shown}:{listener.getsockname()[1]}/")
        await run(dashboard, listener)


def _roles(*, read_only: bool, allow_edit: bool) -> frozenset[Role]:
    if read_only:
        return VIEWER | {Role.PAYLOAD}
    return OPERATOR | {Role.EDIT} if allow_edit else OPERATOR


def check_exposure(host: str, token: str | None) -> None:
    """Raise `ConfigurationError` if others could reach the dashboard without a token, or guess the token."""
    if token is not None and len(token) < SHORTEST_TOKEN:
        raise ConfigurationError(f"the token has {len(token)} characters; it needs {SHORTEST_TOKEN} or more")
    if token is None and not _is_loopback(host):
        raise ConfigurationError(
            f"host={host!r}: other machines can reach this address, so a token is needed; "
            "pass a token, or serve on 127.0.0.1 and connect through an SSH tunnel"
        )


def authorize_with(token: str | None, roles: frozenset[Role]) -> Authorize:
    """Make the `authorize` of a stand-alone dashboard."""
    user = user_name()

    def authorize(request: Request) -> Access | Response:
        if token is None:
            return Access(user, roles)
        name, password = _credentials(request.headers.get("authorization", ""))
        if secrets.compare_digest(password.encode(), token.encode()):
            return Access(name or "token", roles)
        challenge = {"www-authenticate": 'Basic realm="dynamodb-outbox", charset="UTF-8"'}
        return Response.of("Enter your name, and the token as the password.", TEXT, status=401).with_headers(challenge)

    return authorize


def _credentials(header: str) -> tuple[str, str]:
    """Read a user name and a token from an Authorization header. Both are empty without such a header."""
    scheme, _, value = header.partition(" ")
    if scheme.lower() == "bearer":
        return "", value.strip()
    if scheme.lower() != "basic":
        return "", ""
    try:
        name, _, password = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return name[:100], password


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(100)
    except OSError:
        listener.close()
        raise
    return listener
