"""Fetch axe-core, which checks pages for accessibility: `python tools/axe.py`. It needs npm."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Final

PACKAGE: Final = "axe-core@4.14.1"
CACHE: Final = Path(__file__).resolve().parent.parent / ".cache" / "axe-core"


class UnavailableError(RuntimeError):
    """axe-core cannot be fetched here; the message says what is missing."""


def fetch() -> Path:
    """Download axe-core once; return its script. Raises `UnavailableError`."""
    script = CACHE / PACKAGE / "axe.min.js"
    if script.exists():
        return script
    npm = shutil.which("npm")
    if npm is None:
        raise UnavailableError("npm is not installed (it fetches axe-core)")
    CACHE.mkdir(parents=True, exist_ok=True)
    # Several processes of a test run ask at the same time: one downloads, the others wait.
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not script.exists():
            _download(npm, script)
    return script


def _download(npm: str, script: Path) -> None:
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        packed = subprocess.run(
            [npm, "pack", PACKAGE, "--silent"], cwd=folder, capture_output=True, text=True, check=False
        )
        archives = list(Path(folder).glob("*.tgz"))
        if packed.returncode != 0 or not archives:
            raise UnavailableError(f"npm could not fetch {PACKAGE}: {packed.stderr.strip()[-300:]}")
        with tarfile.open(archives[0]) as archive:
            archive.extract("package/axe.min.js", folder, filter="data")
        script.parent.mkdir(parents=True, exist_ok=True)
        (Path(folder) / "package" / "axe.min.js").rename(script)


if __name__ == "__main__":
    try:
        print(f"axe-core is in {fetch()}")
    except UnavailableError as error:
        print(f"axe: {error}", file=sys.stderr)
        sys.exit(1)
