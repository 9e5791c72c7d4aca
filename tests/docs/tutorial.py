"""Does what docs/tutorial.md tells its reader to do, and checks what it says they will see.

Each block of the page is marked in the line above it:

| mark | the block is |
|---|---|
| `install` | commands; the packages that they install have to be installed here |
| `environment` | commands; their variables are set for all commands that follow |
| `file NAME` | a file, saved under this name |
| `edit NAME` | a diff of whole lines of that file |
| `start NAME: TEXT` | a command that keeps running, and is ready once it has printed the text; an earlier one of this name is interrupted first |
| `NAME prints` | lines that it prints, in this order; it may print others between them |
| `run` | commands that end, each followed by all that it prints |
| `request STATUS` | a curl command, followed by the body of the response; the status is 200 or 201 where it is not given |

`eventually` at the end of a mark repeats the command until it prints what the page says.
"""  # noqa: E501 - a table has long lines

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import httpx

BLOCK: Final = re.compile(
    r"^<!-- (?P<mark>[^\n]+) -->\n```\w+\n(?P<body>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
PATIENCE: Final = 120.0
"""Seconds that only a hang takes."""


@dataclass(frozen=True, kw_only=True)
class Step:
    mark: str
    body: str

    @property
    def eventually(self) -> bool:
        return self.mark.endswith(" eventually")

    def commands(self) -> Iterator[tuple[str, str]]:
        """Each command, with what the page says it prints."""
        for command in re.split(r"^\$ ", self.body, flags=re.MULTILINE)[1:]:
            line, _, output = command.partition("\n")
            yield line, output


def steps_of(page: str) -> list[Step]:
    return [Step(**block.groupdict()) for block in BLOCK.finditer(page)]


@dataclass(kw_only=True)
class Reader:
    """Follows the page in a directory. `start`ed programs run until `leave`."""

    directory: Path
    patience: float = PATIENCE
    environment: dict[str, str] = field(default_factory=dict)
    skipped: frozenset[str] = frozenset()
    """Programs that run already, and are not started."""
    printed: dict[str, list[Path]] = field(default_factory=dict)
    """What each start of a program printed, by its name."""
    programs: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def follow(self, step: Step) -> None:
        match step.mark.removesuffix(" eventually").split(maxsplit=1):
            case ["install"]:
                self._check_installed(step)
            case ["environment"]:
                self._set_environment(step)
            case ["file", name]:
                (self.directory / name).write_text(step.body)
            case ["edit", name]:
                self._edit(self.directory / name, step.body)
            case ["start", what]:
                name, _, text = what.partition(": ")
                self._start(name, step, ready=text)
            case [name, "prints"]:
                self._check_printed(name, step.body)
            case ["run"]:
                self._repeat(step, self._run)
            case ["request", *status]:
                self._repeat(step, lambda command: self._request(command, set(map(int, status)) or {200, 201}))
            case _:
                raise AssertionError(f"unknown mark: {step.mark}")

    def leave(self) -> None:
        for program in self.programs.values():
            program.kill()
            program.wait()

    def _check_installed(self, step: Step) -> None:
        installs = [line for line, _ in step.commands() if line.startswith("pip install ")]
        assert installs
        for requirement in shlex.split(installs[0])[2:]:
            assert version(requirement.partition("[")[0]), requirement

    def _set_environment(self, step: Step) -> None:
        exports = [shlex.split(line)[1:] for line, _ in step.commands() if line.startswith("export ")]
        assert exports
        self.environment |= dict(assignment.split("=", 1) for export in exports for assignment in export)

    @staticmethod
    def _edit(file: Path, diff: str) -> None:
        old, new = ("".join(line[1:] for line in diff.splitlines(keepends=True) if line[0] == sign) for sign in "-+")
        text = file.read_text()
        assert text.count(old) == 1
        file.write_text(text.replace(old, new))

    def _start(self, name: str, step: Step, *, ready: str) -> None:
        if name in self.skipped:
            return
        if name in self.programs:
            self._interrupt(self.programs.pop(name))
        ((command, _),) = step.commands()
        logs = self.printed.setdefault(name, [])
        log = self.directory / f"{name}-{len(logs)}.log"
        logs.append(log)
        with log.open("wb") as output:
            program = self.programs[name] = subprocess.Popen(
                shlex.split(command), cwd=self.directory, env=self._variables(), stdout=output, stderr=output
            )
        self._wait_until(lambda: ready in log.read_text() or program.poll() is not None, otherwise=log.read_text)
        assert program.poll() is None, log.read_text()

    @staticmethod
    def _interrupt(program: subprocess.Popen[bytes]) -> None:
        program.send_signal(signal.SIGINT)
        try:
            program.wait(PATIENCE)
        finally:
            program.kill()

    def _check_printed(self, name: str, expected: str) -> None:
        if name in self.skipped:
            return
        log = self.printed[name][-1]
        lines = [line for line in expected.splitlines() if line != "..."]

        def is_there() -> bool:
            rest = iter(log.read_text().splitlines())
            return all(line in rest for line in lines)  # in their order: each search goes on after the one before

        self._wait_until(is_there, otherwise=lambda: f"{expected}\nis not in\n{log.read_text()}")

    def _wait_until(self, holds: Callable[[], bool], *, otherwise: Callable[[], str]) -> None:
        deadline = time.monotonic() + self.patience
        while not holds():
            assert time.monotonic() < deadline, otherwise()
            time.sleep(0.05)

    def _repeat(self, step: Step, perform: Callable[[str], str]) -> None:
        for command, expected in step.commands():
            deadline = time.monotonic() + (self.patience if step.eventually else 0.0)
            while (answer := perform(command)) != expected:
                assert time.monotonic() < deadline, f"{command}\nprints\n{answer}\nand not\n{expected}"
                time.sleep(0.2)

    def _run(self, command: str) -> str:
        ran = subprocess.run(
            shlex.split(command),
            cwd=self.directory,
            env=self._variables(),
            capture_output=True,
            text=True,
            timeout=self.patience,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout + ran.stderr

    @staticmethod
    def _request(command: str, statuses: set[int]) -> str:
        request: dict[str, Any] = {"method": "GET", "headers": {}}
        words = iter(shlex.split(command))
        assert next(words) == "curl"
        for word in words:
            match word:
                case "-X":
                    request["method"] = next(words)
                case "-H":
                    name, _, value = next(words).partition(": ")
                    request["headers"][name] = value
                case "-d":
                    request["content"] = next(words)
                case _:
                    assert word.startswith("http://localhost:")
                    request["url"] = word
        response = httpx.request(**request, timeout=PATIENCE)
        assert response.status_code in statuses, response.text
        return f"{response.text}\n"

    def _variables(self) -> dict[str, str]:
        programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return os.environ | self.environment | {"PATH": programs, "PYTHONUNBUFFERED": "1"}
