"""Messages of storage errors: what was not applied, which table, which credentials."""

from __future__ import annotations

import pytest
from botocore.exceptions import (
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
)

from dynamodb_outbox import ClientClosedError, CredentialsError, ThrottledError, UnavailableError
from dynamodb_outbox.dynamodb.transport.classify import fatal_error, with_maybe_applied
from reliability.simulation.responses import client_error


def unavailable(operation: str) -> UnavailableError:
    return UnavailableError(
        operation=operation, attempts=11, reason="no answer", maybe_applied=False, table_name="events-outbox"
    )


def test_failed_read_says_nothing_of_what_was_applied() -> None:
    assert str(unavailable("query")).startswith("query on table 'events-outbox' failed 11 times: no answer; check")
    assert "applied" not in str(with_maybe_applied(unavailable("get_item")))
    throttled = ThrottledError(operation="query", attempts=1, reason="slow", maybe_applied=True)
    assert str(throttled).startswith("query was throttled once until its deadline: slow; ")


def test_failed_write_says_whether_it_was_applied_and_keeps_its_table() -> None:
    error = unavailable("put_item")
    assert "put_item on table 'events-outbox' failed 11 times (it was not applied): no answer" in str(error)
    doubted = with_maybe_applied(error)
    assert "put_item on table 'events-outbox' failed 11 times (it may have been applied): no answer" in str(doubted)


@pytest.mark.parametrize("message", ["Session is closed", "Future attached to a different loop"])
def test_closed_client_names_the_table(message: str) -> None:
    error = fatal_error(RuntimeError(message), operation="query", table_name="events-outbox", index_name="i")
    assert isinstance(error, ClientClosedError)
    assert error.table_name == "events-outbox"
    assert "(table 'events-outbox')" in str(error)


def test_missing_credentials_are_not_a_permission() -> None:
    error = fatal_error(NoCredentialsError(), operation="put_item", table_name="t", index_name="i")
    assert isinstance(error, CredentialsError)
    assert error.missing is True
    assert str(error).startswith("put_item failed: the AWS SDK found no credentials (Unable to locate credentials); ")


@pytest.mark.parametrize(
    "cause",
    [
        PartialCredentialsError(provider="env", cred_var="AWS_SECRET_ACCESS_KEY"),
        CredentialRetrievalError(provider="sso", error_msg="expired"),
        client_error("ExpiredTokenException", "expired", operation="put_item"),
        client_error("AccessDeniedException", "no", operation="put_item"),
    ],
    ids=lambda cause: getattr(cause, "response", {}).get("Error", {}).get("Code", type(cause).__name__),
)
def test_credentials_that_were_found_are_not_missing(cause: Exception) -> None:
    error = fatal_error(cause, operation="put_item", table_name="t", index_name="i")
    assert isinstance(error, CredentialsError)
    assert error.missing is False
    assert str(error).startswith("put_item was not allowed: ")


def test_refusal_names_its_reason() -> None:
    refused = CredentialsError(operation="put_item", reason="AccessDenied: no")
    assert not refused.missing
    assert str(refused).startswith("put_item was not allowed: AccessDenied: no; ")
    assert refused.action is None


@pytest.mark.parametrize("action", ["dynamodb:PutItem", "dynamodb:PartiQLDelete"])
def test_refusal_names_the_action_to_allow(action: str) -> None:
    reason = f"User: arn:aws:sts::1:assumed-role/worker/1 is not authorized to perform: {action} on resource: arn:t"
    error = CredentialsError(operation="put_item", reason=reason)
    assert error.action == action
    assert f"; allow {action}, as the library's IAM policy template does" in str(error)
    assert ('conditional_writes="auto"' in str(error)) is ("PartiQL" in action)
