"""Who the credentials belong to, as AWS sees them."""

from __future__ import annotations

from typing import Any, Final

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.exceptions import BotoCoreError, ClientError

AWS_HOST: Final = ".amazonaws.com"
"""The end of the hosts of AWS. An emulator has no identities."""


async def identity(profile_name: str | None, region_name: str | None, endpoint_url: str) -> str | None:
    """Return the account and the principal, such as `account 123456789012, arn:aws:sts::...`; None if nobody says."""
    if AWS_HOST not in endpoint_url:
        return None
    return await caller_identity(profile_name, region_name)


async def caller_identity(profile_name: str | None, region_name: str | None, **options: str) -> str | None:
    """Ask AWS STS. The call needs no permission."""
    config = AioConfig(connect_timeout=2, read_timeout=3, retries={"mode": "standard", "total_max_attempts": 1})
    session: Any = AioSession(profile=profile_name)
    try:
        async with session.create_client("sts", region_name=region_name, config=config, **options) as client:
            found = await client.get_caller_identity()
    except (BotoCoreError, ClientError):
        return None
    return f"account {found['Account']}, {found['Arn']}"
