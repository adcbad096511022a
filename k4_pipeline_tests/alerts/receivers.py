"""A web hook on this machine that keeps what it got; slow, refusing or away when told to be."""

from __future__ import annotations

import contextlib
import http.server
import json
import re
import threading
import time
from collections.abc import Iterator


class Receiver:
    """`url`: its Apprise address; `messages`: what it took, as sent."""

    def __init__(self, *, delay: float = 0.0) -> None:
        self.messages: list[dict] = []
        self.status, self.delay = 200, delay
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                time.sleep(outer.delay)
                if outer.status == 200:
                    outer.messages.append(body)
                self.send_response(outer.status)
                self.end_headers()

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"json://127.0.0.1:{self.server.server_port}/"

    def facts(self) -> list[str]:
        """The id of every fact in every message, as often as it came."""
        found = []
        for message in self.messages:
            found += re.findall(r"\[([0-9a-f]{16})\]|Fact ([0-9a-f]{16})", message["message"])
        return [a or b for a, b in found]


@contextlib.contextmanager
def receiver(**options: float) -> Iterator[Receiver]:
    """A receiver that listens for the length of the block."""
    made = Receiver(**options)
    thread = threading.Thread(target=made.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.server.shutdown()
        made.server.server_close()
