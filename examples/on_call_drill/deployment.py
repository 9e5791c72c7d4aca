"""The platform that the service of the drill runs on: its releases, and the process that runs."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from examples.demo.processes import Child
from examples.on_call_drill.service import HANDLERS, Instructions

GRACE_SECONDS: Final = 4.0
LOG_LINES: Final = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A release of the service: what it changes, and what each of its handlers does."""

    name: str
    since: str
    """When it was deployed, or built, in words."""
    changes: str
    handlers: Mapping[str, str]
    shards: int = 1


WORKS: Final = dict.fromkeys(HANDLERS, "works")
FORMER: Final = Release(name="2.3", since="deployed 9 days ago", changes="prices with VAT", handlers=WORKS)
CURRENT: Final = Release(name="2.4", since="deployed 2 days ago", changes="new texts of the mails", handlers=WORKS)


class Deployment:
    """Starts, stops and replaces the process of the service. Every method but `close` returns what to print."""

    def __init__(self, *, endpoint: str, table: str, folder: Path, releases: Sequence[Release], current: str) -> None:
        self._where = {"endpoint": endpoint, "table": table}
        self._folder = folder
        self._releases = {release.name: release for release in releases}
        earlier = list(self._releases)
        self._history = [self._releases[name] for name in earlier[: earlier.index(current) + 1]]
        self._process: Child | None = None
        self._starts = 0

    @property
    def current(self) -> Release:
        """The release that is deployed."""
        return self._history[-1]

    def start(self, *, clock_behind: float = 0.0, handlers: Mapping[str, str] | None = None) -> str:
        """Start the process. The options are for the fault of the drill."""
        if self._process is not None and self._process.running:
            return f"a process runs already (pid {self._process.pid})"
        self.close()
        self._starts += 1
        instructions = Instructions(
            **self._where,
            release=self.current.name,
            handlers=self.current.handlers if handlers is None else handlers,
            shards=self.current.shards,
            clock_behind=clock_behind,
        )
        module, log = "examples.on_call_drill.service", self._log_file()
        self._process = Child(f"orders {self.current.name}", module, [instructions.encode()], log=log)
        return f"release {self.current.name} starts (pid {self._process.pid})"

    def stop(self) -> str:
        """Stop the process: SIGTERM, and SIGKILL if that does not help."""
        if self._process is None or not self._process.running:
            return "no process runs"
        pid = self._process.pid
        self._process.send(signal.SIGTERM)
        was_killed = self._process.wait(GRACE_SECONDS) == -signal.SIGKILL
        self.close()
        how = f"did not end within {GRACE_SECONDS:g} s of SIGTERM, and was killed" if was_killed else "has ended"
        return f"the process (pid {pid}) {how}"

    def restart(self) -> str:
        """Stop the process, and start another one."""
        return f"{self.stop()}\n{self.start()}"

    def deploy(self, name: str, *, shards: int | None = None) -> str:
        """Replace the process by one of a release."""
        if name not in self._releases:
            return f"there is no release {name!r}, but {', '.join(self._releases)}"
        release = replace(self._releases[name], since="deployed just now")
        self._history.append(release if shards is None else replace(release, shards=shards))
        return self.restart()

    def rollback(self) -> str:
        """Deploy the release that ran before."""
        if len(self._history) == 1:
            return "there is no release before this one"
        self._history.pop()
        self._history[-1] = replace(self.current, since="deployed just now")
        return self.restart()

    def freeze(self) -> None:
        """Let the process hang, as one that waits for its disk. It is a fault of the drill."""
        if self._process is not None:
            self._process.send(signal.SIGSTOP)

    def status(self) -> str:
        """Say what runs."""
        runs = self._process is not None and self._process.running
        process = (
            f"1 of 1 processes runs (pid {self._process.pid})" if self._process and runs else "0 of 1 processes run"
        )
        release = self.current
        options = f"shards={release.shards}, processing_timeout=30"
        return f"orders: {process}, release {release.name}, {release.since}\noptions: {options}"

    def releases(self) -> str:
        """List the releases."""
        deployed = {release.name: release for release in self._history}
        known = [deployed.get(name, release) for name, release in self._releases.items()]
        return "\n".join(
            f"{'*' if release.name == self.current.name else ' '} {release.name}  {release.since}: {release.changes}"
            for release in known
        )

    def log(self) -> str:
        """Return the end of the log."""
        if not self._starts:
            return "there is no log: the process has not been started since yesterday"
        lines = self._log_file().read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-LOG_LINES:])

    def close(self) -> None:
        """End the process, whatever its state."""
        if self._process is not None:
            self._process.send(signal.SIGKILL)
            self._process.wait(GRACE_SECONDS)
            self._process.close()

    def _log_file(self) -> Path:
        return self._folder / f"service-{self._starts}.log"
