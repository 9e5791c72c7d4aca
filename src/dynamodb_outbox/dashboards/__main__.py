"""Write a part of the kit to standard output: `python -m dynamodb_outbox.dashboards grafana`."""

from __future__ import annotations

import argparse
import sys

from dynamodb_outbox.dashboards.render import KINDS, RUNBOOK, render


def main() -> None:
    """Write the part that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m dynamodb_outbox.dashboards")
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--runbook", default=RUNBOOK, help="the address of the runbook page, for links in alerts")
    given = parser.parse_args()
    sys.stdout.write(render(given.kind, runbook=given.runbook))


if __name__ == "__main__":
    main()
