"""Which writes go in batches: what is configured, what a probe finds out, and what DynamoDB refuses later."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal
from uuid import uuid4

import anyio
from botocore.exceptions import ClientError

from dynamodb_outbox.dynamodb.conditional.transitions import (
    BATCHED,
    CLAIM,
    MOVE,
    Transition,
    Write,
    parameters_of,
    placed,
    statement,
)
from dynamodb_outbox.dynamodb.schema.shards import Shards
from dynamodb_outbox.dynamodb.transport.caller import Caller
from dynamodb_outbox.dynamodb.transport.classify import ErrorKind, InvalidRequestError, kind_of_code
from dynamodb_outbox.dynamodb.transport.client import RepeatWithheldError, sent_once
from dynamodb_outbox.dynamodb.transport.responses import UnreadableResponseError, responses_to
from dynamodb_outbox.errors import CredentialsError, StorageError, TableNotFoundError, ThrottledError, UnavailableError
from dynamodb_outbox.observers import logger

WriteMode = Literal["auto", "batch", "single"]

MAX_STATEMENTS: Final = 25
"""BatchExecuteStatement's limit."""
_REASON_CHARS: Final = 200
_NOT_ALLOWED: Final = ("AccessDenied", "NotAuthorized")
"""The codes of errors whose credentials are good, and whose role may not make the call."""


class Batching:
    """Knows which transitions DynamoDB takes as statements of a batch; all others go by `UpdateItem`.

    A batch of 25 costs a seventh of the CPU of 25 single writes. In the mode "auto" one request tries every statement
    that will be sent, each on an item that cannot exist. So a right or a function that is missing costs no event
    anything.
    """

    def __init__(self, caller: Caller, mode: WriteMode, *, shards: Shards) -> None:
        self._caller = caller
        self._shards = shards
        self._configured: WriteMode = mode
        self._mode: WriteMode = mode
        self._refused: set[Transition] = set()
        self._said: set[str] = set()
        self._probing = anyio.Lock()

    def forget(self) -> None:
        """Probe again before the next write: a worker that starts may find another engine or other rights."""
        self._mode = self._configured
        self._refused.clear()

    @property
    def is_known(self) -> bool:
        """Whether no probe is needed."""
        return self._mode != "auto"

    def singles(self, writes: Sequence[Write]) -> list[int]:
        """List the writes, by index, that go by `UpdateItem`."""
        if self._mode == "single":
            return list(range(len(writes)))
        refused = self._refused
        return [
            index
            for index, write in enumerate(writes)
            if not write.transition.batched or (refused and write.transition in refused)
        ]

    def takes(self, transition: Transition) -> bool:
        """Tell whether a transition goes in batches, as far as is known."""
        return transition not in self._refused

    def refuse(self, transitions: Iterable[Transition], reason: str) -> None:
        """Note that DynamoDB does not take the statements of these transitions, and say so once."""
        new = [transition for transition in transitions if transition not in self._refused]
        self._refused.update(new)
        names = ", ".join(repr(name) for name in dict.fromkeys(transition.name for transition in new))
        if names and names not in self._said:
            self._said.add(names)
            logger.warning(
                "DynamoDB refused the PartiQL statement of these writes: %s. They become single UpdateItem calls, one "
                "for each event, which costs more CPU and more requests; everything else stays in batches. Please "
                'report this to the project. conditional_writes="single" avoids statements altogether. The reason: %s',
                names,
                _shortened(reason),
            )

    async def probe(self, within: float) -> None:
        """Find out which statements the engine takes. Raises `StorageError` when there was no answer to judge by."""
        async with self._probing:
            if self._mode != "auto":
                return
            shapes = self._shapes()
            try:
                reasons = await self._reasons(shapes, within)
            except InvalidRequestError:
                # The whole request was refused, and its answer does not say because of which statement.
                reasons = {}
                for shape in shapes:
                    reasons |= await self._reasons_alone(shape, within)
            except _NoBatchesError as error:
                self._mode = "single"
                self._say_single(str(error))
                return
            if len(reasons) == len(shapes):
                self._mode = "single"
                self._say_single(next(iter(reasons.values())))
                return
            self._mode = "batch"
            if reasons:
                self.refuse(reasons, "; ".join(dict.fromkeys(reasons.values())))

    def _shapes(self) -> list[Write]:
        """Make a write of each transition that is sent in batches, about items that cannot exist."""
        shapes: list[Write] = []
        for transition in BATCHED:
            if transition is MOVE and self._shards.count == 1:
                continue
            values = {name: _PROBE_VALUES.get(name, {"S": "probe"}) for name in parameters_of(transition)}
            write = Write(transition, f"dynamodb-outbox-probe-{uuid4()}", values)
            shapes.append(placed(write, self._shards) if self._shards.count > 1 else write)
        return shapes

    async def _reasons_alone(self, shape: Write, within: float) -> dict[Transition, str]:
        try:
            return await self._reasons([shape], within)
        except InvalidRequestError as error:
            return {shape.transition: str(error)}

    async def _reasons(self, shapes: Sequence[Write], within: float) -> dict[Transition, str]:
        """Send statements; those that are not refused as a false condition is have a reason against them."""
        table_name = self._caller.table_name
        statements = [
            statement(shape, table_name=table_name, returning=shape.transition.name == CLAIM.name) for shape in shapes
        ]
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
                    f"the engine cannot run a conditional PartiQL UPDATE ({error.__cause__})"
                ) from error
            raise
        except StorageError as error:
            if isinstance(error, CredentialsError) and not error.reason.startswith(_NOT_ALLOWED):
                # Expired or missing: that says nothing of batches, and single writes would fail alike.
                raise
            raise _NoBatchesError(str(error)) from error
        pairs = zip(shapes, responses, strict=True)
        return {shape.transition: reason for shape, response in pairs if (reason := self._reason_against(response))}

    def _reason_against(self, response: Mapping[str, Any]) -> str | None:
        error = response.get("Error")
        if error is None:
            return "a conditional PartiQL UPDATE of an item that does not exist was answered with success"
        code, message = str(error.get("Code", "")), str(error.get("Message", ""))
        if code in {"ResourceNotFound", "ResourceNotFoundException"}:
            raise TableNotFoundError(table_name=self._caller.table_name)
        kind = kind_of_code(code)
        if kind is ErrorKind.THROTTLED:
            raise ThrottledError(operation="a probe of PartiQL statements", attempts=1, reason=f"{code}: {message}")
        return None if kind is ErrorKind.REFUSED else f"{code}: {message}"

    def _say_single(self, reason: str) -> None:
        if "all" in self._said:
            return
        self._said.add("all")
        if any(code in reason for code in _NOT_ALLOWED):
            logger.warning(
                "Claims and settles go one by one, not in batches of %d. That costs about seven times the CPU and more "
                "requests. Allow dynamodb:PartiQLUpdate, as the library's IAM policy template does, and restart; or "
                'pass conditional_writes="single" if this is meant. The reason: %s',
                MAX_STATEMENTS,
                _shortened(reason),
            )
        else:
            # DynamoDB has batches: this is an emulator, where the costs do not matter.
            logger.info("Claims and settles go one by one: no batches here. The reason: %s", _shortened(reason))


class _NoBatchesError(Exception):
    """The engine takes no batch at all."""


_PROBE_VALUES: Final[Mapping[str, dict[str, Any]]] = {
    **{name: {"N": "0"} for name in ("now", "deadline", "seen", "due", "retries", "zero", "expiry", "since")},
    "handled": {"SS": ["probe"]},
}


def _shortened(reason: str) -> str:
    return " ".join(reason.split())[:_REASON_CHARS]
