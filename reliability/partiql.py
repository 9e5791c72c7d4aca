"""The PartiQL that AWS documents, as far as the library uses it.

DynamoDB Local takes more than that. What it takes in addition may be refused by DynamoDB itself, so a statement is held
against the grammar of the simulated backend, which knows nothing but what is documented:
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ql-reference.update.html
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ql-functions.html
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ql-operators.html
"""

from __future__ import annotations

from reliability.proxy import Recorded, Reply, refused
from reliability.simulation.evaluation import UnknownExpressionError
from reliability.simulation.updates import parse_statement


def reason_against(statement: str) -> str | None:
    """Say why a statement is not documented PartiQL; None if it is."""
    try:
        parse_statement(statement)
    except UnknownExpressionError as error:
        return str(error)
    return None


def refuse_undocumented(request: Recorded) -> Reply | None:
    """Refuse a whole request that has an undocumented statement: a rule of a proxy."""
    texts = [request.body["Statement"]] if "Statement" in request.body else []
    texts += [statement["Statement"] for statement in request.body.get("Statements", [])]
    reasons = [reason for text in texts if (reason := reason_against(text)) is not None]
    return refused("ValidationException", f"Statement wasn't well formed: {reasons[0]}") if reasons else None
