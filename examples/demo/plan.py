"""What every process of the demo has to know: the engine, the table, the folder they share, and their own name."""

from __future__ import annotations

import argparse
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from dynamodb_outbox import DynamoDBOutbox

REGION: Final = "us-east-1"
LEASE_SECONDS: Final = 5.0


class DemoError(Exception):
    """The demo could not be carried out; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Where the demo takes place."""

    endpoint: str
    table: str
    folder: Path

    @property
    def events_file(self) -> Path:
        """The events to emit, one JSON object to a line."""
        return self.folder / "events.jsonl"

    def history_file(self, name: str) -> Path:
        """What a process did, one JSON object to a line."""
        return self.folder / f"{name}.history.jsonl"

    def log_file(self, name: str) -> Path:
        """What a process wrote to its standard error."""
        return self.folder / f"{name}.log"

    def connect(self) -> AbstractAsyncContextManager[DynamoDBOutbox]:
        """Connect to the table; a short lease, so that the events of a killed worker are soon taken up."""
        return DynamoDBOutbox.connect(
            table_name=self.table,
            region_name=REGION,
            endpoint_url=self.endpoint,
            batch_size=10,
            # moto looks at every item for every query: polling more often would leave it no time to write.
            poll_interval=1.5,
            processing_timeout=LEASE_SECONDS,
            base_backoff=0.2,
            concurrency=20,
        )

    def arguments(self, name: str) -> list[str]:
        """Render the plan for the command line of a process of that name."""
        return ["--endpoint", self.endpoint, "--table", self.table, "--folder", str(self.folder), "--name", name]

    @classmethod
    def of_arguments(cls) -> tuple[Self, str]:
        """Read the plan, and the name of this process, from its command line."""
        parser = argparse.ArgumentParser()
        for option in ("endpoint", "table", "folder", "name"):
            parser.add_argument(f"--{option}", required=True)
        given = parser.parse_args()
        return cls(endpoint=given.endpoint, table=given.table, folder=Path(given.folder)), given.name
