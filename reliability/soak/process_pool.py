"""Starts worker processes, and kills, suspends, stops and restarts them at random."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace
from random import Random
from typing import Final

from reliability.history import WorkerKilled, WorkerResumed, WorkerSuspended
from reliability.journal import Write
from reliability.soak.soak_worker import STOP_SECONDS, Orders

PAUSE: Final = (2.0, 6.0)
SUSPENSION: Final = (0.5, 7.0)
Process = subprocess.Popen[bytes]


class ProcessPool:
    """A number of processes. A process that ends is replaced by a new process."""

    def __init__(self, orders: Orders, write: Write, *, now: Callable[[], float], chance: Random) -> None:
        self._orders = orders
        self._write = write
        self._now = now
        self._chance = chance
        self._lives = 0
        self._processes: dict[str, Process] = {}
        self.done: Counter[str] = Counter()
        self.failed: list[str] = []

    def start(self, *, handles: bool = True) -> None:
        """Start a process."""
        self._lives += 1
        name = f"{'worker' if handles else 'emitter'} {self._lives}"
        options = {**self._orders.options, "conditional_writes": self._chance.choice(["batch", "single"])}
        orders = json.dumps(asdict(replace(self._orders, name=name, handles=handles, options=options)))
        self._processes[name] = subprocess.Popen(  # noqa: S603 - of ourselves
            [sys.executable, "-m", "reliability.soak.soak_worker", orders],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )

    @property
    def count(self) -> int:
        """The number of processes that run."""
        return len(self._processes)

    async def harm(self) -> None:
        """Kill, suspend or stop a random worker now and then, until cancelled."""
        while True:
            await asyncio.sleep(self._chance.uniform(*PAUSE))
            name = self._chance.choice([name for name in self._processes if name.startswith("worker")])
            await self._chance.choice([self._kill, self._suspend, self._stop])(name)

    async def _kill(self, name: str) -> None:
        process = self._processes.pop(name)
        process.kill()
        process.wait()
        self._write(WorkerKilled(at=self._now(), worker=name))
        self.done["SIGKILL"] += 1
        self.start()

    async def _suspend(self, name: str) -> None:
        process = self._processes[name]
        process.send_signal(signal.SIGSTOP)
        self._write(WorkerSuspended(at=self._now(), worker=name))
        self.done["SIGSTOP"] += 1
        try:
            await asyncio.sleep(self._chance.uniform(*SUSPENSION))
        finally:
            process.send_signal(signal.SIGCONT)
            self._write(WorkerResumed(at=self._now(), worker=name))

    async def _stop(self, name: str) -> None:
        self.done["SIGTERM"] += 1
        # As in a deploy, the next process starts before this process has drained.
        self.start()
        await self._end(name)

    async def stop_all(self) -> None:
        """Stop all processes, emitters first."""
        while self._processes:
            await self._end(min(self._processes))

    async def replace_all(self, *, rate: float) -> None:
        """Replace all workers by workers with another rate of emits."""
        self._orders = replace(self._orders, rate=rate)
        for name in list(self._processes):
            self.start()
            await self._end(name)

    async def stop_emitting(self) -> None:
        """Stop the emitters."""
        for name in [name for name in self._processes if name.startswith("emitter")]:
            await self._end(name)

    async def _end(self, name: str) -> None:
        process = self._processes[name]
        process.terminate()
        try:
            code = await asyncio.wait_for(asyncio.to_thread(process.wait), 10 * STOP_SECONDS)
        except TimeoutError:
            process.kill()
            self._write(WorkerKilled(at=self._now(), worker=name))
            self.failed.append(f"{name} did not stop")
        else:
            if code not in (0, -signal.SIGTERM):
                self.failed.append(f"{name} ended with {code}")
        del self._processes[name]

    def kill_all(self) -> None:
        """Kill all processes."""
        for process in self._processes.values():
            process.kill()
            process.wait()
        self._processes.clear()
