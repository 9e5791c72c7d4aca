"""A lease that many claims share, so that one write renews all of them."""

from __future__ import annotations

from typing import Protocol


class LeaseMember(Protocol):
    """The lease of one claim, as the worker keeps it."""

    def on_shared_lost(self) -> None:
        """Have the handlers cancelled: another worker may hold the event."""
        ...

    def on_moved_out(self, *, expires_at: float, ends: float) -> None:
        """Note that the claim does not share the lease any more: it has an own one, to be renewed by the worker."""
        ...

    def on_maybe_moved_out(self, *, ends: float) -> None:
        """Note that the claim has perhaps an own lease with this end. The worker has to renew it, to find out."""
        ...


class SharedLease:
    """The lease of all events that were claimed on emit in one window.

    `expires_at` is in epoch seconds and `ends` in event loop time; both move only when the backend has answered a
    renewal. The adapter renews the lease. The worker only reads it, and registers the leases that depend on it.
    """

    __slots__ = ("_members", "ends", "expires_at", "is_lost")

    def __init__(self, *, expires_at: float, ends: float) -> None:
        self.expires_at = expires_at
        self.ends = ends
        self.is_lost = False
        self._members: dict[str, LeaseMember] = {}

    def join(self, token: str, member: LeaseMember) -> None:
        """Register the lease of a claim, by its token."""
        self._members[token] = member

    def leave(self, token: str) -> None:
        """Remove a claim. A claim that is not registered changes nothing."""
        self._members.pop(token, None)

    def renew(self, *, expires_at: float, ends: float) -> None:
        """Note a renewal that was answered."""
        self.expires_at, self.ends = expires_at, ends

    def move_out(self, token: str, *, expires_at: float, ends: float) -> None:
        """Give a claim its own lease, which the adapter has just written."""
        member = self._members.pop(token, None)
        if member is not None:
            member.on_moved_out(expires_at=expires_at, ends=ends)

    def maybe_move_out(self, token: str, *, ends: float) -> None:
        """Tell a claim that the write of its own lease was not answered."""
        if (member := self._members.get(token)) is not None:
            member.on_maybe_moved_out(ends=ends)

    def lose(self) -> None:
        """Tell every claim that the lease is lost."""
        self.is_lost = True
        while self._members:
            _, member = self._members.popitem()
            member.on_shared_lost()
