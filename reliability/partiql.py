"""Checks statements against the PartiQL that AWS documents.

DynamoDB Local accepts more than DynamoDB. So statements are checked against the grammar of the simulated backend, which
implements only the documented language:
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ql-reference.insert.html
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ql-reference.update.html
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ql-functions.html
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ql-operators.html
"""

from __future__ import annotations

from reliability.proxy import Recorded, Reply, refused
from reliability.simulation.evaluation import UnknownExpressionError
from reliability.simulation.updates import parse_statement


def reason_against(statement: str) -> str | None:
    """Return why a statement is not documented PartiQL, or None."""
    try:
        parse_statement(statement)
    except UnknownExpressionError as error:
        return str(error)
    return None


def refuse_undocumented(request: Recorded) -> Reply | None:
    """Refuse a request with an undocumented statement. This is a rule for a proxy."""
    texts = [request.body["Statement"]] if "Statement" in request.body else []
    texts += [statement["Statement"] for statement in request.body.get("Statements", [])]
    reasons = [reason for text in texts if (reason := reason_against(text)) is not None]
    return refused("ValidationException", f"Statement wasn't well formed: {reasons[0]}") if reasons else None
