"""Digests of a worker's handlers, short enough to be announced to the other workers of a table."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final, Self

MAX_TYPES: Final = 200
"""A worker announces the handlers of 200 types at most, so that the item stays small."""
_BYTES: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerDigests:
    """The handlers of a worker: `details` has a digest of each type and one of its handlers, `name` is that of all."""

    name: str = ""
    details: bytes = b""
    handlers: Mapping[bytes, tuple[str, tuple[str, ...]]]
    """The type and the names of its handlers, by the digest of the type."""

    @classmethod
    def of(cls, handlers: Mapping[str, Collection[str]]) -> Self:
        """Make the digests of handlers, given by their names for each type."""
        by_type = {_digest(event_type): (event_type, tuple(sorted(names))) for event_type, names in handlers.items()}
        kept = dict(sorted(by_type.items())[:MAX_TYPES])
        details = b"".join(key + _digest(*names) for key, (_, names) in kept.items())
        return cls(name=_digest(details.hex()).hex() if kept else "", details=details, handlers=kept)

    def differing(self, details: Any) -> Iterator[tuple[str, tuple[str, ...], bytes]]:
        """Find the types that another worker has other handlers of: type, names here, and the digest of those there.

        Types that only one of them handles are passed over: their events are given back. So is what is not readable.
        """
        if not isinstance(details, bytes):
            return
        for start in range(0, len(details), 2 * _BYTES):
            key, theirs = details[start : start + _BYTES], details[start + _BYTES : start + 2 * _BYTES]
            if key in self.handlers:
                event_type, names = self.handlers[key]
                if theirs != _digest(*names):
                    yield event_type, names, theirs


def _digest(*texts: str) -> bytes:
    encoded = "\0".join(texts).encode(errors="surrogatepass")
    return blake2b(encoded, digest_size=_BYTES).digest()
