"""The reference page of `dynamodb_outbox.publishers`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final

from dynamodb_outbox import publishers
from tools.api_source import node_of, options_of, parameters_of

INTRO: Final = """\
The module `dynamodb_outbox.publishers` is imported by itself. The guides: \
[SQS](../how-to/publish-to-sqs.md), [SNS](../how-to/publish-to-sns.md), \
[EventBridge](../how-to/publish-to-eventbridge.md), [Kinesis](../how-to/publish-to-kinesis.md), \
[NATS, Redis, RabbitMQ and Kafka](../how-to/publish-to-brokers.md)."""


def publishers_page(section: Callable[..., str]) -> str:
    """Render the page. `section` renders one name."""
    things = {name: getattr(publishers, name) for name in publishers.__all__}
    classes = {name: thing for name, thing in things.items() if inspect.isclass(thing)}
    sections = [section(name, thing=thing, extra=_options_table(thing)) for name, thing in classes.items()]
    return "\n\n".join(["# Publishers", INTRO, *sections])


def _options_table(cls: Any) -> str:
    meanings = options_of(cls)
    defaults = {
        field.name: field.default for field in parameters_of(node_of(vars(cls)["__init__"])) if field.annotation
    }
    rows = [
        f"| `{name}` | {'' if defaults[name] is None else f'`{defaults[name]}`'} | {meaning} |"
        for name, meaning in meanings.items()
    ]
    return "\n".join(["| option | default | meaning |", "|---|---|---|", *rows])
