"""An outbox with other times than those of production."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from dynamodb_outbox import DynamoDBOutbox
from dynamodb_outbox.dynamodb.parts import Parts

if TYPE_CHECKING:
    from dynamodb_outbox.dynamodb.timing import Timing

OutboxT = TypeVar("OutboxT", bound=DynamoDBOutbox)


def timing_of(outbox: DynamoDBOutbox) -> Timing:
    """The times of an outbox."""
    return outbox._parts.timing


def with_timing(outbox: OutboxT, **times: Any) -> OutboxT:
    """Give an outbox, before it is used, other times: the fields of `Timing`."""
    timing = replace(timing_of(outbox), **times)
    outbox._parts = Parts.compose(outbox._client, outbox._config, outbox._options, outbox._observers, timing=timing)
    return outbox
