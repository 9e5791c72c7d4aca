"""Loads the bus that `--app module:bus` names, and says what it handles."""

from __future__ import annotations

import importlib
import inspect
import logging
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from dynamodb_outbox.bus import OutboxEventBus
from dynamodb_outbox.cli.doctor.evidence import AppFacts
from dynamodb_outbox.cli.exits import Refusal
from dynamodb_outbox.errors import OutboxError


@asynccontextmanager
async def loaded(spec: str) -> AsyncGenerator[OutboxEventBus]:
    """Load a bus: a bus, or a function without parameters that returns a bus, or a context manager that yields one.

    Raises `Refusal` for anything else.
    """
    found: Any = _attribute(spec)
    if not isinstance(found, OutboxEventBus) and callable(found):
        found = found()
    if inspect.isawaitable(found):
        found = await found
    if not isinstance(found, OutboxEventBus) and hasattr(found, "__aenter__"):
        async with found as bus:
            yield _checked(bus, spec)
    else:
        yield _checked(found, spec)


def _attribute(spec: str) -> Any:
    module, _, name = spec.partition(":")
    if not module or not name:
        raise Refusal(f"--app {spec}: write MODULE:BUS, such as shop.events:bus")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:  # any: the module of the user may raise anything
        raise Refusal(f"--app {spec} cannot be loaded: {type(error).__name__}: {error}") from error
    return found


def _checked(bus: Any, spec: str) -> OutboxEventBus:
    if not isinstance(bus, OutboxEventBus):
        raise Refusal(
            f"--app {spec} is {type(bus).__name__}: it must be an OutboxEventBus, or a function that makes one"
        )
    return bus


async def facts_of(spec: str) -> AppFacts:
    """Load the bus, and read what it handles, its options, and warnings about its client. It only reads."""
    async with loaded(spec) as bus:
        outbox: Any = bus.outbox
        with _warnings() as problems:
            try:
                await outbox.prepare()
                if hasattr(outbox, "verify_table"):
                    await outbox.verify_table()
            except OutboxError as error:
                problems.append(str(error))
        return AppFacts(
            types=tuple(bus.event_types()),
            table_name=getattr(outbox, "table_name", None),
            lease=outbox.options.processing_timeout,
            problems=tuple(problems),
        )


@contextmanager
def _warnings() -> Generator[list[str]]:
    """Collect the warnings that the library logs."""
    collected: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            collected.append(record.getMessage())

    logger = logging.getLogger("dynamodb_outbox")
    collector = Collector(level=logging.WARNING)
    logger.addHandler(collector)
    try:
        yield collected
    finally:
        logger.removeHandler(collector)
