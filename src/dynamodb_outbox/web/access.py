"""Who may do what on the dashboard."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from dynamodb_outbox.errors import ConfigurationError
from dynamodb_outbox.web.http import Request, Response
from dynamodb_outbox.wording import shape, shown


class Role(StrEnum):
    """A permission on the dashboard. An action needs `view` and its own role. No role includes another."""

    VIEW = "view"
    """See every page: ids, types, times, counts and error texts. Payloads and metadata are hidden."""
    PAYLOAD = "payload"
    """See payloads and metadata as `redact` leaves them, and export dead letters."""
    RETRY = "retry"
    """Retry dead letters, and recover events whose lease ran out."""
    DISCARD = "discard"
    """Discard events, so that they are never delivered."""
    EDIT = "edit"
    """Replace an event by a new event with another payload. Needs `payload`, too."""
    PAUSE = "pause"
    """Hold and resume types, or the whole outbox."""


VIEWER: Final = frozenset({Role.VIEW})
"""The roles of a person who sees everything but payloads, and changes nothing."""
OPERATOR: Final = frozenset({Role.VIEW, Role.PAYLOAD, Role.RETRY, Role.DISCARD, Role.PAUSE})
"""All roles but `edit`, which can change what an event says."""


@dataclass(frozen=True, slots=True)
class Access:
    """The result of `authorize`: who sends a request, and their roles.

    `user` is stored with every repair and written to the log. Raises `ConfigurationError` for an unknown role.
    """

    user: str
    roles: Collection[Role | str]

    def __post_init__(self) -> None:
        if not isinstance(self.user, str) or not self.user:
            raise ConfigurationError(f"user={shown(self.user)}: it must be a string that is not empty")
        if isinstance(self.roles, str):
            raise ConfigurationError(f"roles={shown(self.roles)}: it must be a list, such as [{shown(self.roles)}]")
        try:
            object.__setattr__(self, "roles", frozenset(map(Role, self.roles)))
        except (TypeError, ValueError):
            known = ", ".join(Role)
            raise ConfigurationError(f"roles={shown(self.roles)}: it must be a list of roles ({known})") from None

    @property
    def is_read_only(self) -> bool:
        """Whether the person can change nothing."""
        return not set(self.roles) - {Role.VIEW, Role.PAYLOAD}

    def may(self, role: Role | str) -> bool:
        """Tell whether the person has a role."""
        return role in self.roles


Authorize = Callable[[Request], Awaitable[Access | Response | None] | Access | Response | None]
"""Decides about a request: an `Access`, None (403), or a `Response`, such as a redirect to a login. May be async."""


def anyone_may_view(request: Request) -> Access:
    """Let everybody who reaches the dashboard look, and nobody change anything: `authorize=anyone_may_view`."""
    return Access("anyone", VIEWER)


async def decide(authorize: Authorize, request: Request) -> Access | Response | None:
    """Call `authorize`. Raises `ConfigurationError` for any other result, such as True."""
    result = authorize(request)
    if inspect.isawaitable(result):
        result = await result
    if result is None or isinstance(result, (Access, Response)):
        return result
    raise ConfigurationError(f"authorize returned {shape(result)}; it must return an Access, a Response or None")
