"""An engine for the demo: a moto server in a process of its own, on a free port."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from moto.moto_server.werkzeug_app import MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

from examples.demo.processes import Children, end_with_parent, first_line
from examples.demo.quick_moto import take_shortcuts

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


async def start_engine(children: Children, *, log: Path) -> str:
    """Start a moto server; its endpoint, once it listens. Raises `DemoError`."""
    return await first_line(children.start("the moto server", "examples.demo.engine", [], log=log))


def use_fake_credentials(*, endpoint: str | None) -> None:
    """Let this process and its children sign with fakes, where nobody looks at them and there are no others."""
    real = ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_SHARED_CREDENTIALS_FILE")
    has_real = any(os.environ.get(name) for name in real) or (Path.home() / ".aws" / "credentials").exists()
    is_aws = endpoint is not None and "amazonaws.com" in endpoint
    if not has_real and not is_aws:
        os.environ |= {"AWS_ACCESS_KEY_ID": "demo", "AWS_SECRET_ACCESS_KEY": "demo"}


class OneAtATime:
    """Serves one request after the other.

    moto checks the condition of a write and applies it in two steps that nothing guards: two threads of its
    server could both find a condition true, which DynamoDB excludes.
    """

    def __init__(self, application: WSGIApplication) -> None:
        self._application = application
        self._lock = Lock()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        with self._lock:
            return self._application(environ, start_response)


def main() -> None:
    """Serve until the parent ends; the first line of the output is the endpoint."""
    end_with_parent()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    application = OneAtATime(create_backend_app("dynamodb"))
    take_shortcuts()
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=MotoRequestHandler)
    print(f"http://127.0.0.1:{server.port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
