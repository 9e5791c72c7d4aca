"""The global options, and what they open: an outbox, a bus."""

from __future__ import annotations

import shlex
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from dynamodb_outbox.cli.exits import Refusal
from dynamodb_outbox.cli.values import decimal

if TYPE_CHECKING:
    from dynamodb_outbox.dynamodb.outbox import DynamoDBOutbox

Output = Literal["table", "json", "jsonl"]
PROGRAM: Final = "dynamodb-outbox"
TABLE_VARIABLE: Final = "DYNAMODB_OUTBOX_TABLE"
SMALL_POOL: Final = 8
"""The slots of the outbox of a command: the size of its connection pool depends on them."""


def last(ids: Iterable[str]) -> list[str]:
    """Return ids as the last words of a command. One that begins with a dash must not be read as an option."""
    words = list(ids)
    return ["--", *words] if any(each.startswith("-") for each in words) else words


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The global options. None is the default of the AWS SDK, or of the outbox."""

    table: str | None = None
    region: str | None = None
    profile: str | None = None
    endpoint_url: str | None = None
    shards: int = 1
    index: str | None = None
    former_index: str | None = None
    retention: float | None = None
    app: str | None = None
    output: Output = "table"
    color: bool = True
    quiet: bool = False
    verbose: bool = False
    timeout: float = 30.0

    @property
    def table_name(self) -> str:
        """The table. Raises `Refusal` if none was named."""
        if self.table is None:
            raise Refusal(f"name the table: --table NAME, or set {TABLE_VARIABLE}")
        return self.table

    def connection(self) -> dict[str, Any]:
        """Return the arguments that open an outbox."""
        return {
            "table_name": self.table_name,
            "region_name": self.region,
            "endpoint_url": self.endpoint_url,
            "profile_name": self.profile,
            "shards": self.shards,
            "status_index_name": self.index,
            "former_index_name": self.former_index,
            "retention": self.retention,
            "numbers": "decimal",
            "concurrency": SMALL_POOL,
            "window": False,
            "claim_on_emit": False,
        }

    def command(self, *words: str) -> str:
        """Write a command line with the same table and connection, ready to be pasted into a shell."""
        options = {
            "--table": self.table,
            "--region": self.region,
            "--profile": self.profile,
            "--endpoint-url": self.endpoint_url,
            "--shards": None if self.shards == 1 else str(self.shards),
            "--index": self.index,
            "--former-index": self.former_index,
            "--retention": None if self.retention is None else decimal(self.retention),
        }
        named = [word for name, value in options.items() if value is not None for word in (name, value)]
        return shlex.join([PROGRAM, *named, *words])

    def aws(self, *words: str) -> str:
        """Write a command of the AWS command line for the same account, region and endpoint."""
        options = {"--region": self.region, "--profile": self.profile, "--endpoint-url": self.endpoint_url}
        named = [word for name, value in options.items() if value is not None for word in (name, value)]
        return shlex.join(["aws", *words, *named])

    @asynccontextmanager
    async def connect(self, **options: Any) -> AsyncGenerator[DynamoDBOutbox]:
        """Open the outbox. `options` are further options of the outbox."""
        from dynamodb_outbox import DynamoDBOutbox  # noqa: PLC0415 - it imports the AWS SDK

        async with DynamoDBOutbox.connect(**(self.connection() | options)) as outbox:
            yield outbox
