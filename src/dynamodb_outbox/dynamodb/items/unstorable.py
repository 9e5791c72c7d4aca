"""The internal error for a value that cannot be stored, raised where its full path is not known yet."""

from __future__ import annotations


class Unstorable(Exception):  # noqa: N818 - internal: becomes UnstorableValueError once the path is complete
    """A value cannot be stored. Each caller that the exception passes adds its step to the path of the value."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        self.steps: list[str] = []
        super().__init__(reason)

    def path(self, root: str) -> str:
        """Return the path from `root` to the value, such as `payload.lines[1].price`."""
        return root + "".join(reversed(self.steps))
