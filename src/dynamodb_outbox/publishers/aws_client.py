"""The AWS client of a publisher, and what its errors mean."""

from __future__ import annotations

from contextlib import AsyncExitStack
from http import HTTPStatus
from typing import Any, Final

import anyio
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.exceptions import ClientError

from dynamodb_outbox import ConfigurationError, TargetError

IN_FLIGHT: Final = 10
"""How many requests of a publisher are under way at a time."""
_NOT_SENT: Final = (
    "EndpointConnectionError", "ConnectTimeoutError", "NoCredentialsError", "NoRegionError", "ProxyConnectionError",
    "TokenRetrievalError", "CredentialRetrievalError", "ParamValidationError",
)  # fmt: skip


class AwsClient:
    """A client of the caller, which stays open, or a client that is made at its first use, and closed by `close`."""

    def __init__(
        self, service: str, client: Any = None, *, region_name: str | None = None, endpoint_url: str | None = None
    ) -> None:
        if client is not None and (region_name is not None or endpoint_url is not None):
            raise ConfigurationError("client: pass either client=, or region_name= and endpoint_url=")
        if client is not None and _service_of(client) != service:
            raise ConfigurationError(f"client={client!r}: it must be an open aiobotocore client of {service!r}")
        self._service = service
        self._given = client
        self._own: Any = None
        self._options = {"region_name": region_name, "endpoint_url": endpoint_url}
        self._stack = AsyncExitStack()
        self._lock = anyio.Lock()

    async def get(self) -> Any:
        """Return the client; open it if necessary."""
        if self._given is not None:
            return self._given
        async with self._lock:
            if self._own is None:
                # The outbox retries by itself, within the lease; the retries of the SDK would outlast the lease.
                config = AioConfig(
                    max_pool_connections=IN_FLIGHT,
                    connect_timeout=5,
                    read_timeout=15,
                    retries={"mode": "standard", "total_max_attempts": 1},
                    user_agent="dynamodb-outbox",
                )
                made = AioSession().create_client(self._service, config=config, **self._options)
                self._own = await self._stack.enter_async_context(made)
        return self._own

    async def close(self) -> None:
        """Close the client, if this object made it. The next `get` opens another."""
        async with self._lock:
            self._own = None
            await self._stack.aclose()

    def forget(self) -> None:
        """Give up a client that was made in an event loop that is closed. The next `get` opens another."""
        self._own = None
        self._stack = AsyncExitStack()
        self._lock = anyio.Lock()


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


def target_error(error: Exception, *, target: str, in_verify: bool = False) -> TargetError:
    """Make a `TargetError` of an error of the SDK."""
    if isinstance(error, ClientError):
        details: Any = error.response.get("Error", {})
        code = plain_code(details.get("Code"))
        made = TargetError(
            target=target,
            code=code,
            reason=details.get("Message") or str(error),
            maybe_sent=status_of(error) >= HTTPStatus.INTERNAL_SERVER_ERROR,
            in_verify=in_verify,
        )
    else:
        name = type(error).__name__
        # What is not an error of the SDK comes from a reply that it cannot read.
        maybe_sent = name not in _NOT_SENT
        made = TargetError(target=target, code=name, reason=str(error), maybe_sent=maybe_sent, in_verify=in_verify)
    made.__cause__ = error
    return made


def status_of(error: ClientError) -> int:
    """Return the status of the reply."""
    status: int = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status


def plain_code(code: object) -> str:
    """Return an error code without the names before it, such as `com.amazonaws.sqs#` and `AWS.SimpleQueueService.`."""
    return str(code or "Unknown").rpartition("#")[2].rpartition(".")[2]
