"""The reference pages are what the docstrings say today, and describe every public name."""

from __future__ import annotations

import re

import pytest

from dynamodb_outbox import DynamoDBOutbox, Event, InMemoryOutbox, OutboxEventBus, errors
from dynamodb_outbox.dynamodb.config import OutboxKwargs
from tools import api_samples, api_source, reference

GENERATED = reference.render_pages()
HAND_WRITTEN = {"item-format.md", "command-line.schema.json"}


def headings(page: str) -> list[str]:
    return re.findall(r"^#+ (.*)$", GENERATED[page], re.MULTILINE)


@pytest.mark.parametrize("page", GENERATED)
def test_page_is_current(page: str) -> None:
    assert (reference.FOLDER / page).read_text(encoding="utf-8") == GENERATED[page], "run `make reference`"


def test_every_page_is_generated_or_known() -> None:
    assert {path.name for path in reference.FOLDER.iterdir()} <= GENERATED.keys() | HAND_WRITTEN


def test_every_public_name_has_a_section_on_one_page() -> None:
    described = [heading for page in GENERATED for heading in headings(page)]
    for name in reference.public_names():
        assert described.count(name) == 1, name


def test_every_public_method_of_the_bus_has_a_section() -> None:
    methods = {name for name in vars(OutboxEventBus) if not name.startswith("_")}
    assert {f"OutboxEventBus.{name}" for name in methods} <= set(headings("bus.md"))


@pytest.mark.parametrize("page", GENERATED)
def test_links_lead_to_a_heading(page: str) -> None:
    for target, anchor in re.findall(r"\]\(([\w.-]*)#([\w-]+)\)", GENERATED[page]):
        assert anchor in [heading.lower().replace(".", "") for heading in headings(target or page)], (target, anchor)


def test_connect_takes_the_options_of_the_constructor() -> None:
    parameters = api_source.parameters_of(api_source.node_of(DynamoDBOutbox.__init__))
    options = {field.name: field.annotation for field in parameters if field.annotation}
    assert options.pop("client")
    assert options.pop("table_name")
    assert {field.name: field.annotation for field in api_source.fields_of(OutboxKwargs)} == options
    assert api_source.options_of(OutboxKwargs).keys() == options.keys()


def test_a_signature_shows_annotations_and_defaults_as_they_are_written() -> None:
    assert api_source.signature_of(OutboxEventBus.off_any) == "def off_any(self, handler: Handler) -> bool: ..."
    emit = api_source.signature_of(OutboxEventBus.emit)
    assert '\n    if_exists: Literal["raise", "ignore"] = "raise",\n' in emit
    assert emit.endswith(") -> Event | None: ...")


def test_a_default_that_a_function_makes_is_not_shown() -> None:
    fields = {field.name: field.default for field in api_source.fields_of(Event)}
    assert fields == {
        "type": None,
        "payload": "None",
        "_": None,
        "id": "...",
        "occurred_at": "...",
        "metadata": "...",
        "ordering_key": "None",
    }


def test_attributes_of_an_error_have_the_types_of_the_parameters_that_they_keep() -> None:
    kept = {field.name: field.annotation for field in api_source.attributes_of(errors.PartialPublishError)}
    assert kept == {"published": "list[Event]", "failed": "list[Event]", "causes": "dict[str, OutboxError]"}


def test_a_range_is_what_the_error_says() -> None:
    assert api_samples.range_of(InMemoryOutbox, "batch_size") == "a whole number from 1 to 1,000"
    with pytest.raises(api_samples.NoSampleError, match="accepts anything"):
        api_samples.range_of(dict, "batch_size")


def test_a_default_is_that_of_the_signature_or_what_the_docstring_says() -> None:
    page = GENERATED["bus.md"]
    assert "| `stop_timeout` | `float \\| None` | `20.0` | seconds |" in page
    assert "| `max_retries` | `int \\| None` | the outbox's `max_retries` |  | 0 to 100 |" in page


def test_a_parameter_without_a_sample_is_named() -> None:
    class UnknownError(errors.OutboxError):
        def __init__(self, *, planet: str) -> None:
            super().__init__(planet)

    with pytest.raises(api_samples.NoSampleError, match="'planet' of UnknownError"):
        api_samples.message_of(UnknownError)


def test_the_options_of_a_docstring_are_read_and_taken_out_of_its_prose() -> None:
    def documented() -> None:
        """Do something.

        It takes time.

        Args:
            speed: How fast
                it is.
            size: In bytes.
        """

    assert api_source.options_of(documented) == {"speed": "How fast it is.", "size": "In bytes."}
    assert api_source.docstring_of(documented) == "Do something.\n\nIt takes time."
