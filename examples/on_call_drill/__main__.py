"""Practise being on call: a table gets one of ten faults, an alert is shown, and you have two minutes.

python -m examples.on_call_drill --endpoint http://127.0.0.1:8000 --table drill
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from examples.on_call_drill.channel import Answer, NoDrillError, ask, folder_of, is_running, table_of_the_drill

ROOT: Final = Path(__file__).resolve().parents[2]
SERVICE: Final = {
    "status": "show the processes, the release and its options",
    "releases": "list the releases, the deployed one and those that could be deployed",
    "log": "show the end of the log",
    "start": "start the process, if none runs",
    "stop": "stop the process",
    "restart": "stop the process, kill it if it does not end, and start another one",
    "deploy": "deploy a release, also an older one",
    "rollback": "deploy the release that ran before",
}


def main() -> int:
    """Carry out one command; its exit code."""
    given = _parser().parse_args()
    try:
        answer = _start(given) if given.command is None else _forward(given)
    except NoDrillError as error:
        print(f"drill: {error}", file=sys.stderr)
        return 2
    print(answer.text)
    return answer.code


def _parser() -> argparse.ArgumentParser:
    about = (__doc__ or "").split("\n", maxsplit=1)[0]
    parser = argparse.ArgumentParser(prog="python -m examples.on_call_drill", description=about)
    parser.add_argument("--endpoint", help="DynamoDB Local, such as http://127.0.0.1:8000")
    parser.add_argument("--table", default=os.environ.get("DYNAMODB_OUTBOX_TABLE"), help="a table that does not exist")
    parser.add_argument("--fault", type=int, metavar="N", help="the fault, from 1 to 10; a random one if not given")
    parser.add_argument("--seed", type=int, metavar="S", help="shuffles the faults, in the same way for the same seed")
    parser.add_argument("--round", type=int, default=1, metavar="K", help="of the shuffled faults, the one to take")
    parser.add_argument("--minutes", type=float, default=30.0, help="after which the drill ends by itself")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    service = commands.add_parser("service", help="what the platform of the service offers")
    actions = service.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, text in SERVICE.items():
        action = actions.add_parser(name, help=text, description=text)
        if name == "deploy":
            action.add_argument("release")
            action.add_argument("--shards", type=int, metavar="N", help="with another value of this option")
    check = commands.add_parser("check", help="say whether the fault is repaired, and after how many seconds")
    check.add_argument("--cause", default="", metavar="TEXT", help="what was wrong, in your words")
    check.add_argument("--wait", type=float, default=30.0, metavar="SECONDS", help="for a repair that takes effect")
    commands.add_parser("end", help="say what the fault was, end the service and delete the table")
    return parser


def _forward(given: argparse.Namespace) -> Answer:
    names = ("command", "action", "release", "shards", "cause", "wait")
    table = table_of_the_drill(given.table)
    answer = ask(table, {name: getattr(given, name) for name in names if name in given})
    if given.command == "end":
        # The owner first says what the fault was, and then ends the service.
        while is_running(table):
            time.sleep(0.05)
    return answer


def _start(given: argparse.Namespace) -> Answer:
    """Start the process that owns the drill; it prepares the table, and lives on in the background."""
    if given.endpoint is None or given.table is None:
        raise NoDrillError("say where: --endpoint http://127.0.0.1:8000 --table NAME")
    folder = folder_of(given.table)
    if is_running(given.table):
        raise NoDrillError(f"a drill runs on the table {given.table!r}: end it with `end`, or name another table")
    folder.mkdir(mode=0o700, exist_ok=True)
    words = ["--endpoint", given.endpoint, "--table", given.table, "--folder", str(folder)]
    words += ["--round", str(given.round), "--minutes", str(given.minutes)]
    words += [word for name in ("fault", "seed") if (value := vars(given)[name]) for word in (f"--{name}", str(value))]
    with (folder / "drill.log").open("wb") as log:
        owner = subprocess.Popen(
            [sys.executable, "-m", "examples.on_call_drill.owner", *words],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
    line = owner.stdout.readline() if owner.stdout else b""
    if not line:
        raise NoDrillError(f"the drill could not be prepared; see {folder / 'drill.log'}")
    return Answer.decode(line)


if __name__ == "__main__":
    sys.exit(main())
