"""What all publishers have in common as handlers."""

from __future__ import annotations

from typing import ClassVar

from dynamodb_outbox import ExponentialBackoff, HandlerOptions


class Publisher:
    """The base of all publishers.

    A target that is down fails the events of all handlers, not one, so a publisher is more patient than other handlers:
    20 retries, at most five minutes apart, which takes an hour.
    """

    takes_stored_payload = True
    default_options: ClassVar[HandlerOptions] = {
        "max_retries": 20,
        "backoff": ExponentialBackoff(cap=300, jitter=0.1),
    }
