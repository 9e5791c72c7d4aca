"""Why a value cannot be stored, while its path is not known yet."""

from __future__ import annotations


class Unstorable(Exception):  # noqa: N818 - internal: becomes UnstorableValueError once the path is whole
    """A value was refused; `steps` grows into its path while the exception rises."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        self.steps: list[str] = []
        super().__init__(reason)

    def path(self, root: str) -> str:
        """Write the way from `root` to the value."""
        return root + "".join(reversed(self.steps))
