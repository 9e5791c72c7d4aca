"""A dashboard for an outbox, for the browser: what waits, what failed and why, and what to do about it.

app.mount("/outbox", outbox_dashboard(bus, authorize=authorize))

It needs `pip install "dynamodb-outbox[web]"`. `outbox_dashboard(...)` is an ASGI application; its method
`aiohttp_app()` makes an aiohttp application. `serve` runs it alone, as `dynamodb-outbox web` does.
"""

from dynamodb_outbox.web.access import OPERATOR, VIEWER, Access, Authorize, Role, anyone_may_view
from dynamodb_outbox.web.dashboard import Dashboard, outbox_dashboard
from dynamodb_outbox.web.http import Request, Response
from dynamodb_outbox.web.redaction import Redact
from dynamodb_outbox.web.serving import serve

__all__ = [
    "OPERATOR",
    "VIEWER",
    "Access",
    "Authorize",
    "Dashboard",
    "Redact",
    "Request",
    "Response",
    "Role",
    "anyone_may_view",
    "outbox_dashboard",
    "serve",
]
