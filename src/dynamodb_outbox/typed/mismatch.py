"""A stored value that does not fit its type."""

from __future__ import annotations


class Mismatch(Exception):  # noqa: N818 - it becomes an InvalidPayloadError
    """A stored value that does not fit its type. `steps` lead to the value, the innermost first."""

    def __init__(self, reason: str, *, steps: list[str] | None = None) -> None:
        self.reason = reason
        self.steps = steps or []
        super().__init__(reason)

    def path(self) -> str:
        """Write the place of the value, such as `payload.lines[3].price`."""
        return "payload" + "".join(reversed(self.steps))
