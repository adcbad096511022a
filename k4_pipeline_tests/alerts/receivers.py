"""A web hook and a mail server on this machine that keep what they got; slow, refusing or dying when told to."""

from __future__ import annotations

import contextlib
import http.server
import json
import re
import socketserver
import threading
import time
from collections.abc import Iterator


class Receiver:
    """`url`: its Apprise address; `messages`: what it took, as sent."""

    def __init__(self, *, delay: float = 0.0) -> None:
        self.messages: list[dict] = []
        self.status, self.delay, self.dies = 200, delay, False
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                time.sleep(outer.delay)
                if outer.dies:
                    self.close_connection = True  # read, and no answer: nobody knows whether it was taken
                    return
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


class MailServer:
    """A mail server on this machine; `mode`: ok, refuse (4xx after the text), die (hangs up inside the text), slow."""

    def __init__(self) -> None:
        self.mails: list[str] = []
        self.mode = "ok"
        outer = self

        class Handler(socketserver.StreamRequestHandler):
            def say(self, text: str) -> None:
                self.wfile.write(f"{text}\r\n".encode())

            def handle(self) -> None:
                time.sleep(1.0 if outer.mode == "slow" else 0.0)
                self.say("220 ready")
                while line := self.rfile.readline():
                    word = line[:4].upper()
                    if word == b"DATA":
                        self.say("354 go on")
                        if outer.mode == "die":
                            return
                        text = b""
                        while (line := self.rfile.readline()) not in (b".\r\n", b""):
                            text += line
                        if outer.mode == "refuse":
                            self.say("452 too little space")
                            continue
                        outer.mails.append(text.decode())
                    self.say("221 bye" if word == b"QUIT" else "250 fine")
                    if word == b"QUIT":
                        return

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        port = self.server.server_address[1]
        self.url = f"mailto://127.0.0.1:{port}?from=k4@example.org&to=you@example.org&mode=insecure"


@contextlib.contextmanager
def mail_server() -> Iterator[MailServer]:
    """A mail server that listens for the length of the block."""
    made = MailServer()
    thread = threading.Thread(target=made.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.server.shutdown()
        made.server.server_close()
