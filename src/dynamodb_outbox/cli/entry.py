"""The entry point: says what to install if the extra is not there."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import NoReturn

NEEDED = ("click", "rich")


def main() -> NoReturn:
    """Run the command line with the arguments of the process, and exit."""
    if any(find_spec(name) is None for name in NEEDED):
        sys.stderr.write("The command line needs the extra `cli`: pip install 'dynamodb-outbox[cli]'\n")
        sys.exit(2)
    from dynamodb_outbox.cli.program import run  # noqa: PLC0415 - it imports click

    sys.exit(run(sys.argv[1:]))
