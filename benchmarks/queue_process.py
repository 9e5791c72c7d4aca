"""A process that answers like SQS, and keeps nothing: the CPU of the target is not that of the measured process."""

from __future__ import annotations

import hashlib
import socket
from uuid import uuid4

from aiohttp import web


async def _answer(request: web.Request) -> web.Response:
    successful = [
        {
            "Id": entry["Id"],
            "MessageId": str(uuid4()),
            "MD5OfMessageBody": hashlib.md5(entry["MessageBody"].encode(), usedforsecurity=False).hexdigest(),
        }
        for entry in (await request.json())["Entries"]
    ]
    return web.json_response({"Successful": successful}, content_type="application/x-amz-json-1.0")


def main() -> None:
    """Serve on a free port of the loopback interface, and print the port."""
    application = web.Application(client_max_size=2 << 20)
    application.router.add_post("/{path:.*}", _answer)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(listening.getsockname()[1], flush=True)  # noqa: T201 - the measuring process reads it
        web.run_app(application, sock=listening, print=None)


if __name__ == "__main__":
    main()
