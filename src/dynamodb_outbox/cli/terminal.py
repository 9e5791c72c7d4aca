"""Writes stored text so that it cannot drive a terminal."""

from __future__ import annotations


def plain(text: str) -> str:
    """Show control characters as escapes, because a stored text must not drive the terminal; keep line breaks."""
    return "".join(each if each.isprintable() or each == "\n" else repr(each)[1:-1] for each in text)
