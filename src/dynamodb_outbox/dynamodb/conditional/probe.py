"""Which writes go in batches: decided by the configuration, a probe, and later refusals of DynamoDB."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal
from uuid import uuid4

import anyio
from botocore.exceptions import ClientError

from dynamodb_outbox.dynamodb.conditional.rendering import parameters_of, statement
from dynamodb_outbox.dynamodb.conditional.transitions import BATCHED, MOVE, Transition, Write, placed
from dynamodb_outbox.dynamodb.schema.shards import Shards
from dynamodb_outbox.dynamodb.transport.caller import Caller
from dynamodb_outbox.dynamodb.transport.classify import NOT_ALLOWED, ErrorKind, kind_of_code
from dynamodb_outbox.dynamodb.transport.client import RepeatWithheldError, sent_once
from dynamodb_outbox.dynamodb.transport.responses import UnreadableResponseError, responses_to
from dynamodb_outbox.errors import (
    CredentialsError,
    InvalidRequestError,
    StorageError,
    TableNotFoundError,
    ThrottledError,
    UnavailableError,
)
from dynamodb_outbox.observers import logger

WriteMode = Literal["auto", "batch", "single"]

MAX_STATEMENTS: Final = 25
"""DynamoDB's limit for a BatchExecuteStatement."""
_REASON_CHARS: Final = 200


class Batching:
    """Knows which transitions can go in batches of PartiQL statements; all others are `UpdateItem` calls.

    A batch of 25 costs a seventh of the CPU of 25 single writes. In the mode "auto", one request tries every statement
    on an item that cannot exist. So a missing permission, or a backend without PartiQL, is found before any event is
    affected.
    """

    def __init__(self, caller: Caller, mode: WriteMode, *, shards: Shards) -> None:
        self._caller = caller
        self._shards = shards
        self._configured: WriteMode = mode
        self._mode: WriteMode = mode
        self._refused: set[Transition] = set()
        self._probed: set[Transition] = set()
        self._said: set[str] = set()
        self._reason_for_single = ""
        self._probing = anyio.Lock()

    def forget(self) -> None:
        """Probe again before the next write: permissions may have changed since the last start of a worker."""
        self._mode, self._reason_for_single = self._configured, ""
        self._refused.clear()
        self._probed.clear()

    @property
    def is_known(self) -> bool:
        """Whether the mode is known, so that no probe is needed."""
        return self._mode != "auto"

    @property
    def takes_any(self) -> bool:
        """Whether any write goes in batches."""
        return self._mode == "batch"

    @property
    def lacks_updates_only(self) -> bool:
        """Whether the role lacks the permission for UPDATE statements, so that it may have that for others."""
        return _is_denied(self._reason_for_single)

    def singles(self, writes: Sequence[Write]) -> list[int]:
        """List the indexes of the writes that must be `UpdateItem` calls."""
        if self._mode == "single":
            # Said here, because a process that only emits makes no such writes.
            self._say_single()
            return list(range(len(writes)))
        refused = self._refused
        return [
            index
            for index, write in enumerate(writes)
            if not write.transition.batched or (refused and write.transition in refused)
        ]

    def takes(self, transition: Transition) -> bool:
        """Tell whether a transition can go in batches, as far as is known."""
        return transition not in self._refused

    def refuse(self, transitions: Iterable[Transition], reason: str) -> None:
        """Note that DynamoDB refuses the statements of these transitions, and log it once."""
        new = [transition for transition in transitions if transition not in self._refused]
        self._refused.update(new)
        names = ", ".join(repr(name) for name in dict.fromkeys(transition.name for transition in new))
        if names and names not in self._said:
            self._said.add(names)
            logger.warning(
                "DynamoDB refused the PartiQL statement of these writes: %s. The outbox sends them as single "
                "UpdateItem calls, which cost more CPU and more requests; all other writes stay in batches. Please "
                'report this to the project. conditional_writes="single" avoids all statements. The reason: %s',
                names,
                _shortened(reason),
            )

    async def probe(self, within: float) -> None:
        """Find out which statements DynamoDB accepts. Raises `StorageError` if the probe itself fails."""
        async with self._probing:
            if self._mode != "auto":
                return
            shapes = self._shapes(BATCHED)
            try:
                reasons = await self._reasons(shapes, within)
            except InvalidRequestError:
                # DynamoDB refused the whole request and does not say which statement is invalid: try each alone.
                reasons = await self._reasons_one_by_one(shapes, within)
            except _NoBatchesError as error:
                self._mode, self._reason_for_single = "single", str(error)
                return
            if len(reasons) == len(shapes):
                self._mode, self._reason_for_single = "single", next(iter(reasons.values()))
                return
            self._mode = "batch"
            if reasons:
                self.refuse(reasons, "; ".join(dict.fromkeys(reasons.values())))

    async def probe_also(self, transitions: Sequence[Transition], within: float) -> None:
        """Find out which statements of rarer transitions DynamoDB accepts, when they are needed for the first time.

        They need a second request, as the first probe has as many statements as a request takes. Raises
        `StorageError` if the probe itself fails.
        """
        if self._configured != "auto" or self._probed.issuperset(transitions):
            return
        await self.probe(within)
        async with self._probing:
            if self._mode == "single" or self._probed.issuperset(transitions):
                return
            shapes = self._shapes(transitions)
            try:
                reasons = await self._reasons(shapes, within)
            except (InvalidRequestError, _NoBatchesError):
                reasons = await self._reasons_one_by_one(shapes, within)
            self._probed.update(transitions)
            unallowed = [each for each in reasons if each.deletes and _is_denied(reasons[each])]
            for transition in unallowed:
                self._say_no_deletes(reasons.pop(transition))
            self._refused.update(unallowed)
            if reasons:
                self.refuse(reasons, "; ".join(dict.fromkeys(reasons.values())))

    def _shapes(self, transitions: Iterable[Transition]) -> list[Write]:
        """Build a write of each transition, for an item that cannot exist."""
        shapes: list[Write] = []
        for transition in transitions:
            if transition is MOVE and self._shards.count == 1:
                continue
            values = {name: _PROBE_VALUES.get(name, {"S": "probe"}) for name in parameters_of(transition)}
            write = Write(transition, f"dynamodb-outbox-probe-{uuid4()}", values)
            shapes.append(placed(write, self._shards) if self._shards.count > 1 else write)
        return shapes

    async def _reasons_one_by_one(self, shapes: Sequence[Write], within: float) -> dict[Transition, str]:
        reasons: dict[Transition, str] = {}
        for shape in shapes:
            reasons |= await self._reasons_alone(shape, within)
        return reasons

    async def _reasons_alone(self, shape: Write, within: float) -> dict[Transition, str]:
        try:
            return await self._reasons([shape], within)
        except (InvalidRequestError, _NoBatchesError) as error:
            return {shape.transition: str(error)}

    async def _reasons(self, shapes: Sequence[Write], within: float) -> dict[Transition, str]:
        """Send statements; map each unsupported transition to the reason. A false condition means supported."""
        table_name = self._caller.table_name
        statements = [statement(shape, table_name=table_name, returning=shape.transition.returning) for shape in shapes]
        read = responses_to(len(statements))
        try:
            with sent_once(self._caller.client, "BatchExecuteStatement"):
                responses = await self._caller.call(
                    "batch_execute_statement", within=within, once=True, read=read, Statements=statements
                )
        except (ThrottledError, TableNotFoundError, InvalidRequestError):
            raise
        except UnavailableError as error:
            if isinstance(error.__cause__, (ClientError, RepeatWithheldError, UnreadableResponseError)):
                raise _NoBatchesError(
                    f"the backend cannot run a conditional PartiQL UPDATE ({error.__cause__})"
                ) from error
            raise
        except StorageError as error:
            if isinstance(error, CredentialsError) and not error.reason.startswith(NOT_ALLOWED):
                # Expired or missing credentials say nothing about batches, and single writes would fail too.
                raise
            raise _NoBatchesError(str(error)) from error
        pairs = zip(shapes, responses, strict=True)
        return {
            shape.transition: reason
            for shape, response in pairs
            if (reason := self._reason_against(response, deletes=shape.transition.deletes))
        }

    def _reason_against(self, response: Mapping[str, Any], *, deletes: bool) -> str | None:
        error = response.get("Error")
        if error is None and deletes:
            # DynamoDB documents that a DELETE of a missing item succeeds, whatever its condition.
            return None
        if error is None:
            return "a conditional PartiQL UPDATE of a missing item was reported as applied"
        code, message = str(error.get("Code", "")), str(error.get("Message", ""))
        if code in {"ResourceNotFound", "ResourceNotFoundException"}:
            raise TableNotFoundError(table_name=self._caller.table_name)
        kind = kind_of_code(code)
        if kind is ErrorKind.THROTTLED:
            raise ThrottledError(operation="a probe of PartiQL statements", attempts=1, reason=f"{code}: {message}")
        return None if kind is ErrorKind.REFUSED else f"{code}: {message}"

    def _say_single(self) -> None:
        reason = self._reason_for_single
        if not reason or "all" in self._said:
            return
        self._said.add("all")
        if _is_denied(reason):
            logger.warning(
                "Claims and settles go one by one, not in batches of %d. That costs about seven times the CPU and more "
                "requests. Allow dynamodb:PartiQLUpdate, as the library's IAM policy template does, and restart; or "
                'pass conditional_writes="single" if this is intended. The reason: %s',
                MAX_STATEMENTS,
                _shortened(reason),
            )
        else:
            # DynamoDB itself has batches, so this is an emulator, where the cost does not matter.
            logger.info("Claims and settles go one by one: the backend has no batches (%s)", _shortened(reason))

    def _say_no_deletes(self, reason: str) -> None:
        if "deletes" in self._said:
            return
        self._said.add("deletes")
        logger.warning(
            "The last event of each ordering key is taken from its queue by a DeleteItem call, not in a batch of %d. "
            "That costs more CPU and more requests. Allow dynamodb:PartiQLDelete, as the library's IAM policy template "
            "does, and restart. The reason: %s",
            MAX_STATEMENTS,
            _shortened(reason),
        )


class _NoBatchesError(Exception):
    """The backend accepts no batch at all."""


_PROBE_VALUES: Final[Mapping[str, dict[str, Any]]] = {
    **{name: {"N": "0"} for name in ("now", "deadline", "seen", "due", "retries", "zero", "one", "expiry", "since")},
    **{name: {"L": [{"S": "probe"}]} for name in ("only", "page")},
    "handled": {"SS": ["probe"]},
}


def _is_denied(reason: str) -> bool:
    return any(code in reason for code in NOT_ALLOWED)


def _shortened(reason: str) -> str:
    return " ".join(reason.split())[:_REASON_CHARS]
