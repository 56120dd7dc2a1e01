"""A real HTTP receiver on loopback that answers as a test says.

Holds: :func:`receiving`, for everything that posts somewhere.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Receiver:
    """What was posted, and what is answered.

    Attributes:
        url: where to post; its path is a secret, as Slack's is.
        status: what is answered from now on.
        tried: every body that arrived.
        taken: the bodies that were answered with a 2xx.
    """

    url: str
    secret: str
    status: int = 200
    tried: list[Any] = field(default_factory=list)
    taken: list[Any] = field(default_factory=list)

    @property
    def texts(self) -> list[str]:
        """The texts of the messages that were taken."""
        return [body["text"] for body in self.taken]


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Listen on a free port of loopback."""
    secret = "B0SECRETPART4711/xyzTopSecretHook"
    receiver = Receiver("", secret)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            receiver.tried.append(body)
            if self.path == f"/services/{secret}" and receiver.status < 300:
                receiver.taken.append(body)
            self.send_response(receiver.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (http.server's name)
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.url = f"http://127.0.0.1:{server.server_port}/services/{secret}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
