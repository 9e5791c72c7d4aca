"""Which function answers which request, and the role that it needs. This is the only place that checks roles."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from dynamodb_outbox.web.access import Access, Role
from dynamodb_outbox.web.http import BadRequestError, Response
from dynamodb_outbox.web.site import Visit

Page = Callable[[Visit], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """A page (`get`) or an action (`post`), and the roles that both need."""

    roles: tuple[Role, ...]
    get: Page | None = None
    post: Page | None = None

    def page(self, method: str) -> Page:
        """Return the function for a method. Raises `BadRequestError` (405) for a method that the route lacks."""
        page = self.post if method == "POST" else self.get if method in {"GET", "HEAD"} else None
        if page is None:
            allowed = "POST" if self.get is None else "GET, HEAD" if self.post is None else "GET, HEAD, POST"
            raise BadRequestError(f"{method[:20]} is not possible here, only {allowed}", status=405)
        return page


def find(routes: Mapping[str, Route], path: str, method: str, access: Access) -> Page:
    """Find the function that answers a request. Raises `BadRequestError` (404, 403 or 405)."""
    route = routes.get(path)
    if route is None:
        raise BadRequestError("there is no such page", status=404)
    missing = [role for role in route.roles if not access.may(role)]
    if missing:
        names = " and ".join(f"`{role}`" for role in missing)
        raise BadRequestError(f"you need the role {names}; ask who runs this service", status=403)
    return route.page(method)
