"""The public names are a promise: a change here is a change for users."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import dynamodb_outbox
from dynamodb_outbox import errors

REPOSITORY = Path(__file__).resolve().parents[2]
ROOT = {
    "Backoff", "CallNext", "Check", "Count", "Delivery", "DynamoDBOutbox", "Event", "EventState", "EventStatus",
    "ExponentialBackoff", "FailedEvent", "FixedBackoff", "Handler", "HandlerOptions", "Health", "HealthOptions",
    "HealthStatus", "InMemoryOutbox", "LoggingObserver", "Middleware", "Observer", "OutboxEventBus", "Page", "Reject",
    "RetryLater", "Sample", "Sampler", "StoredEvent", "Transaction", "FailedSelector", "Hold", "Repaired",
    "EventType", "event_type", "upcast",
}  # fmt: skip
ERRORS = {
    "CancellationReason", "ClientClosedError", "ConfigurationError", "CredentialsError", "DeliveryError",
    "DuplicateEventError", "DuplicateHandlerError", "EventTooLargeError", "HandlerError", "HandlerStuckError",
    "HandlerTimeoutError", "IndexNotFoundError", "InvalidEventError", "InvalidRequestError",
    "ItemTooLargeError", "LeaseLostError", "LoopBlockedError",
    "MiddlewareError", "NoHandlerError", "OutboxError", "PartialPublishError", "PollingError", "PublishError",
    "RecoveryError", "RepairRefusedError",
    "SettleError", "StorageError", "StoredEventError", "TableMismatchError", "TableNotFoundError",
    "TargetError", "ThrottledError", "TransactionCancelledError", "TransactionTooLargeError", "UnavailableError",
    "UnstorableValueError", "UsageError", "WaitTimeoutError", "WindowLostError",
    "InvalidPayloadError", "UnknownVersionError", "UnregisteredClassError",
    "WorkerError",
}  # fmt: skip
OBSERVERS = {
    "ClaimRefused", "Claimed", "EventCompleted", "EventFailed", "EventRecovered", "EventReleased", "HandlerCancelled",
    "HandlerFailed", "HandlerStarted", "HandlerSucceeded", "HandlersDiffer", "KeyBlocked", "KeyUnblocked",
    "LeaseLost", "LeaseRenewed",
    "LoggingObserver", "Observation", "Observer", "Polled", "PollingFailed", "PublishFailed", "Published",
    "RetryScheduled", "SettleFailed", "StorageCalled", "Throttled", "WindowLost", "WindowOpened", "WindowRecovered",
}  # fmt: skip
ADAPTER = {
    "LEASE_EXPIRED", "LEASE_EXPIRED_TYPE", "MAX_ERROR_CHARS", "OUTCOME_NAMES", "RENEWAL", "SETTLED_FROM", "TRANSACTION",
    "Claim", "Completed", "EmitClaim", "Failed", "FailedKey", "HandlerDone", "Item", "LeaseMember", "Numbers",
    "Observers",
    "OnError", "Outbox", "OutboxOptions", "Outcome", "Recovered", "Released", "Report", "Retry", "Settled",
    "SharedLease",
    "TransactionWrite", "DISCARDABLE", "Fence", "Held", "Hold", "Repaired", "fence_of", "fences_of",
    "counted_status", "decode_event", "encode_event", "listed_state", "raise_unless_stored", "refuse_repeated_ids",
    "sample_of", "state_of",
}  # fmt: skip
WEB = {
    "OPERATOR", "VIEWER", "Access", "Authorize", "Dashboard", "Redact", "Request", "Response", "Role",
    "anyone_may_view", "outbox_dashboard", "serve",
}  # fmt: skip
PUBLIC = {
    "dynamodb_outbox": ROOT | ERRORS,
    "dynamodb_outbox.adapter": ADAPTER,
    "dynamodb_outbox.errors": ERRORS,
    "dynamodb_outbox.integrations.aiohttp": {"health_routes"},
    "dynamodb_outbox.integrations.emf": {"EmfObserver"},
    "dynamodb_outbox.integrations.fastapi": {"health_routes"},
    "dynamodb_outbox.integrations.opentelemetry": {"instrument", "uninstrument"},
    "dynamodb_outbox.observers": OBSERVERS,
    "dynamodb_outbox.publishers": {
        "EventBridgePublisher",
        "FastStreamPublisher",
        "KinesisPublisher",
        "MessageFormat",
        "SnsPublisher",
        "SqsPublisher",
    },
    "dynamodb_outbox.web": WEB,
}
"""The public modules and their names. Every other module is private."""


def error_classes() -> set[str]:
    return {name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception)}


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_of_a_module(module: str) -> None:
    exported = importlib.import_module(module).__all__
    assert set(exported) == PUBLIC[module]
    assert len(exported) == len(set(exported))
    assert all(hasattr(importlib.import_module(module), name) for name in exported)


def test_public_modules_are_those_that_the_package_names() -> None:
    named = set(re.findall(r"`(dynamodb_outbox\.[\w.]+)`", dynamodb_outbox.__doc__ or ""))
    assert named == PUBLIC.keys() - {"dynamodb_outbox"}


def test_import_of_the_package_imports_no_integration() -> None:
    program = (
        "import sys, dynamodb_outbox; "
        "apart = ('dynamodb_outbox.integrations', 'dynamodb_outbox.publishers', 'dynamodb_outbox.web'); "
        "print([name for name in sys.modules if name.startswith(apart)], "
        "[name for name in ('fastapi', 'starlette', 'opentelemetry', 'jinja2', 'uvicorn', "
        "'pydantic', 'msgspec', 'attr') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[] []"


def test_documentation_and_examples_import_public_names_only() -> None:
    imports = 0
    for file in (path for folder in ("docs", "examples") for path in (REPOSITORY / folder).rglob("*")):
        if file.suffix in {".md", ".py", ".ipynb"}:
            for module, names in re.findall(
                r"from (dynamodb_outbox[\w.]*) import (\([^)]*\)|[\w, ]+)", file.read_text()
            ):
                assert module in PUBLIC, (file, module)
                assert set(re.findall(r"\w+", names)) <= PUBLIC[module], (file, names)
                imports += 1
    assert imports > 20


def test_no_module_has_an_error_that_users_cannot_import() -> None:
    for module in pkgutil.walk_packages(dynamodb_outbox.__path__, "dynamodb_outbox."):
        importlib.import_module(module.name)
    below = [errors.OutboxError]
    while below:
        error = below.pop()
        below += error.__subclasses__()
        if error.__module__.startswith("dynamodb_outbox."):
            assert error.__name__ in ERRORS, f"{error.__module__}.{error.__name__} may reach users, but is private"


def test_every_error_has_one_root_and_stands_in_the_tree_of_the_docstring() -> None:
    assert errors.__doc__ is not None
    for name in error_classes():
        assert issubclass(getattr(errors, name), errors.OutboxError)
        assert f" {name}" in errors.__doc__ or name == "OutboxError", name


def test_errors_about_events_and_errors_about_dynamodb_are_two_branches() -> None:
    about_events = {
        "DuplicateEventError", "EventTooLargeError", "InvalidEventError", "PartialPublishError", "PublishError",
        "TransactionCancelledError", "TransactionTooLargeError", "UnregisteredClassError", "UnstorableValueError",
    }  # fmt: skip
    assert {name for name in error_classes() if issubclass(getattr(errors, name), errors.PublishError)} == about_events
    assert not any(issubclass(getattr(errors, name), errors.StorageError) for name in about_events)


def test_tree_of_the_docstring_has_each_error_below_its_base() -> None:
    below: list[str] = []
    for indent, name in re.findall(r"^([│ ]*[├└]── |)(\w+Error)\b", errors.__doc__ or "", re.MULTILINE):
        below[len(indent) // 4 :] = [name]
        if len(below) > 1:
            assert getattr(errors, name).__bases__[0].__name__ == below[-2], name


def test_every_public_thing_is_documented() -> None:
    for name in dynamodb_outbox.__all__:
        thing = getattr(dynamodb_outbox, name)
        if not inspect.isclass(thing):
            continue
        assert thing.__doc__, name
        for attribute, value in vars(thing).items():
            if not attribute.startswith("_") and inspect.isfunction(value):
                assert value.__doc__, f"{name}.{attribute}"
