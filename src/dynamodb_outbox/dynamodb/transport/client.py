"""The client: the operations that the outbox calls, the settings of `connect`, and advice for a supplied client."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, cast

import aiobotocore
from aiobotocore.client import AioBaseClient
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.client import BaseClient
from botocore.exceptions import BotoCoreError, NoRegionError

from dynamodb_outbox.dynamodb.transport.dry_run import find_misfit
from dynamodb_outbox.dynamodb.transport.fast_json import install_checksums, install_fast_json, remove_fast_json
from dynamodb_outbox.errors import ConfigurationError
from dynamodb_outbox.observers import logger
from dynamodb_outbox.wording import shown

Call = Callable[..., Awaitable[Any]]


class DynamoDBClient(Protocol):
    """The operations that the outbox calls. Clients of aiobotocore and aioboto3 have them."""

    # ruff: noqa: D102 - the operations are documented by AWS

    @property
    def meta(self) -> Any: ...
    @property
    def put_item(self) -> Call: ...
    @property
    def batch_write_item(self) -> Call: ...
    @property
    def update_item(self) -> Call: ...
    @property
    def delete_item(self) -> Call: ...
    @property
    def batch_execute_statement(self) -> Call: ...
    @property
    def batch_get_item(self) -> Call: ...
    @property
    def transact_write_items(self) -> Call: ...
    @property
    def query(self) -> Call: ...
    @property
    def create_table(self) -> Call: ...
    @property
    def describe_table(self) -> Call: ...
    @property
    def describe_time_to_live(self) -> Call: ...
    @property
    def update_time_to_live(self) -> Call: ...


def tuned_config(connections: int) -> AioConfig:
    """Configure a client for the outbox: one attempt, a pool for the concurrency, no parameter validation.

    The outbox retries by itself, within the lease; the SDK's retries (10 calls, 25 s under a lasting throttle)
    would outlast the lease. The codec has checked the parameters, so checking them again only costs CPU.
    """
    return AioConfig(
        max_pool_connections=connections,
        connect_timeout=5,
        read_timeout=15,
        retries={"mode": "standard", "total_max_attempts": 1},
        parameter_validation=False,
        # Without a given user agent, botocore builds one for each call: a quarter of the call's CPU.
        user_agent="dynamodb-outbox",
    )


@asynccontextmanager
async def tuned_client(
    *,
    region_name: str | None,
    endpoint_url: str | None,
    connections: int,
    profile_name: str | None = None,
    fast_json: bool = True,
) -> AsyncGenerator[DynamoDBClient]:
    """Open a client with `tuned_config`, and with fast JSON unless `fast_json` is False."""
    create = AioSession(profile=profile_name).create_client
    async with AsyncExitStack() as stack:
        made = create("dynamodb", region_name=region_name, endpoint_url=endpoint_url, config=tuned_config(connections))
        try:
            client = await stack.enter_async_context(made)
        except (BotoCoreError, ValueError) as error:
            advice = (
                "Pass region_name=, or set AWS_DEFAULT_REGION"
                if isinstance(error, NoRegionError)
                else f"Given were region_name={region_name!r}, endpoint_url={endpoint_url!r} and "
                f"profile_name={profile_name!r}; for None, the SDK reads AWS_DEFAULT_REGION, AWS_ENDPOINT_URL, "
                "AWS_PROFILE and the AWS configuration"
            )
            raise ConfigurationError(f"cannot open a DynamoDB client: {str(error).rstrip('.')}. {advice}") from error
        if fast_json:
            await _install_fast_json_if_it_fits(client)
        else:
            install_checksums(client)
        # The SDK creates the operations at run time, so type checkers do not see them.
        yield cast("DynamoDBClient", client)


async def _install_fast_json_if_it_fits(client: Any) -> None:
    install_fast_json(client)
    misfit = await find_misfit(client)
    if misfit is not None:
        remove_fast_json(client)
        logger.warning(
            "DynamoDBOutbox.connect leaves the JSON of requests and responses to the SDK, which needs more CPU: its "
            "fast JSON does not fit the installed aiobotocore %s (%s). Use the aiobotocore of an earlier release, or "
            "pass fast_json=False to connect without this warning",
            aiobotocore.__version__,
            misfit,
        )


_attempt_once: ContextVar[bool] = ContextVar("dynamodb_outbox_attempt_once", default=False)


class RepeatWithheldError(Exception):
    """The client was about to repeat a request that must be sent once."""


@contextmanager
def sent_once(client: DynamoDBClient, operation: str) -> Generator[None]:
    """Keep the client from repeating a request by itself.

    A supplied client retries as its owner configured it. That is wrong for an unconditional write: the repeat
    could reset an event that a worker claimed after the first attempt.
    """
    # botocore ignores a second registration under the same unique_id, whatever its event: each operation has its own.
    client.meta.events.register(
        f"request-created.dynamodb.{operation}", _withhold_repeat, unique_id=f"dynamodb-outbox-once-{operation}"
    )
    token = _attempt_once.set(True)
    try:
        yield
    finally:
        _attempt_once.reset(token)


def _withhold_repeat(request: Any, **_: Any) -> None:
    # The owner's own calls pass here too. The context variable is set only inside `sent_once`.
    if _attempt_once.get() and request.context.get("retries", {}).get("attempt", 1) > 1:
        raise RepeatWithheldError("the request may have been applied, so the client must not repeat it")


def refuse_unusable_client(client: object) -> None:
    """Raise `ConfigurationError` unless the client is an aiobotocore DynamoDB client."""
    is_blocking = isinstance(client, BaseClient) and not isinstance(client, AioBaseClient)
    if is_blocking or not hasattr(client, "put_item") or not hasattr(client, "meta"):
        raise ConfigurationError(
            f"client={shown(client)}: it must be an open aiobotocore DynamoDB client (boto3's would block), such as "
            "that of `async with aioboto3.Session().client('dynamodb') as client`"
        )


def advise_on_client(client: DynamoDBClient, *, slots: int) -> None:
    """Log which settings a supplied client should have, once at the start of a worker."""
    config = client.meta.config
    retries: Mapping[str, Any] = config.retries or {}
    advice: list[str] = []
    attempts = retries.get("total_max_attempts")
    if retries.get("mode", "legacy") == "legacy" and attempts != 1:
        advice.append("its legacy retries can outlast a lease: retries={'mode': 'standard', 'total_max_attempts': 1}")
    if config.max_pool_connections < slots + 8:
        advice.append(
            f"its pool of {config.max_pool_connections} connections is small for {slots} handlers at once, so settles "
            f"would wait for a connection: max_pool_connections={slots + 8}"
        )
    if advice:
        logger.warning(
            "The DynamoDB client can be tuned for the outbox; pass AioConfig(...) with these settings, or use "
            "DynamoDBOutbox.connect(): %s",
            "; ".join(advice),
        )
