"""What a handler may ask about the delivery it is called for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One attempt of one handler; handlers that take a second argument get it.

    `attempt` counts from 1 to `max_attempts`; `handler` is the handler's name; `lease_expires_at` (epoch
    seconds) is when the worker's claim ends, and the handler is cancelled a little before it.
    """

    attempt: int
    max_attempts: int
    handler: str
    lease_expires_at: float
