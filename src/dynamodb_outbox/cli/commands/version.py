"""`version`: the versions of the library and of what it stands on."""

from __future__ import annotations

import platform
from typing import Final

import click

from dynamodb_outbox.cli.output import Printer
from dynamodb_outbox.cli.records import document
from dynamodb_outbox.cli.settings import Settings

PACKAGES: Final = ("dynamodb-outbox", "aiobotocore", "botocore", "anyio", "click", "rich")


@click.command()
@click.pass_obj
def version(settings: Settings) -> None:
    """Show the versions that a bug report needs."""
    found = versions()
    printer = Printer.of(settings)
    printer.show(document("version", versions=found), lambda out: out.pairs(found.items()))


def versions() -> dict[str, str]:
    """Return the versions of the packages, of Python and of the system."""
    found = {name: _version(name) for name in PACKAGES}
    return found | {"python": platform.python_version(), "system": platform.platform(terse=True)}


def _version(name: str) -> str:
    from importlib import metadata  # noqa: PLC0415 - it takes a tenth of the time of the help

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
