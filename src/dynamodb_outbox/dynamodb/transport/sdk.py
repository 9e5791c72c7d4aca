"""A warning for an SDK that is older than the library supports."""

from __future__ import annotations

import re
from typing import Final

import aiobotocore

from dynamodb_outbox.observers import logger

OLDEST_SUPPORTED: Final = (2, 25)
"""The oldest aiobotocore that the package requires. An installer can be told to ignore this."""


def warn_of_old_sdk() -> None:
    """Log a warning if the installed aiobotocore is older than the library supports."""
    version = str(aiobotocore.__version__)
    number = re.match(r"(\d+)\.(\d+)", version)
    if number is not None and tuple(map(int, number.groups())) < OLDEST_SUPPORTED:
        logger.warning(
            "aiobotocore %s is installed, but the oldest supported version is %s: errors may be misread, and events "
            'lost or repeated. Install "aiobotocore>=2.25,<4", with aioboto3 "aioboto3>=15.4"',
            version,
            ".".join(map(str, OLDEST_SUPPORTED)),
        )
