"""The stored form of typed events: what an emit stores of an instance, and what a handler gets of it."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Final

from dynamodb_outbox.errors import (
    InvalidPayloadError,
    UnknownVersionError,
    UnregisteredClassError,
    UnstorableValueError,
)
from dynamodb_outbox.event import Event
from dynamodb_outbox.typed.event_types import EventType, registered_type
from dynamodb_outbox.typed.kinds import class_name, is_payload_of
from dynamodb_outbox.typed.mismatch import Mismatch
from dynamodb_outbox.wording import describe, shape

VERSION: Final = "schemaVersion"
"""The key of the metadata that has the version of the payload. An event without it has version 1."""


def to_stored(type_or_instance: Any, payload: Any, metadata: Any) -> tuple[Any, Any, Any]:
    """Return the type, the payload and the metadata that an emit stores.

    The arguments are a type and a payload, an `EventType` and a payload, or an instance of a registered class. Raises
    `UnregisteredClassError` for any other instance, and `UnstorableValueError` for an instance that is invalid.
    """
    if isinstance(type_or_instance, str):
        return type_or_instance, payload, metadata
    if isinstance(type_or_instance, EventType):
        return _stored(type_or_instance, payload, metadata)
    kind = type(type_or_instance)
    registered = registered_type(kind)
    if registered is None:
        if isinstance(type_or_instance, type) and type_or_instance.__module__ != "builtins":
            reason = f"{class_name(type_or_instance)} is a class; emit an instance of it"
            raise UnstorableValueError(path="payload", reason=reason)
        if kind.__module__ == "builtins":
            return type_or_instance, payload, metadata  # `Event` refuses it
        raise UnregisteredClassError(payload_class=kind)
    if payload is not None:
        raise UnstorableValueError(
            path="payload", reason=f"an instance of {class_name(kind)} is the payload; leave out the second argument"
        )
    return _stored(registered, type_or_instance, metadata)


def _stored(event_type: EventType[Any], payload: Any, metadata: Any) -> tuple[str, Any, Any]:
    from dynamodb_outbox.typed.plain import to_plain  # noqa: PLC0415 - programs without classes do not pay

    try:
        plain = to_plain(payload)
    except Exception as error:  # of a serializer
        # Without the text of the error, which shows the value.
        reason = f"its class cannot serialize it ({type(error).__name__}); validate the instance before the emit"
        raise UnstorableValueError(path="payload", reason=reason) from error
    if not is_payload_of(payload, event_type.payload_class):
        reason = f"it must be {class_name(event_type.payload_class)}, not {shape(payload)}"
        raise UnstorableValueError(path="payload", reason=reason)
    if not isinstance(plain, dict):
        reason = f"{class_name(event_type.payload_class)} becomes {shape(plain)}; use a class that becomes a dict"
        raise UnstorableValueError(path="payload", reason=reason)
    if isinstance(metadata, Mapping) or metadata is None:
        # Metadata that a handler passes on have the version of another payload.
        metadata = {key: value for key, value in (metadata or {}).items() if key != VERSION}
        if event_type.version > 1:
            metadata[VERSION] = event_type.version
    return event_type.name, plain, metadata


def from_stored(event: Event, event_type: EventType[Any]) -> Any:
    """Return the payload of a stored event as an instance of the class.

    Raises `UnknownVersionError` for a version that the class does not know yet, and `InvalidPayloadError` for a
    payload that is not valid, or that an upcaster cannot change.
    """
    version = event.metadata.get(VERSION, 1)
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        reason = f"it must be a whole number from 1, not {version if type(version) is int else shape(version)}"
        raise _invalid(event, event_type, path=f"metadata.{VERSION}", reason=reason)
    if version > event_type.version:
        raise UnknownVersionError(event_id=event.id, event_type=event.type, version=version, known=event_type.version)
    payload = event.payload
    if version < event_type.version:
        payload = _upcast(event, event_type, version)
    try:
        return event_type.read(payload)
    except Mismatch as error:
        raise _invalid(event, event_type, path=error.path(), reason=error.reason) from error


def _upcast(event: Event, event_type: EventType[Any], version: int) -> Any:
    payload = deepcopy(event.payload)  # an upcaster may change it, and other handlers get the stored payload
    for step, upcaster in enumerate(event_type.upcasters_from(version), start=version):
        try:
            payload = upcaster(payload)
        except Exception as error:  # of the user's upcaster
            reason = f"the upcaster from version {step} raised {describe(error)}"
            raise _invalid(event, event_type, path="payload", reason=reason) from error
        if payload is None:
            reason = f"the upcaster from version {step} returned None; it must return the new payload"
            raise _invalid(event, event_type, path="payload", reason=reason)
    return payload


def _invalid(event: Event, event_type: EventType[Any], *, path: str, reason: str) -> InvalidPayloadError:
    return InvalidPayloadError(
        event_id=event.id,
        event_type=event.type,
        payload_class=class_name(event_type.payload_class),
        path=path,
        reason=reason,
    )
