"""How the commands of a terminal reach the process that owns the drill: by a socket in a folder of the table."""

from __future__ import annotations

import json
import os
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

PREFIX: Final = f"on-call-drill-{os.getuid()}-"
ANSWER_SECONDS: Final = 300.0


class NoDrillError(Exception):
    """No drill answers; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command prints, and its exit code."""

    text: str
    code: int = 0

    def encode(self) -> bytes:
        """Write the answer as one line."""
        return json.dumps({"text": self.text, "code": self.code}).encode() + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> Answer:
        """Read the line."""
        return cls(**json.loads(line))


def folder_of(table: str) -> Path:
    """Return the folder of the drill on a table: its socket, and the logs of its service."""
    return Path(tempfile.gettempdir()) / f"{PREFIX}{table}"


def socket_of(folder: Path) -> Path:
    """Return where the owner of a drill listens."""
    return folder / "socket"


def table_of_the_drill(named: str | None) -> str:
    """Return the table that a command is about: the named one, or the one of the only drill. Raises `NoDrillError`."""
    running = [path.parent.name.removeprefix(PREFIX) for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/socket")]
    if named is not None:
        return named
    if len(running) != 1:
        drills = ", ".join(sorted(running)) or "none"
        raise NoDrillError(f"name the table: --table NAME, or DYNAMODB_OUTBOX_TABLE. Drills that run: {drills}")
    return running[0]


def is_running(table: str) -> bool:
    """Tell whether a drill runs on the table. An owner that was killed leaves its socket behind."""
    with socket.socket(socket.AF_UNIX) as connection:
        return connection.connect_ex(str(socket_of(folder_of(table)))) == 0


def ask(table: str, command: dict[str, Any]) -> Answer:
    """Send a command to the owner of the drill, and wait for its answer. Raises `NoDrillError`."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWER_SECONDS)
        try:
            connection.connect(str(socket_of(folder_of(table))))
            connection.sendall(json.dumps(command).encode() + b"\n")
            with connection.makefile("rb") as answers:
                line = answers.readline()
        except OSError as error:
            raise NoDrillError(f"no drill runs on the table {table!r} ({error})") from None
    if not line:
        raise NoDrillError(f"the drill on the table {table!r} has ended")
    return Answer.decode(line)
