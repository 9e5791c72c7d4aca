"""The command `dynamodb-outbox`: its global options, its commands, and how it exits."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from typing import Any, Final, cast

import click

from dynamodb_outbox.cli.commands.completion import completion
from dynamodb_outbox.cli.commands.dashboards import dashboards
from dynamodb_outbox.cli.commands.doctor import doctor
from dynamodb_outbox.cli.commands.emit import emit
from dynamodb_outbox.cli.commands.events import events
from dynamodb_outbox.cli.commands.failed import failed
from dynamodb_outbox.cli.commands.holding import hold, holds, resume
from dynamodb_outbox.cli.commands.metrics import metrics
from dynamodb_outbox.cli.commands.recover import recover
from dynamodb_outbox.cli.commands.status import status
from dynamodb_outbox.cli.commands.table import table
from dynamodb_outbox.cli.commands.tail import tail
from dynamodb_outbox.cli.commands.template import template
from dynamodb_outbox.cli.commands.version import version
from dynamodb_outbox.cli.commands.web import web
from dynamodb_outbox.cli.exits import BROKEN_PIPE, INTERRUPTED, OK, Refusal
from dynamodb_outbox.cli.running import Interrupted
from dynamodb_outbox.cli.settings import PROGRAM, TABLE_VARIABLE, Output, Settings
from dynamodb_outbox.cli.values import DURATION

OUTPUTS: Final = ("table", "json", "jsonl")
COMPLETE: Final = "_DYNAMODB_OUTBOX_COMPLETE"
"""The variable by which the shell asks click for completions."""


@click.group(
    name=PROGRAM,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Global options may also come after the command. Data goes to stdout, words to stderr. Exit codes: 0 done, "
    "1 a finding or an event that was not changed, 2 wrong usage, 3 DynamoDB was not reached or refused, 130 Ctrl-C.",
)
@click.option("--table", envvar=TABLE_VARIABLE, show_envvar=True, help="The table of the outbox.")
@click.option("--region", envvar=["AWS_REGION", "AWS_DEFAULT_REGION"], show_envvar=True, help="The AWS region.")
@click.option("--profile", help="A profile of the AWS configuration.")
@click.option("--endpoint-url", envvar="AWS_ENDPOINT_URL", show_envvar=True, help="For DynamoDB Local and the like.")
@click.option(
    "--shards",
    type=click.IntRange(1, 256),
    default=1,
    envvar="DYNAMODB_OUTBOX_SHARDS",
    show_envvar=True,
    show_default=True,
    help="The option `shards` of your service.",
)
@click.option("--index", help="The index, if your service names another one than the default.")
@click.option("--former-index", help="The former index, while a table is moved to shards.")
@click.option(
    "--retention",
    type=DURATION,
    envvar="DYNAMODB_OUTBOX_RETENTION",
    show_envvar=True,
    help="The option `retention` of your service: how long discarded events stay.",
)
@click.option(
    "--app",
    envvar="DYNAMODB_OUTBOX_APP",
    show_envvar=True,
    metavar="MODULE:BUS",
    help="Your bus, or a function that makes it. The doctor then checks handlers and options, too.",
)
@click.option("--output", "-o", type=click.Choice(OUTPUTS), default="table", show_default=True, help="The format.")
@click.option("--no-color", is_flag=True, envvar="NO_COLOR", show_envvar=True, help="Write no colors.")
@click.option("--quiet", "-q", is_flag=True, help="Write no words to stderr, only data and errors.")
@click.option("--verbose", "-v", is_flag=True, help="Show the traceback of an error.")
@click.option("--timeout", type=DURATION, default="30s", show_default=True, help="How long to wait for DynamoDB.")
@click.pass_context
def program(context: click.Context, /, **options: Any) -> None:
    """See, understand and repair an outbox. Begin with `doctor`, or with `status`."""
    options["color"] = not options.pop("no_color")
    options["output"] = cast("Output", options["output"])
    context.obj = Settings(**options)


for _command in (
    doctor,
    status,
    events,
    failed,
    recover,
    hold,
    resume,
    holds,
    emit,
    table,
    template,
    metrics,
    web,
    dashboards,
    completion,
    version,
):
    program.add_command(_command)
events.add_command(tail)


def run(arguments: Sequence[str]) -> int:
    """Run the program with arguments; return its exit code."""
    if COMPLETE in os.environ:
        program.main(prog_name=PROGRAM)
    try:
        with program.make_context(PROGRAM, hoisted(arguments)) as context:
            program.invoke(context)
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.ClickException as refused:
        if "-v" in arguments or "--verbose" in arguments:
            import traceback  # noqa: PLC0415 - only here

            traceback.print_exc()
        refused.show()
        return refused.code if isinstance(refused, Refusal) else refused.exit_code
    except (click.Abort, KeyboardInterrupt, Interrupted):
        return INTERRUPTED
    except OSError as error:
        if error.errno != errno.EPIPE:
            raise
        # Nobody reads the rest. Python would complain when it flushes stdout at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    return OK


def hoisted(arguments: Sequence[str]) -> list[str]:
    """Move global options that come after the command to the front, where click reads them."""
    takes_value = {
        name: isinstance(option, click.Option) and not option.is_flag
        for option in program.params
        for name in option.opts
    }
    front: list[str] = []
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == "--":
            rest += [word, *words]
            break
        name = word.partition("=")[0] if word.startswith("--") else word
        if name not in takes_value:
            rest.append(word)
            continue
        front.append(word)
        if takes_value[name] and name == word:
            front += [value for value in [next(words, None)] if value is not None]
    return front + rest
