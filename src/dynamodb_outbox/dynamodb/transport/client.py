"""Calling DynamoDB: the tuned client, one attempt at a time, and our own retry within a deadline."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, cast

import anyio
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError, ClientError

from dynamodb_outbox.dynamodb.transport.classify import (
    ErrorKind,
    cancellation_reasons,
    fatal_error,
    kind_of,
    with_maybe_applied,
)
from dynamodb_outbox.dynamodb.transport.client_state import CLOSED, ClientState
from dynamodb_outbox.dynamodb.transport.fast_json import install_fast_json
from dynamodb_outbox.dynamodb.transport.responses import Read, UnreadableResponseError, was_repeated
from dynamodb_outbox.errors import ClientClosedError, ConfigurationError, StorageError, ThrottledError, UnavailableError
from dynamodb_outbox.observers import Observers, Throttled, logger

Call = Callable[..., Awaitable[Any]]

FIRST_DELAY: Final = 0.05
MAX_DELAY: Final = 2.0


class DynamoDBClient(Protocol):
    """What the adapter calls of an aiobotocore client; aioboto3's is one."""

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


class ConditionRefused(Exception):  # noqa: N818 - internal: an answer, not an error
    """The condition of a write was false. `repeated`: an earlier attempt may have been applied."""

    def __init__(self, *, item: Mapping[str, Any] | None, repeated: bool) -> None:
        self.item = item
        self.repeated = repeated
        super().__init__("the condition is false")


class TransactionRefused(Exception):  # noqa: N818 - internal: an answer, not an error
    """A transaction was cancelled for good. `repeated`: an earlier attempt may have been applied."""

    def __init__(self, *, reasons: Sequence[Mapping[str, Any]], repeated: bool) -> None:
        self.reasons = reasons
        self.repeated = repeated
        super().__init__("the transaction was cancelled")


@dataclass(slots=True)
class Backoff:
    """Delays between attempts: exponential with full jitter, so that clients do not come back in step.

    See https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """

    random: Callable[[], float]
    attempts: int = 0

    def next_delay(self) -> float:
        """Count an attempt that failed; the seconds to wait before the next."""
        self.attempts += 1
        return self.random() * min(MAX_DELAY, FIRST_DELAY * 2.0**self.attempts)


@dataclass(slots=True, kw_only=True)
class Caller:
    """The one place through which the adapter calls DynamoDB."""

    client: DynamoDBClient
    table_name: str
    index_name: str
    random: Callable[[], float]
    observers: Observers
    _state: ClientState = field(init=False)

    def __post_init__(self) -> None:
        self._state = ClientState(self.client)

    async def call(
        self,
        operation: str,
        *,
        within: float,
        once: bool = False,
        patient: bool = True,
        read: Read | None = None,
        **params: Any,
    ) -> Any:
        """Call an operation that may be repeated, until it succeeds or `within` seconds are over.

        Returns the reply, or what `read` makes of it; one that it cannot read is no answer, and the call may have been
        applied. Raises `ConditionRefused` for a false condition; `UnavailableError` or `ThrottledError` at the
        deadline, or at the first failure with `once`, or unless `patient` at the first throttle; another `StorageError`
        at once where repeating is of no use. `maybe_applied` of these tells of earlier attempts, too, also of those
        that the client made by itself.
        """
        deadline = anyio.current_time() + within
        backoff = Backoff(self.random)
        maybe_applied = False
        while True:
            try:
                reply = await self._attempt(operation, params, deadline - anyio.current_time())
                return reply if read is None else _read(reply, read)
            except Exception as error:  # also of the transport, which has exceptions of its own
                kind = kind_of(error)
                maybe_applied = maybe_applied or kind is ErrorKind.AMBIGUOUS or self._may_hide_an_attempt(error, kind)
                if kind is ErrorKind.REFUSED:
                    item = getattr(error, "response", {}).get("Item")
                    raise ConditionRefused(item=item, repeated=maybe_applied) from None
                if kind is ErrorKind.CANCELLED and isinstance(error, ClientError):
                    raise TransactionRefused(reasons=cancellation_reasons(error), repeated=maybe_applied) from error
                if kind is ErrorKind.THROTTLED and self.observers:
                    self.observers.notify(Throttled(operation=operation))
                if kind is ErrorKind.FATAL:
                    fatal = self.fatal(error, operation, index_name=params.get("IndexName"))
                    raise (with_maybe_applied(fatal) if maybe_applied else fatal) from error
                delay = backoff.next_delay()
                gives_up = once or (not patient and kind is ErrorKind.THROTTLED and not maybe_applied)
                if gives_up or anyio.current_time() + delay >= deadline:
                    raise deadline_error(
                        operation, kind, attempts=backoff.attempts, reason=error, maybe_applied=maybe_applied
                    ) from error
            await anyio.sleep(delay)

    async def _attempt(self, operation: str, params: dict[str, Any], seconds: float) -> Any:
        self.refuse_closed(operation)
        # A reply may never come. Half the time that is left keeps room for a second attempt.
        with anyio.fail_after(max(seconds / 2, 0.1)):
            reply = await getattr(self.client, operation)(**params)
        self._state.connected()
        return reply

    def refuse_closed(self, operation: str) -> None:
        """Raise `ClientClosedError` where the client is seen to be closed, or of another loop; sends nothing."""
        if (obstacle := self._state.obstacle()) is not None:
            raise ClientClosedError(operation=operation, reason=obstacle, closed=obstacle == CLOSED)

    def _may_hide_an_attempt(self, error: Exception, kind: ErrorKind) -> bool:
        """Tell whether the client may have sent the request before by itself; its error speaks of the last attempt."""
        if isinstance(error, ClientError):
            return was_repeated(error.response)
        config = getattr(self.client.meta, "config", None)
        retries: Mapping[str, Any] = getattr(config, "retries", None) or {}
        return kind is ErrorKind.UNSENT and retries.get("total_max_attempts") != 1

    def fatal(self, error: BaseException, operation: str, *, index_name: str | None = None) -> StorageError:
        """Name a fatal error in the words of the library."""
        index_name = index_name or self.index_name
        return fatal_error(error, operation=operation, table_name=self.table_name, index_name=index_name)


def _read(reply: Any, read: Read) -> Any:
    try:
        return read(reply)
    except Exception as error:
        raise UnreadableResponseError(error) from error


def deadline_error(
    operation: str, kind: ErrorKind, *, attempts: int, reason: object, maybe_applied: bool
) -> StorageError:
    """Make the error of a call whose time is up."""
    text = f"{type(reason).__name__}: {reason}" if isinstance(reason, Exception) else str(reason)
    if kind is ErrorKind.THROTTLED:
        return ThrottledError(operation=operation, attempts=attempts, reason=text, maybe_applied=maybe_applied)
    return UnavailableError(operation=operation, attempts=attempts, reason=text, maybe_applied=maybe_applied)


def tuned_config(connections: int) -> AioConfig:
    """Configure a client for the outbox: one attempt, a pool for the concurrency, no parameter validation.

    The adapter retries by itself, within the lease; the SDK's own retries (10 calls, 25 s under a lasting
    throttle) would outlive it. What it sends is checked by the codec, so checking again only costs CPU.
    """
    return AioConfig(
        max_pool_connections=connections,
        connect_timeout=5,
        read_timeout=15,
        retries={"mode": "standard", "total_max_attempts": 1},
        parameter_validation=False,
        # botocore builds its user agent anew for every call unless one is given: a quarter of a call's CPU.
        user_agent="dynamodb-outbox",
    )


@asynccontextmanager
async def tuned_client(
    *, region_name: str | None, endpoint_url: str | None, connections: int
) -> AsyncGenerator[DynamoDBClient]:
    """Make a client for the outbox: tuned by its configuration, and with JSON of its own (see `wire`)."""
    create = get_session().create_client
    async with AsyncExitStack() as stack:
        made = create("dynamodb", region_name=region_name, endpoint_url=endpoint_url, config=tuned_config(connections))
        try:
            client = await stack.enter_async_context(made)
        except (BotoCoreError, ValueError) as error:
            raise ConfigurationError(
                f"no client can be made of region_name={region_name!r} and endpoint_url={endpoint_url!r}: {error} "
                "What is None comes from AWS_DEFAULT_REGION, AWS_ENDPOINT_URL and the AWS configuration"
            ) from error
        install_fast_json(client)
        # The SDK makes the operations at run time, unseen by type checkers.
        yield cast("DynamoDBClient", client)


_attempt_once: ContextVar[bool] = ContextVar("dynamodb_outbox_attempt_once", default=False)


class RepeatWithheldError(Exception):
    """The client was about to repeat a request that must be sent once."""


@contextmanager
def sent_once(client: DynamoDBClient, operation: str) -> Generator[None]:
    """Keep the client from repeating a request by itself.

    A supplied client retries as its owner configured it. That is wrong for an unconditional write: the
    repeat could reset an event that a worker claimed in between.
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
    # Other calls of the client's owner pass here as well: only those in our context are ours.
    if _attempt_once.get() and request.context.get("retries", {}).get("attempt", 1) > 1:
        raise RepeatWithheldError("the request may have been applied, and must not be sent again as it is")


def advise_on_client(client: DynamoDBClient, *, slots: int) -> None:
    """Log what a supplied client had better be configured with, once at the start of a worker."""
    config = client.meta.config
    retries: Mapping[str, Any] = config.retries or {}
    advice: list[str] = []
    attempts = retries.get("total_max_attempts")
    if retries.get("mode", "legacy") == "legacy" and attempts != 1:
        advice.append("its legacy retries can outlast a lease: retries={'mode': 'standard', 'total_max_attempts': 1}")
    if config.max_pool_connections < slots + 8:
        advice.append(
            f"its pool of {config.max_pool_connections} connections is small for {slots} handlers at once, and settles "
            f"would queue behind them: max_pool_connections={slots + 8}"
        )
    if advice:
        logger.warning(
            "The DynamoDB client can be tuned for the outbox; pass AioConfig(...) with these, or use "
            "DynamoDBOutbox.connect(): %s",
            "; ".join(advice),
        )
