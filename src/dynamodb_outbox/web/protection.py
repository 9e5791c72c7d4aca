"""Keeps other sites from acting in the name of a user: the checks of a request, and the headers of a response."""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection
from typing import Final
from urllib.parse import urlsplit

from dynamodb_outbox.web.http import BadRequestError, Fields, Request

CSRF_COOKIE: Final = "dynamodb_outbox_csrf"
CSRF_FIELD: Final = "csrf"
SAFE_METHODS: Final = frozenset({"GET", "HEAD"})
HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # Not `no-referrer`: with it, browsers send `Origin: null` with the forms of the dashboard itself.
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
"""The headers of every response. No script, style or handler is inline, so the policy needs no exception."""
_TOKEN: Final = re.compile(r"[\w-]{43}", re.ASCII)


def check_host(request: Request, allowed: Collection[str] | None) -> None:
    """Refuse a request for another host: the name of a foreign site may resolve to this address (DNS rebinding)."""
    if allowed is not None and request.hostname not in allowed:
        raise BadRequestError(f"this dashboard does not answer for the host {request.hostname!r}; see allowed_hosts")


def csrf_token(request: Request) -> str | None:
    """Return the token that the browser has in its cookie, if it is well-formed."""
    token = request.cookies.get(CSRF_COOKIE, "")
    return token if _TOKEN.fullmatch(token) else None


def new_csrf_token() -> str:
    """Make a token for the cookie and the forms of one browser."""
    return secrets.token_urlsafe(32)


def csrf_cookie(request: Request, token: str) -> str:
    """Write the header that stores a token. Scripts cannot read it, and other sites never cause it to be sent."""
    secure = "; Secure" if request.scheme == "https" else ""
    return f"{CSRF_COOKIE}={token}; Path={_cookie_path(request)}; HttpOnly; SameSite=Strict{secure}"


def _cookie_path(request: Request) -> str:
    # The mount is chosen by the application; a character that ends the attribute would still break the header.
    return request.mount if re.fullmatch(r"/[\w/.~-]*", request.mount, re.ASCII) else "/"


def check_not_forged(request: Request, form: Fields) -> None:
    """Refuse an action unless a page of this dashboard sent it. Raises `BadRequestError` (403).

    Browsers say where a request comes from: by `Sec-Fetch-Site` on https and on localhost, and by `Origin`. A program
    that sends neither has to have an `Authorization: Bearer` header, which a browser never adds by itself.
    """
    bearer = request.headers.get("authorization", "").lower().startswith("bearer ")
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    if site is not None:
        if site not in {"same-origin", "none"}:
            raise _forged(f"the browser says that it comes from another site (Sec-Fetch-Site: {site!r})")
    elif origin is not None:
        if _authority(origin) != request.host:
            raise _forged(f"its Origin is {origin!r}, and the host is {request.host!r}")
    elif not bearer:
        raise _forged("it has neither Sec-Fetch-Site nor Origin, and no bearer token")
    if bearer:
        return
    expected = csrf_token(request)
    if expected is None or not secrets.compare_digest(expected.encode(), form.get(CSRF_FIELD).encode()):
        raise _forged("its token does not match the cookie; reload the page, and try again")


def _authority(origin: str) -> str | None:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return None
    return parts.netloc.lower() if parts.scheme in {"http", "https"} else None


def _forged(why: str) -> BadRequestError:
    return BadRequestError(f"the action was refused, because {why}", status=403)
