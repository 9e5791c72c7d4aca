"""Group and deduplication ids, which AWS limits in length and characters."""

from __future__ import annotations

import hashlib
import re
from typing import Final

_FITS: Final = re.compile(r"""[a-zA-Z0-9!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]{1,128}""")


def fitting_id(text: str) -> str:
    """Return the text if SQS and SNS take it as an id, or else its SHA-256 in hexadecimal digits."""
    return text if _FITS.fullmatch(text) else hashlib.sha256(text.encode()).hexdigest()
