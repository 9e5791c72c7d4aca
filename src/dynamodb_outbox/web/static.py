"""The style sheet, the script and the icon."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import Final

_TYPES: Final = {
    "app.css": "text/css; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
FILES: Final = {name: (files("dynamodb_outbox.web") / "static" / name).read_bytes() for name in _TYPES}
VERSION: Final = hashlib.sha256(b"".join(FILES.values())).hexdigest()[:12]
"""Stands in the links to the files, so that a browser may keep them until they change."""


def content_type(name: str) -> str:
    """Return the type of a file."""
    return _TYPES[name]
