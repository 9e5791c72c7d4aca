"""`web`: serves the dashboard from this machine."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Final

import click

from dynamodb_outbox.cli.exits import Refusal
from dynamodb_outbox.cli.output import Printer
from dynamodb_outbox.cli.running import run_async
from dynamodb_outbox.cli.settings import Settings

NEEDED: Final = ("jinja2", "uvicorn")


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Another address needs a token.")
@click.option("--port", type=click.IntRange(0, 65_535), default=8080, show_default=True)
@click.option(
    "--token-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file with the token that the browser asks for as a password.",
)
@click.option("--read-only", is_flag=True, help="Allow no action.")
@click.option("--allow-edit", is_flag=True, help="Allow to replace an event by another payload.")
@click.option("--environment", help="A name for the page, such as production.")
@click.pass_obj
def web(
    settings: Settings,
    *,
    host: str,
    port: int,
    token_file: Path | None,
    read_only: bool,
    allow_edit: bool,
    environment: str | None,
) -> None:
    """Serve the dashboard with the credentials of this shell, until Ctrl-C."""
    if any(find_spec(name) is None for name in NEEDED):
        raise Refusal("the dashboard needs the extra `web`: pip install 'dynamodb-outbox[web]'")
    token = None if token_file is None else token_file.read_text(encoding="utf-8").strip()
    printer = Printer.of(settings)

    async def work() -> None:
        from dynamodb_outbox.web import serve  # noqa: PLC0415 - it imports the templates

        async with settings.connect() as outbox:
            await serve(
                outbox,
                host=host,
                port=port,
                token=token,
                read_only=read_only,
                allow_edit=allow_edit,
                environment=environment,
                on_started=lambda address: printer.note(f"the dashboard is at {address}; Ctrl-C ends it"),
            )

    try:
        run_async(settings, work, limited=False)
    except OSError as error:
        raise Refusal(f"cannot listen on {host}:{port}: {error}") from error
