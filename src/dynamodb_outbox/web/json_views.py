"""Events, samples, groups and findings as JSON, for programs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, cast

from dynamodb_outbox import typed_json
from dynamodb_outbox.health import Health
from dynamodb_outbox.stored_events import Sample
from dynamodb_outbox.web.dead_letters import Group
from dynamodb_outbox.web.http import JSON, Response
from dynamodb_outbox.web.redaction import VisibleEvent
from dynamodb_outbox.web.verdict import Finding

SCHEMA: Final = 1
_TYPED: Final = frozenset({"payload", "metadata"})
_LEFT_OUT: Final = frozenset({"fence"})


def json_response(kind: str, values: Mapping[str, Any], *, status: int = 200) -> Response:
    """Answer with an object, as the command line does: with its kind, and the version of its schema."""
    return Response.of(typed_json.to_json({"schema": SCHEMA, "kind": kind, **values}) + "\n", JSON, status=status)


def event_json(seen: VisibleEvent) -> dict[str, Any]:
    """Write a stored event, without what the person may not see."""
    event = seen.event
    names = [one.name for one in dataclasses.fields(event) if one.name not in _LEFT_OUT]
    values = {name: getattr(event, name) for name in names}
    written = {name: value if name in _TYPED else plain(value) for name, value in values.items()}
    written["blocks_key"] = event.blocks_key
    if event.unreadable:
        written["occurred_at"] = None
    return written | ({"hidden": seen.hidden} if seen.hidden else {})


def sample_json(sample: Sample) -> dict[str, Any]:
    """Write a sample, with the ages that it implies."""
    written = {one.name: plain(getattr(sample, one.name)) for one in dataclasses.fields(sample)}
    return written | {"oldest_due_age": sample.oldest_due_age, "oldest_expired_age": sample.oldest_expired_age}


def health_json(health: Health) -> dict[str, Any]:
    """Write the health of a bus."""
    return {one.name: plain(getattr(health, one.name)) for one in dataclasses.fields(health)}


def finding_json(finding: Finding) -> dict[str, Any]:
    """Write a finding."""
    return {one.name: plain(getattr(finding, one.name)) for one in dataclasses.fields(finding)}


def group_json(group: Group) -> dict[str, Any]:
    """Write a group of dead letters, without an event of it."""
    return {
        "type": group.sample.type,
        "error_type": group.sample.error_type,
        "error_handler": group.sample.error_handler,
        "count": group.count,
        "blocked_keys": group.blocked_keys,
        "first": plain(group.first),
        "last": plain(group.last),
    }


def plain(value: Any) -> Any:
    """Write times, counts and collections as JSON has them."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, (set, frozenset)):
        return sorted(map(str, cast("set[Any]", value)))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {one.name: plain(getattr(value, one.name)) for one in dataclasses.fields(value)}
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        return [plain(item) for item in value]
    return value if value is None or isinstance(value, (str, int, float)) else str(value)
