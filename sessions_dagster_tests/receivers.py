"""Receivers of alerts on the loopback interface: an HTTP server and a mail server, real ones and small."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any
from urllib.parse import parse_qs


@dataclass
class HttpReceiver:
    """An HTTP server that keeps what is posted to it.

    Attributes:
        url: Where it is.
        status: What it answers.
        location: Where a redirecting answer points to.
        bodies: What it got.
        paths: Where each of them was posted to.
    """

    url: str = ""
    status: int = 200
    location: str = ""
    bodies: list[bytes] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    @property
    def alerts(self) -> list[dict[str, Any]]:
        return [json.loads(body) for body in self.bodies]

    @property
    def forms(self) -> list[dict[str, str]]:
        """What was posted as JSON or as a form, which is how the client of Slack does it."""
        return [
            json.loads(body) if body.startswith(b"{") else {k: v[0] for k, v in parse_qs(body.decode()).items()}
            for body in self.bodies
        ]


@contextmanager
def http_receiver() -> Iterator[HttpReceiver]:
    received = HttpReceiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            received.paths.append(self.path)
            self.send_response(received.status)
            if received.location:
                self.send_header("Location", received.location)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(b'{"ok": true}')

        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Nothing on the console."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        received.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield received
        server.shutdown()


@dataclass
class MailReceiver:
    """A mail server without encryption that keeps the messages.

    Attributes:
        address: Its host and port.
        commands: All commands that it got.
        messages: The messages.
        recipients: Whom they were for.
    """

    address: str = ""
    commands: list[str] = field(default_factory=list)
    messages: list[EmailMessage] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)


@contextmanager
def mail_receiver() -> Iterator[MailReceiver]:
    received = MailReceiver()

    class Handler(StreamRequestHandler):
        def answer(self, line: str) -> None:
            self.wfile.write(f"{line}\r\n".encode())

        def handle(self) -> None:
            self.answer("220 here")
            while line := self.rfile.readline().decode().strip():
                received.commands.append(line)
                verb = line.split(" ")[0].split(":")[0].upper()
                if verb == "RCPT":
                    received.recipients.append(line.split("<")[1].rstrip(">"))
                if verb == "DATA":
                    self.answer("354 go on")
                    lines = []
                    while (text := self.rfile.readline()) != b".\r\n":
                        lines.append(text)
                    message = message_from_bytes(b"".join(lines), policy=policy.default)
                    received.messages.append(message)
                self.answer("221 bye" if verb == "QUIT" else "250 ok")
                if verb == "QUIT":
                    return

    with ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        received.address = f"127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield received
        server.shutdown()


def closed_port() -> int:
    """A port of the loopback interface where nobody listens."""
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        port: int = asked.getsockname()[1]
        return port
