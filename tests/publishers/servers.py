"""Servers of NATS, Redis and RabbitMQ on loopback, which tests kill and start again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from dynamodb_local import free_port

START_SECONDS = 120
"""A limit that only a server reaches that does not start."""
MAX_MESSAGE_BYTES = 200_000
"""The largest message of these servers, below that of an event."""


class Server(ABC):
    """A server. It keeps its port and its data when it is started again."""

    def __init__(self, program: str, folder: Path) -> None:
        self.program = program
        self.folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """Return the program and its arguments. Each runs in the foreground."""

    def environment(self) -> dict[str, str]:
        return {}

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                env=os.environ | self.environment(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._wait_until_it_answers(self._process)

    def kill(self) -> None:
        """End it as a crash does."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let it accept what is sent, and answer nothing."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)
        try:
            yield
        finally:
            os.killpg(self._process.pid, signal.SIGCONT)

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.02)  # a server does not say when it listens
            else:
                return
        raise RuntimeError(f"{self.command()[0]} has not started: {(self.folder / 'log').read_text()[-2000:]}")


class NatsServer(Server):
    def command(self) -> list[str]:
        config = self.folder / "nats.conf"
        config.write_text(f"max_payload: {MAX_MESSAGE_BYTES}\n")
        data = self.folder / "data"
        return [self.program, "-c", str(config), "-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", str(data)]


class RedisServer(Server):
    def command(self) -> list[str]:
        options = {"bind": "127.0.0.1", "port": self.port, "dir": self.folder, "appendonly": "yes"}
        return [self.program, *(text for name, value in options.items() for text in (f"--{name}", str(value)))]


class Epmd(Server):
    """The name server of Erlang. RabbitMQ would otherwise start one on the default port, and leave it running."""

    def command(self) -> list[str]:
        return [self.program, "-address", "127.0.0.1", "-port", str(self.port)]


class RabbitServer(Server):
    def __init__(self, program: str, folder: Path) -> None:
        super().__init__(program, folder)
        (folder / "epmd").mkdir()
        self._epmd = Epmd("epmd", folder / "epmd")
        self._distribution_port = free_port()

    def start(self) -> None:
        self._epmd.start()
        super().start()

    def kill(self) -> None:
        super().kill()
        self._epmd.kill()

    def command(self) -> list[str]:
        (self.folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.default = {self.address}\n"
            f"max_message_size = {MAX_MESSAGE_BYTES}\n"
            "log.console.level = error\n"
        )
        return [self.program]

    def environment(self) -> dict[str, str]:
        folder = str(self.folder)
        return {
            "HOME": folder,  # for the cookie of Erlang
            "RUNNING_UNDER_SYSTEMD": "1",  # the script becomes the server, so that there is one process to end
            "ERL_EPMD_PORT": str(self._epmd.port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"outbox-{self.port}@localhost",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/plugins",
            "RABBITMQ_MNESIA_BASE": f"{folder}/data",
            "RABBITMQ_LOG_BASE": f"{folder}/logs",
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": f"{folder}/pid",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none",
        }


AnyServer = TypeVar("AnyServer", bound=Server)


@contextmanager
def running(server: AnyServer) -> Iterator[AnyServer]:
    try:
        server.start()
        yield server
    finally:
        server.kill()
