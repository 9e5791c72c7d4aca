"""A stored value that does not fit its type."""

from __future__ import annotations

from dynamodb_outbox.wording import describe


class Mismatch(Exception):  # noqa: N818 - it becomes an InvalidPayloadError
    """A stored value that does not fit its type. `steps` lead to the value, the innermost first."""

    def __init__(self, reason: str, *, steps: list[str] | None = None) -> None:
        self.reason = reason
        self.steps = steps or []
        super().__init__(reason)

    def path(self) -> str:
        """Write the place of the value, such as `payload.lines[3].price`."""
        return "payload" + "".join(reversed(self.steps))


def mismatch_of(error: Exception, *steps: str) -> Mismatch:
    """Return the mismatch that an error means: a validator, or the `__post_init__` of a class, may raise anything."""
    if isinstance(error, Mismatch):
        return error
    mismatch = Mismatch(describe(error), steps=list(steps))
    mismatch.__cause__ = error
    return mismatch
