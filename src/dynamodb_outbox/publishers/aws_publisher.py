"""What the publishers of AWS services have in common: a client, a batcher, and the errors of requests and entries."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, Self

from botocore.exceptions import ClientError

from dynamodb_outbox import ConfigurationError, Reject, TargetError, UsageError
from dynamodb_outbox.publishers.aws_client import AwsClient, plain_code, status_of, target_error
from dynamodb_outbox.publishers.batcher import Batcher, Submitted
from dynamodb_outbox.publishers.publisher import Publisher

Entry = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a target did not accept an entry. `is_fault_of_entry` is false if the target failed itself.

    `maybe_sent` is true if the target has not told whether it accepted the entry.
    """

    code: str
    reason: str
    is_fault_of_entry: bool = True
    maybe_sent: bool = False


_NO_RESULT: Final = Failure("Unknown", "the reply has no result for the event", maybe_sent=True)
SINGLES: Final = 10
"""How many entries of refused batches are sent alone at the same time; a usual pool has as many connections."""
_PROOFS: Final = frozenset({"EventId", "SuccessCode", "SequenceNumber"})
"""What EventBridge and Kinesis tell of an entry that they have accepted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of a request, and the errors that no retry can help.

    An entry is rejected for a failure whose code is one of `permanent_entries`. If a whole request is refused with one
    of `spoiled_requests`, or because it is too large, each entry is sent alone; an entry that was alone is rejected for
    one of `permanent_requests`. All other errors reject nothing, such as a missing permission, or a proxy that answers
    that an entry of a size within `entry_bytes` is too large.
    """

    entries: int
    request_bytes: int
    entry_bytes: int
    permanent_entries: frozenset[str] = frozenset()
    permanent_requests: frozenset[str] = frozenset()
    spoiled_requests: frozenset[str] = frozenset()


class AwsPublisher(Publisher, ABC):
    """The base of the publishers of AWS services. A service implements `_call`."""

    def __init__(self, target: str, client: AwsClient, limits: Limits, *, linger: float) -> None:
        if not isinstance(linger, (int, float)) or not 0 <= linger <= 1:
            raise ConfigurationError(f"linger={linger!r}: it must be a number of seconds from 0 to 1")
        self._target = target
        self._client = client
        self._limits = limits
        self._linger = linger
        self._batcher = self._new_batcher()
        self._singles = asyncio.Semaphore(SINGLES)
        self._loop: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._target})"

    async def close(self) -> None:
        """Send what waits, wait for the requests under way, and close the client, if the publisher made it."""
        self._enter_loop()
        try:
            await self._batcher.flush()
        finally:
            await self._client.close()

    async def on_bus_stop(self) -> None:
        """See `close`; the bus calls this when it has stopped. A later event opens a client again."""
        await self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @abstractmethod
    async def _call(self, client: Any, entries: list[Entry]) -> Sequence[Failure | None]:
        """Send one request; return the failure of each entry, None if it was accepted."""

    async def _submit(self, entry: Entry, size: int) -> None:
        if size > self._limits.entry_bytes:
            raise Reject(f"the event has {size:,} bytes, and {self._target} takes {self._limits.entry_bytes:,} at most")
        self._enter_loop()
        await self._batcher.submit(entry, size)

    def _new_batcher(self) -> Batcher[Entry]:
        limits = self._limits
        return Batcher(self._send, max_entries=limits.entries, max_bytes=limits.request_bytes, linger=self._linger)

    def _enter_loop(self) -> None:
        """Bind to the running loop. Raises `UsageError` if another loop has the publisher and is not closed."""
        running = asyncio.get_running_loop()
        if self._loop is running:
            return
        if self._loop is not None:
            if not self._loop.is_closed():
                raise UsageError(f"{self!r} belongs to another event loop; make a publisher for each loop")
            self._batcher = self._new_batcher()
            self._singles = asyncio.Semaphore(SINGLES)
            self._client.forget()
        self._loop = running

    async def _read(self, operation: str, **parameters: Any) -> Mapping[str, Any]:
        """Make a request for `verify`. Raises `TargetError`."""
        self._enter_loop()
        try:
            async with self._client.use() as client:
                reply: Mapping[str, Any] = await getattr(client, operation)(**parameters)
        except Exception as error:
            raise target_error(error, target=self._target, in_verify=True) from error
        return reply

    async def _send(self, batch: list[Submitted[Entry]]) -> None:
        is_open = False
        try:
            async with self._client.use() as client:
                is_open = True
                await self._send_with(client, batch)
        except Exception as error:
            for submitted in batch:
                submitted.settle(target_error(error, target=self._target, is_unsent=not is_open))

    async def _send_with(self, client: Any, batch: list[Submitted[Entry]]) -> None:
        """Send the entries that are still wanted: opening the client, or earlier entries, may have taken long."""
        wanted = [submitted for submitted in batch if submitted.is_wanted]
        if not wanted:
            return
        try:
            failures = await self._call(client, [submitted.entry for submitted in wanted])
        except Exception as error:
            await self._after_refusal(client, wanted, error)
            return
        for submitted, failure in zip(wanted, failures, strict=True):
            submitted.settle(None if failure is None else self._entry_error(failure))

    async def _after_refusal(self, client: Any, batch: list[Submitted[Entry]], error: Exception) -> None:
        raised = target_error(error, target=self._target)
        if len(batch) > 1 and self._is_spoiled(error, raised.code):
            await asyncio.gather(*(self._send_alone(client, submitted) for submitted in batch))
        elif isinstance(error, ClientError) and len(batch) == 1 and self._is_hopeless(batch[0].entry, raised.code):
            batch[0].settle(Reject(f"{self._target} refused the event: {raised.code}: {raised.reason}"))
        else:
            for submitted in batch:
                # Each caller raises its own exception, because raising changes the traceback.
                submitted.settle(target_error(error, target=self._target))

    async def _send_alone(self, client: Any, submitted: Submitted[Entry]) -> None:
        async with self._singles:
            try:
                await self._send_with(client, [submitted])
            except Exception as error:
                submitted.settle(target_error(error, target=self._target))

    def _is_hopeless(self, entry: Entry, code: str) -> bool:
        """Tell whether the target can never take an entry that it refused alone, with an error of the request."""
        return code in self._limits.permanent_requests

    def _is_spoiled(self, error: Exception, code: str) -> bool:
        """Tell whether one entry may be the reason why the request was refused."""
        is_too_large = isinstance(error, ClientError) and status_of(error) == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        return is_too_large or (isinstance(error, ClientError) and code in self._limits.spoiled_requests)

    def _entry_error(self, failure: Failure) -> Exception:
        if failure.is_fault_of_entry and failure.code in self._limits.permanent_entries:
            return Reject(f"{self._target} refused the event: {failure.code}: {failure.reason}")
        return TargetError(target=self._target, code=failure.code, reason=failure.reason, maybe_sent=failure.maybe_sent)


def with_positions(entries: Sequence[Entry]) -> list[Entry]:
    """Add an id to each entry. AWS takes 80 letters and digits, so the id is the position, not the id of the event."""
    return [{"Id": str(position), **entry} for position, entry in enumerate(entries)]


def failures_by_id(count: int, reply: Mapping[str, Any]) -> list[Failure | None]:
    """Read the result of each entry of SQS and SNS. An entry that the reply does not mention has failed.

    An entry that has succeeded and failed has failed: it is better sent twice than lost.
    """
    sent = {success.get("Id") for success in reply.get("Successful", ())}
    failed: dict[Any, Mapping[str, Any]] = {failure.get("Id"): failure for failure in reply.get("Failed", ())}
    results: list[Failure | None] = []
    for position in map(str, range(count)):
        if position in failed:
            results.append(_failure(failed[position], maybe_sent=position in sent))
        else:
            results.append(None if position in sent else _NO_RESULT)
    return results


def failures_by_position(count: int, results: Sequence[Mapping[str, Any]]) -> list[Failure | None]:
    """Read the results of EventBridge and Kinesis, which have the order of the entries.

    If the number of results differs from the number of entries, every entry has failed: no result has a known entry.
    """
    if len(results) != count:
        return [_NO_RESULT] * count
    return [_failure_of_result(result) for result in results]


def _failure_of_result(result: Mapping[str, Any]) -> Failure | None:
    if result.get("ErrorCode"):
        return Failure(str(result["ErrorCode"]), str(result.get("ErrorMessage", "")))
    return None if _PROOFS & result.keys() else _NO_RESULT


def _failure(failure: Mapping[str, Any], *, maybe_sent: bool) -> Failure:
    reason = failure.get("Message") or "the reply gives no reason"
    return Failure(
        plain_code(failure.get("Code")),
        reason,
        is_fault_of_entry=failure.get("SenderFault", True),
        maybe_sent=maybe_sent,
    )
