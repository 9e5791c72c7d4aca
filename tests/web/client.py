"""A browser without a window: keeps the cookie, reads forms, and sends them as a page would."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

from dynamodb_outbox.web import Dashboard, Request, Response

FORM = "application/x-www-form-urlencoded"
SAME_ORIGIN = {"sec-fetch-site": "same-origin", "origin": "http://dash.test"}


BLOCKS = {"dd", "dt", "h1", "h2", "h3", "li", "p", "pre", "td", "th", "tr", "button", "select", "span"}


class Document(HTMLParser):
    """The elements of a page, in their order, each with its attributes; and its text."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.parts: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        if tag in BLOCKS:
            self.parts.append(" ")
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.parts.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.parts).split())

    def links(self) -> list[str]:
        return [attributes["href"] for tag, attributes in self.elements if tag == "a"]

    def form(self, action: str, **wanted: str) -> dict[str, str]:
        """The hidden fields of the first form with this action, whose fields have the wanted values."""
        for fields in self.forms(action):
            if wanted.items() <= fields.items():
                return fields
        raise AssertionError(f"no form {action!r} with {wanted}")

    def forms(self, action: str) -> list[dict[str, str]]:
        found: list[dict[str, str]] = []
        inside = False
        for tag, attributes in self.elements:
            if tag == "form":
                inside = attributes.get("action", "").lstrip("./") == action
                if inside:
                    found.append({})
            elif inside and tag == "input" and attributes.get("type") == "hidden":
                found[-1][attributes["name"]] = attributes["value"]
        return found

    def all(self, tag: str, **attributes: str) -> list[dict[str, str]]:
        return [found for name, found in self.elements if name == tag and attributes.items() <= found.items()]


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: str
    path: str

    @property
    def page(self) -> Document:
        return Document(self.body)

    @property
    def text(self) -> str:
        return self.page.text


class Client:
    def __init__(self, dashboard: Dashboard, *, host: str = "dash.test") -> None:
        self.dashboard = dashboard
        self.host = host
        self.cookie = ""

    async def request(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, body: bytes = b"", **options: Any
    ) -> Reply:
        parts = urlsplit(path)
        sent = {"host": self.host, "cookie": self.cookie} | dict(headers or {})
        request = Request(method=method, path=parts.path, query_string=parts.query, headers=sent, body=body, **options)
        response = await self.dashboard.handle(request)
        if "set-cookie" in response.headers:
            self.cookie = response.headers["set-cookie"].partition(";")[0]
        return Reply(response.status, response.headers, await text_of(response), parts.path)

    async def get(self, path: str, *, headers: Mapping[str, str] | None = None, **query: str) -> Reply:
        return await self.request("GET", f"{path}?{urlencode(query)}" if query else path, headers=headers)

    async def post(
        self,
        path: str,
        fields: Mapping[str, str] | Sequence[tuple[str, str]] = (),
        *,
        headers: Mapping[str, str] | None = None,
        csrf: str | None = None,
    ) -> Reply:
        """Send a form as a page of the dashboard does; `csrf` replaces the token."""
        pairs = list(fields.items()) if isinstance(fields, Mapping) else list(fields)
        if not any(name == "csrf" for name, _ in pairs):
            pairs.append(("csrf", self.cookie.partition("=")[2] if csrf is None else csrf))
        sent = {"content-type": FORM} | dict(SAME_ORIGIN if headers is None else headers)
        return await self.request("POST", path, headers=sent, body=urlencode(pairs).encode())

    async def follow(self, reply: Reply) -> Reply:
        """Read the page that a redirect leads to."""
        assert reply.status == 303, reply.text
        return await self.get(urljoin(reply.path, reply.headers["location"]))

    async def confirm(self, reply: Reply, action: str, **fields: str) -> Reply:
        """Fill in and send the form of a page that asks."""
        assert reply.status == 200, reply.text
        return await self.post(f"/{action}", reply.page.form(action) | fields)


async def text_of(response: Response) -> str:
    if isinstance(response.body, bytes):
        return response.body.decode()
    return b"".join([part async for part in response.body]).decode()


def query_of(path: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(path).query, keep_blank_values=True))
