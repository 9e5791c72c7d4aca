"""Write the reference pages in docs/reference/ from the docstrings: `make reference`.

Each public name is on one page; `reference_names.py` says which. Errors and observations
are found by their types; every other name belongs to the port, on adapter.md.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Final, get_args, is_typeddict

import dynamodb_outbox
from dynamodb_outbox import DynamoDBOutbox, HandlerOptions, InMemoryOutbox, OutboxEventBus, adapter, errors, observers
from dynamodb_outbox.dynamodb.config import OutboxKwargs
from dynamodb_outbox.observers import Observation
from tools import reference_intros
from tools.api_samples import log_level_of, message_of, range_of
from tools.api_source import (
    Field,
    alias_of,
    attributes_of,
    docstring_of,
    fields_of,
    members_of,
    node_of,
    options_of,
    parameters_of,
    signature_of,
    text_of,
)
from tools.reference_integrations import integrations_page
from tools.reference_names import BUS_NAMES, EVENT_NAMES, INTERNAL, NOT_CONSTRUCTED, OBSERVER_NAMES, OUTBOX_NAMES
from tools.reference_publishers import publishers_page
from tools.reference_web import web_page

FOLDER: Final = Path(__file__).resolve().parents[1] / "docs" / "reference"
NOTE: Final = "<!-- `make reference` writes this page from the docstrings in src. -->"


def public_names() -> dict[str, Any]:
    """Return every public name and its object: of the root, of observations, and of the module for adapters."""
    names = {name: getattr(dynamodb_outbox, name) for name in dynamodb_outbox.__all__}
    for module in (observers, adapter):
        names |= {name: getattr(module, name) for name in module.__all__}
    return names


def page_of(name: str, thing: Any) -> str:
    """Return the file name of the page that describes a public name."""
    if thing in get_args(Observation) or name in OBSERVER_NAMES:
        return "observations.md"
    if inspect.isclass(thing) and (issubclass(thing, errors.OutboxError) or thing is errors.CancellationReason):
        return "errors.md"
    for page, names in (("bus.md", BUS_NAMES), ("outbox.md", OUTBOX_NAMES), ("events.md", EVENT_NAMES)):
        if name in names:
            return page
    return "adapter.md"


def render_pages() -> dict[str, str]:
    """Render every generated page; return the texts by file name."""
    rendered: Mapping[str, Callable[[], str]] = {
        "bus.md": _bus_page,
        "outbox.md": _outbox_page,
        "events.md": _events_page,
        "adapter.md": _adapter_page,
        "errors.md": _errors_page,
        "observations.md": _observations_page,
        "integrations.md": lambda: integrations_page(_section),
        "publishers.md": lambda: publishers_page(_section),
        "web.md": lambda: web_page(_section),
    }
    return {name: f"{NOTE}\n\n{_with_links(render(), name).strip()}\n" for name, render in rendered.items()}


def main() -> None:
    """Write the pages."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in render_pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8", newline="\n")


def _page(title: str, intro: str, *sections: str) -> str:
    return "\n\n".join([f"# {title}", intro, *sections])


def _bus_page() -> str:
    def bus_with(**options: Any) -> None:
        OutboxEventBus(InMemoryOutbox(), **options)

    def handler_with(**options: Any) -> None:
        async def handler(event: dynamodb_outbox.Event) -> None: ...

        OutboxEventBus(InMemoryOutbox()).on("type", handler, **options)

    return _page(
        "The bus",
        reference_intros.BUS,
        _section("OutboxEventBus", extra=_options_table(OutboxEventBus, bus_with, skip=("outbox",))),
        _section("HandlerOptions", extra=_options_table(HandlerOptions, handler_with)),
        *_sections(BUS_NAMES[2:]),
    )


def _outbox_page() -> str:
    port = {name for name, _ in members_of(public_names()["Outbox"])}
    options = (
        "`DynamoDBOutbox(...)` and `DynamoDBOutbox.connect(...)` take these options. `InMemoryOutbox(...)` takes the "
        "options marked with *. Both also take `clock` and `random`, two functions for tests. A value out of range "
        "raises `ConfigurationError`."
    )
    table = _options_table(DynamoDBOutbox, _outbox_with, skip=("client", "clock", "random"))
    return _page(
        "Outboxes",
        "An outbox stores events: `DynamoDBOutbox` in a DynamoDB table, `InMemoryOutbox` in memory, for tests. Both "
        "also have the methods of [the port](adapter.md), which the bus calls.",
        f"## Options\n\n{options}\n\n{table}",
        *(_section(name, without=port) for name in OUTBOX_NAMES),
    )


class _NoClient:
    """Takes the place of a client: nothing is sent while options are checked."""

    meta = None
    put_item = None


def _outbox_with(**options: Any) -> None:
    client: Any = _NoClient()
    DynamoDBOutbox(client, **{"table_name": "events", **options})


def _events_page() -> str:
    return _page(
        "Events, deliveries and transactions",
        reference_intros.EVENTS,
        *_sections(EVENT_NAMES),
    )


def _adapter_page() -> str:
    names = sorted(name for name, thing in public_names().items() if page_of(name, thing) == "adapter.md")
    return _page(
        "The port, for authors of adapters",
        reference_intros.ADAPTER,
        *map(_section, names),
    )


def _errors_page() -> str:
    tree = inspect.cleandoc(errors.__doc__ or "").partition("\n\n")[2].rstrip()
    names = [name for name in re.findall(r"\b[A-Z]\w+Error\b", tree) if hasattr(errors, name)]
    return _page(
        "Errors",
        f"{reference_intros.ERRORS}\n\n```text\n{tree}\n```",
        *(_error_section(getattr(errors, name)) for name in dict.fromkeys(names)),
        _section("CancellationReason"),
    )


def _error_section(error: type[errors.OutboxError]) -> str:
    bases = [f"`{base.__name__}`" for base in error.__bases__ if base is not Exception]
    parts = [f"## {error.__name__}", *([f"A kind of {' and of '.join(bases)}."] if bases else []), docstring_of(error)]
    attributes = [f"`{field}`" for field in attributes_of(error)]
    if any(attributes_of(base) for base in error.__mro__[1:] if issubclass(base, errors.OutboxError)):
        attributes.append(f"and what {bases[0]} has")
    if attributes:
        parts.append(f"Attributes: {', '.join(attributes)}.")
    if message := message_of(error):
        parts.append(f"For example:\n\n```text\n{message}\n```")
    return "\n\n".join(parts)


def _observations_page() -> str:
    kinds = get_args(Observation)
    return _page(
        "Observations",
        "An observer is called with an observation for everything that happens; see "
        f"[observing](../how-to/observing.md). The classes are in the module `{observers.__name__}`. Times whose "
        "names end in `_at` are epoch seconds; `seconds`, `delay` and `retry_in` are seconds; `attempt` counts from 1.",
        *map(_section, OBSERVER_NAMES),
        *(f"{_section(kind.__name__)}\n\n`LoggingObserver` logs it as {log_level_of(kind)}." for kind in kinds),
    )


def _sections(names: Collection[str]) -> Iterator[str]:
    return (_section(name) for name in names if name in public_names())


def _section(name: str, *, extra: str = "", without: Collection[str] = (), thing: Any = None, title: str = "") -> str:
    """Render one public name: its signature or fields, its docstring, and its methods."""
    thing = thing or public_names()[name]
    title = f"### {title}" if title else f"## {name}"
    if inspect.isfunction(thing):
        return f"{title}\n\n{_code(signature_of(thing))}\n\n{docstring_of(thing)}"
    if not inspect.isclass(thing):
        definition, about = alias_of(name)
        return f"{title}\n\n{_code(definition)}\n\n{about}"
    parts = [title, _definition(thing), docstring_of(thing), extra]
    for member, function in members_of(thing):
        if member not in without and f"{name}.{member}" not in INTERNAL:
            parts += [f"### {name}.{member}", _code(signature_of(function)), docstring_of(function)]
    return "\n\n".join(part for part in parts if part)


def _definition(cls: type) -> str:
    """Render the fields of a class or its constructor, where users make or read its objects that way."""
    if issubclass(cls, Enum):
        return ", ".join(f"`{member.name}`" for member in cls) + "."
    if dataclasses.is_dataclass(cls):
        decorators = [f"@{text_of(each)}\n" for each in node_of(cls).decorator_list]
        fields = "".join(f"\n    {field}" for field in fields_of(cls))
        return _code(f"{''.join(decorators)}class {cls.__name__}:{fields or ' ...'}")
    is_protocol = getattr(cls, "_is_protocol", False)
    if "__init__" in vars(cls) and cls.__name__ not in NOT_CONSTRUCTED and not is_protocol:
        body = "".join(f"\n    {line}" for line in signature_of(vars(cls)["__init__"]).splitlines())
        return _code(f"class {cls.__name__}:{body}")
    return ""


def _code(text: str) -> str:
    return f"<!-- fragment -->\n```python\n{text}\n```"


def _options_table(cls: Any, make: Callable[..., Any], *, skip: Collection[str] = ()) -> str:
    """Render a table of options. The range of each is what the code that checks it says of a bad value."""
    meanings = options_of(cls) | (options_of(OutboxKwargs) if cls is DynamoDBOutbox else {})
    fields = fields_of(cls) if is_typeddict(cls) else list(parameters_of(node_of(vars(cls)["__init__"])))
    in_memory = inspect.signature(InMemoryOutbox).parameters if cls is DynamoDBOutbox else {}
    rows = ["| option | type | default | unit | range | meaning |", "|---|---|---|---|---|---|"]
    for field in fields:
        if not field.annotation or field.name in skip:
            continue
        unit, accepted = _unit_and_range(range_of(make, field.name))
        default, meaning = _default_and_meaning(field, meanings[field.name])
        mark = " *" if field.name in in_memory else ""
        cells = (f"`{field.name}`{mark}", f"`{field.annotation}`", default, unit, accepted, meaning)
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(rows)


def _default_and_meaning(field: Field, meaning: str) -> tuple[str, str]:
    """Take the default from the signature, or from a sentence of the meaning that says it."""
    if said := re.search(r" The default is (.*?)\.(?=$| [A-Z])", meaning):
        return said[1], meaning.replace(said[0], "")
    return ("required" if field.default is None else f"`{field.default}`"), meaning


def _unit_and_range(accepted: str) -> tuple[str, str]:
    found = re.fullmatch(r"a (whole number|number of seconds) from (.*)", accepted)
    if found is None:
        return "", accepted
    return ("seconds" if "seconds" in found[1] else ""), found[2]


def _with_links(text: str, page: str) -> str:
    """Make a link of each public name in backticks in prose; code blocks and headings have none."""
    names = public_names()

    def link(match: re.Match[str]) -> str:
        if match[1] not in names:
            return match[0]
        target = page_of(match[1], names[match[1]])
        return f"[`{match[1]}`]({'' if target == page else target}#{match[1].lower()})"

    return "".join(_outside_code(text, lambda prose: re.sub(r"(?<!\[)`(\w+)`", link, prose)))


def _outside_code(text: str, change: Callable[[str], str]) -> Iterator[str]:
    for index, part in enumerate(re.split(r"(^```.*?^```$)", text, flags=re.DOTALL | re.MULTILINE)):
        yield part if index % 2 else change(part)


if __name__ == "__main__":
    main()
