"""The processes of the demo: starting them, watching them, and ending all of them whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from examples.demo.plan import DemoError

ROOT: Final = Path(__file__).resolve().parents[2]
GRACE_SECONDS: Final = 5.0
START_SECONDS: Final = 30.0


class Child:
    """A process of ours. Its standard input is a pipe that closes with us, however we end."""

    def __init__(self, name: str, module: str, arguments: list[str], *, log: Path) -> None:
        self.name = name
        self._log = log
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                # Ctrl-C in the terminal is for the demo alone, which then ends its children in good order.
                process_group=0,
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process, unless it has ended."""
        self._process.send_signal(number)

    def read_line(self) -> str:
        """Wait for the next line of its standard output; empty at the end."""
        return self._process.stdout.readline().strip() if self._process.stdout else ""

    def wait(self, seconds: float) -> int:
        """Wait for its end, and enforce it after so many seconds; the exit code."""
        try:
            return self._process.wait(max(seconds, 0))
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def check(self) -> None:
        """Raise `DemoError` if the process ended otherwise than it should."""
        code = self._process.poll()
        if code:
            last = "\n".join(self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
            how = f"exit code {code}" if code > 0 else f"signal {-code}"
            raise DemoError(f"{self.name} (process {self.pid}) ended with {how}; the end of its log:\n{last}")

    def close(self) -> None:
        """Close our ends of the pipes."""
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()


class Children:
    """Starts processes, and ends those that are left on exit."""

    def __init__(self) -> None:
        self._children: list[Child] = []

    def start(self, name: str, module: str, arguments: list[str], *, log: Path) -> Child:
        """Start `python -m module` with arguments."""
        child = Child(name, module, arguments, log=log)
        self._children.append(child)
        return child

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for child in self._children:
            # One that is stopped (SIGSTOP) gets the others only once it goes on.
            child.send(signal.SIGTERM)
            child.send(signal.SIGCONT)
        deadline = time.monotonic() + GRACE_SECONDS
        for child in self._children:
            child.wait(deadline - time.monotonic())
            child.close()


async def first_line(server: Child) -> str:
    """Wait for the first line of a server, which is its address. Raises `DemoError`."""
    try:
        async with asyncio.timeout(START_SECONDS):
            line = await asyncio.to_thread(server.read_line)
    except TimeoutError:
        raise DemoError(f"{server.name} did not start within {START_SECONDS:g} s") from None
    if not line:
        server.wait(1.0)
        server.check()
        raise DemoError(f"{server.name} ended before it listened")
    return line


def end_with_parent() -> None:
    """End this process once its standard input closes: the parent is gone, be it by SIGKILL."""

    def wait_for_the_end() -> None:
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=wait_for_the_end, daemon=True).start()
