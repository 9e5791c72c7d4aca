"""Requests and responses of the dashboard, apart from any framework."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

MAX_BODY: Final = 2 * 1024 * 1024
"""The longest form: an edited payload of 400 KB, with every byte percent-encoded, and its reason."""
MAX_FIELDS: Final = 5_000
FORM_TYPE: Final = "application/x-www-form-urlencoded"
HTML: Final = "text/html; charset=utf-8"
JSON: Final = "application/json"
TEXT: Final = "text/plain; charset=utf-8"


class BadRequestError(Exception):
    """A request that cannot be answered. `status` is the HTTP status, and the text says why."""

    def __init__(self, message: str, *, status: int = 400) -> None:
        self.status = status
        super().__init__(message)


class Fields:
    """The fields of a query or a form. A name may have several values."""

    __slots__ = ("pairs",)

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self.pairs = tuple(pairs)

    @classmethod
    def parse(cls, text: str) -> Fields:
        """Parse percent-encoded fields. Raises `BadRequestError` for text that is not valid UTF-8."""
        try:
            return cls(parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS))
        except ValueError as error:
            raise BadRequestError(f"the fields of the request cannot be read: {error}") from error

    def get(self, name: str, default: str = "") -> str:
        """Return the last value of a name."""
        return next((value for key, value in reversed(self.pairs) if key == name), default)

    def all(self, name: str) -> list[str]:
        """Return every value of a name, in their order."""
        return [value for key, value in self.pairs if key == name]


def headers_of(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Join headers that come more than once: HTTP/2 may split cookies, and a second name of a user must not win."""
    headers: dict[str, str] = {}
    for name, value in ((name.lower(), value) for name, value in pairs):
        between = "; " if name == "cookie" else ", "
        headers[name] = f"{headers[name]}{between}{value}" if name in headers else value
    return headers


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request to the dashboard, as `authorize` gets it.

    - `path` is below the place where the dashboard is mounted, such as `/events`. `mount` is that place.
    - `headers` has names in lower case.
    - `client` is the address of the peer, or of the proxy in between.
    - `native` is what the framework has: the ASGI scope (`request.native["user"]`, `request.native["session"]`), or
      the `aiohttp.web.Request`.
    """

    method: str
    path: str
    query_string: str = ""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes = field(default=b"", repr=False)
    scheme: str = "http"
    mount: str = ""
    client: str | None = None
    native: Any = field(default=None, repr=False)

    @property
    def query(self) -> Fields:
        """The fields of the query: `request.query.get("tenant")`. Raises an error if they are not valid UTF-8."""
        return Fields.parse(self.query_string)

    @property
    def host(self) -> str:
        """The host and port that the browser was sent to, in lower case."""
        return self.headers.get("host", "").lower()

    @property
    def hostname(self) -> str:
        """The host without its port."""
        try:
            return urlsplit(f"//{self.host}").hostname or ""
        except ValueError:
            return ""

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies by name; none if the header cannot be read."""
        cookies: SimpleCookie = SimpleCookie()
        try:
            cookies.load(self.headers.get("cookie", ""))
        except CookieError:
            return {}
        return {name: morsel.value for name, morsel in cookies.items()}

    @property
    def up(self) -> str:
        """The relative path from this page to the overview. Relative links also work behind a proxy with a prefix."""
        return "../" * (self.path.count("/") - 1) or "./"

    def form(self) -> Fields:
        """Parse the body. Raises `BadRequestError` unless it is a form in UTF-8."""
        if self.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM_TYPE:
            raise BadRequestError(f"an action has to be sent as a form ({FORM_TYPE})", status=415)
        try:
            return Fields.parse(self.body.decode("ascii"))
        except UnicodeDecodeError as error:
            raise BadRequestError("the form is not percent-encoded") from error


@dataclass(frozen=True, slots=True)
class Response:
    """A response. A `body` that is an async iterator is sent in parts."""

    body: bytes | AsyncIterator[bytes] = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def of(cls, text: str, content_type: str, *, status: int = 200, **headers: str) -> Response:
        """Make a response of text."""
        return cls(text.encode("utf-8", "replace"), status, {"content-type": content_type, **headers})

    @classmethod
    def to(cls, location: str) -> Response:
        """Redirect to another page, which is read with GET."""
        return cls(b"", 303, {"location": location})

    def with_headers(self, headers: Mapping[str, str]) -> Response:
        """Copy the response with more headers. Its own headers win."""
        return Response(self.body, self.status, {**headers, **self.headers})
