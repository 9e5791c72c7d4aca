"""The SDK that is installed, and the oldest that is supported."""

from __future__ import annotations

import re
from typing import Final

import aiobotocore

from dynamodb_outbox.observers import logger

OLDEST_SUPPORTED: Final = (2, 25)
"""The aiobotocore that the package requires, at least. An installer may be made to ignore it."""


def warn_of_old_sdk() -> None:
    """Log a warning if the installed aiobotocore is older than the library supports."""
    version = str(aiobotocore.__version__)
    number = re.match(r"(\d+)\.(\d+)", version)
    if number is not None and tuple(map(int, number.groups())) < OLDEST_SUPPORTED:
        logger.warning(
            "aiobotocore %s is installed, and %s is the oldest that is supported: errors may be misread, and events "
            'lost or repeated. Install "aiobotocore>=2.25,<4", with aioboto3 "aioboto3>=15.4"',
            version,
            ".".join(map(str, OLDEST_SUPPORTED)),
        )
