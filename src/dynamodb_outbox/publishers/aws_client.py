"""The AWS client of a publisher, and what its errors mean."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import anyio
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.exceptions import ClientError, NoRegionError

from dynamodb_outbox import ConfigurationError, TargetError

logger: Final = logging.getLogger("dynamodb_outbox")
IN_FLIGHT: Final = 10
"""How many requests of a publisher are under way at a time."""
_NOT_SENT: Final = (
    "EndpointConnectionError", "ConnectTimeoutError", "NoCredentialsError", "NoRegionError", "ProxyConnectionError",
    "TokenRetrievalError", "CredentialRetrievalError", "PartialCredentialsError", "SSOTokenLoadError",
    "UnauthorizedSSOTokenError", "ParamValidationError",
)  # fmt: skip


@dataclass(slots=True, eq=False)
class _Opened:
    client: Any
    stack: AsyncExitStack
    users: int = 0


class AwsClient:
    """A client of the caller, which stays open, or a client that is made at its first use, and closed by `close`."""

    def __init__(
        self, service: str, client: Any = None, *, region_name: str | None = None, endpoint_url: str | None = None
    ) -> None:
        if client is not None and (region_name is not None or endpoint_url is not None):
            raise ConfigurationError("client: pass either client=, or region_name= and endpoint_url=")
        if client is not None and _service_of(client) != service:
            raise ConfigurationError(f"client={client!r}: it must be an open aiobotocore client of {service!r}")
        if client is not None:
            _advise_on(client, service)
        self._service = service
        self._given = client
        self._options = {"region_name": region_name, "endpoint_url": endpoint_url}
        self._own: _Opened | None = None
        self._lock = anyio.Lock()
        self._closes = 0

    def forget(self) -> None:
        """Give up a client that was made in an event loop that is closed. The next use opens another."""
        self._own = None
        self._lock = anyio.Lock()

    @asynccontextmanager
    async def use(self) -> AsyncGenerator[Any]:
        """Open the client if necessary. It stays open until the block ends, also if it is closed meanwhile."""
        if self._given is not None:
            yield self._given
            return
        opened = await self._take()
        try:
            yield opened.client
        finally:
            opened.users -= 1
            if not opened.users and opened is not self._own:
                await opened.stack.aclose()

    async def close(self) -> None:
        """Close the client, if this object made it, or let its last user close it. The next use opens another."""
        self._closes += 1
        opened, self._own = self._own, None
        if opened is not None and not opened.users:
            await opened.stack.aclose()

    async def _take(self) -> _Opened:
        async with self._lock:
            opened, closes = self._own, self._closes
            if opened is None:
                opened = await self._open()
                if closes == self._closes:
                    self._own = opened
            opened.users += 1
        return opened

    async def _open(self) -> _Opened:
        # The outbox retries by itself, within the lease; the retries of the SDK would outlast the lease.
        config = AioConfig(
            max_pool_connections=IN_FLIGHT,
            connect_timeout=5,
            read_timeout=15,
            retries={"mode": "standard", "total_max_attempts": 1},
            user_agent="dynamodb-outbox",
        )
        stack = AsyncExitStack()
        made = AioSession().create_client(self._service, config=config, **self._options)
        return _Opened(await stack.enter_async_context(made), stack)


def _advise_on(client: Any, service: str) -> None:
    """Log once for a publisher that the retries of its client can send an event again after a later one."""
    retries: Mapping[str, Any] = client.meta.config.retries or {}
    if retries.get("total_max_attempts") != 1:
        logger.warning(
            "The client of %r can be tuned for the outbox, which retries by itself: its own retries can go on after "
            "the lease, and send an event again after a later one of its ordering key; pass "
            "AioConfig(retries={'mode': 'standard', 'total_max_attempts': 1}), or let the publisher make its client",
            service,
        )


def _service_of(client: Any) -> str | None:
    """Return the service of a client; None for anything else, such as a client that was not opened."""
    model = getattr(getattr(client, "meta", None), "service_model", None)
    return getattr(model, "service_name", None)


def is_arn_of(service: str, value: object) -> bool:
    """Tell whether a value is an ARN of a service, in any partition, such as `aws-cn`."""
    return isinstance(value, str) and value.startswith("arn:") and value.split(":")[2:3] == [service]


def check_service(service: str) -> None:
    """Raise `ConfigurationError` if the SDK is older than a service."""
    if service not in AioSession().get_available_services():
        raise ConfigurationError(f"the installed aiobotocore has no client of {service!r}; install a newer version")


def target_error(error: Exception, *, target: str, in_verify: bool = False, is_unsent: bool = False) -> TargetError:
    """Make a `TargetError` of an error of the SDK. `is_unsent`: it was raised before anything was sent."""
    if isinstance(error, ClientError):
        details: Any = error.response.get("Error", {})
        code = plain_code(details.get("Code"))
        made = TargetError(
            target=target,
            code=code,
            reason=details.get("Message") or str(error),
            maybe_sent=not is_unsent and status_of(error) >= HTTPStatus.INTERNAL_SERVER_ERROR,
            in_verify=in_verify,
        )
    else:
        name = type(error).__name__
        # What is not an error of the SDK comes from a reply that it cannot read.
        maybe_sent = not is_unsent and name not in _NOT_SENT
        advice = " Pass region_name=, or set AWS_DEFAULT_REGION" if isinstance(error, NoRegionError) else ""
        reason = f"{error}{advice}"
        made = TargetError(target=target, code=name, reason=reason, maybe_sent=maybe_sent, in_verify=in_verify)
    made.__cause__ = error
    return made


def status_of(error: ClientError) -> int:
    """Return the status of the reply."""
    status: int | None = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status or 0


def plain_code(code: object) -> str:
    """Return an error code without the names before it, such as `com.amazonaws.sqs#` and `AWS.SimpleQueueService.`."""
    return str(code or "Unknown").rpartition("#")[2].rpartition(".")[2]
