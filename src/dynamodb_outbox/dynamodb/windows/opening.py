"""Opening a window: the insert of its item, which also shows whether DynamoDB takes `INSERT` statements."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, Final

import anyio

from dynamodb_outbox.dynamodb.conditional.insert import insert_statement
from dynamodb_outbox.dynamodb.conditional.writes import ConditionalWriter
from dynamodb_outbox.dynamodb.items.codec import Item
from dynamodb_outbox.dynamodb.schema.shards import Shards
from dynamodb_outbox.dynamodb.transport.caller import Caller, ConditionRefused
from dynamodb_outbox.dynamodb.transport.classify import ErrorKind, kind_of_code
from dynamodb_outbox.dynamodb.transport.responses import responses_to
from dynamodb_outbox.dynamodb.windows.item import new_window, window_id
from dynamodb_outbox.dynamodb.windows.window import Window
from dynamodb_outbox.errors import CredentialsError, InvalidRequestError
from dynamodb_outbox.observers import logger
from dynamodb_outbox.port import OutboxOptions
from dynamodb_outbox.shared_lease import SharedLease

_REASON_CHARS: Final = 200


@dataclass(frozen=True, slots=True)
class Opening:
    """A window item that was or will be sent. A repeat sends the same item, so that it opens the same window."""

    item: Item
    seed: bytes
    start: int
    end: int
    expires_at: float
    ends: float

    @property
    def token(self) -> str:
        """The token of the window."""
        token: str = self.item["claimToken"]["S"]
        return token

    def opened(self) -> Window:
        """Make the window, once its item is stored."""
        lease = SharedLease(expires_at=self.expires_at, ends=self.ends)
        item_id: str = self.item["id"]["S"]
        return Window(item_id, token=self.token, seed=self.seed, start=self.start, end=self.end, lease=lease)


class Opener:
    """Stores window items."""

    def __init__(self, caller: Caller, writer: ConditionalWriter, options: OutboxOptions, *, shards: Shards) -> None:
        self._caller = caller
        self._writer = writer
        self._options = options
        self._shards = shards
        self._refused: str | None = None
        self._may_have_changed = False

    @property
    def inserts(self) -> bool:
        """Whether DynamoDB takes `INSERT` statements, as far as is known. True until it has refused one."""
        return self._writer.may_take_inserts and self._refused is None

    async def takes_inserts(self, *, within: float) -> bool:
        """Tell whether DynamoDB takes `INSERT`s; probe it for statements first, if that is not known.

        Raises `StorageError`.
        """
        await self._writer.takes_batches(within)
        return self.inserts

    def forget(self) -> None:
        """Try `INSERT` again with the next window: permissions may have changed since the last start of a worker."""
        self._may_have_changed = True

    def prepare(self, *, seed: bytes, start: int, end: int) -> Opening:
        """Make the item of a new window, whose lease begins now."""
        now, length = self._options.clock(), self._options.processing_timeout
        item = new_window(
            window_id(token_hex(8), region=region_of(self._caller)),
            token=token_hex(16),
            seed=seed,
            start=start,
            end=end,
            now=now,
            deadline=now + length,
            shards=self._shards,
        )
        return Opening(item, seed, start, end, now + length, anyio.current_time() + length)

    async def store(self, opening: Opening, *, within: float) -> bool:
        """Store the item of a window; false if another item has its id. Raises `StorageError`."""
        await self._writer.takes_batches(within)
        if self._may_have_changed:
            self._refused, self._may_have_changed = None, False
        if self.inserts:
            try:
                if await self._insert(opening, within=within):
                    return True
            except (InvalidRequestError, CredentialsError) as error:
                self._refuse(str(error))
        try:
            await self._caller.call(
                "put_item",
                within=within,
                TableName=self._caller.table_name,
                Item=opening.item,
                ConditionExpression="attribute_not_exists(id)",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ConditionRefused as refused:
            return (refused.item or {}).get("claimToken") == opening.item["claimToken"]
        return True

    async def _insert(self, opening: Opening, *, within: float) -> bool:
        """Insert the item; false if its `INSERT` was refused, so that a PutItem has to find out more."""
        responses: list[Mapping[str, Any]] = await self._caller.call(
            "batch_execute_statement",
            within=within,
            read=responses_to(1),
            Statements=[insert_statement(opening.item, table_name=self._caller.table_name)],
        )
        error = responses[0].get("Error")
        if error is None:
            return True
        code = str(error.get("Code", ""))
        if kind_of_code(code) is ErrorKind.FATAL:
            self._refuse(f"{code}: {error.get('Message', '')}")
        return False

    def _refuse(self, reason: str) -> None:
        self._refused = reason
        logger.warning(
            "Table %r takes no PartiQL INSERT, so that emit_many and concurrent emits store events one by one, which "
            "costs more CPU and requests. Allow dynamodb:PartiQLInsert, as the library's IAM policy template does, and "
            "restart. The reason: %s",
            self._caller.table_name,
            " ".join(reason.split())[:_REASON_CHARS],
        )


def region_of(caller: Caller) -> str:
    """Return the Region that the client talks to."""
    return str(getattr(getattr(caller.client, "meta", None), "region_name", None) or "unknown")
