"""Serves the style sheet, the script and the icon."""

from __future__ import annotations

from dynamodb_outbox.web.http import Response
from dynamodb_outbox.web.router import Page
from dynamodb_outbox.web.site import Visit
from dynamodb_outbox.web.static import FILES, content_type


def asset(name: str) -> Page:
    """Make the page of a file. Its link has the hash of the files, so a browser may keep it for a day."""

    async def serve(visit: Visit) -> Response:
        headers = {"content-type": content_type(name), "cache-control": "private, max-age=86400"}
        return Response(FILES[name], 200, headers)

    return serve
