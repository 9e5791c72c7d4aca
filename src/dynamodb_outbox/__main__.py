"""Runs the command line: `python -m dynamodb_outbox`."""

from __future__ import annotations

from dynamodb_outbox.cli.entry import main

if __name__ == "__main__":
    main()
