"""A proxy in front of an S3 server: it counts requests, makes them slow, and does what a store does on a bad day."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from time import sleep
from typing import NamedTuple


class Request(NamedTuple):
    """A request as it comes in: the path has the bucket, the key and the query."""

    method: str
    path: str


class Fault(Enum):
    """What happens to a request instead of an answer."""

    SLOW_DOWN = "the store is busy: 503 SlowDown"
    NOT_THE_SAME = "the object is not the one that was asked for: 412"
    INTERNAL_ERROR = "the store fails: 500"
    NO_ANSWER = "it is done, but the connection ends before the answer"
    SAYS_DONE = "the store says that it is done, whatever the condition is: 200"


_ANSWERS = {
    Fault.SLOW_DOWN: (503, "SlowDown"),
    Fault.NOT_THE_SAME: (412, "PreconditionFailed"),
    Fault.INTERNAL_ERROR: (500, "InternalError"),
}

_FOR_ONE_CONNECTION = {"connection", "keep-alive", "transfer-encoding", "expect"}


def passed_on(request: Request) -> Fault | None:
    """Nothing happens to any request."""
    return None


@dataclass
class Proxy:
    """A running proxy, and what it does.

    Attributes:
        behind: The address of the server.
        requests: All requests so far.
        latency: How long each request takes besides, in seconds.
        fault: Says what happens to a request instead; None if it is passed on.
    """

    behind: str
    requests: list[Request] = field(default_factory=list)
    latency: float = 0
    fault: Callable[[Request], Fault | None] = passed_on
    address: str = ""


@contextmanager
def proxy_of(behind: str) -> Iterator[Proxy]:
    """A proxy of a server, until the context ends."""
    proxy = Proxy(behind)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline(65537)
            if not self.raw_requestline or not self.parse_request():
                self.close_connection = True
                return
            _serve(self, proxy)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxy.address = f"127.0.0.1:{server.server_port}"
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()


def _serve(handler: BaseHTTPRequestHandler, proxy: Proxy) -> None:
    request = Request(handler.command, handler.path)
    body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
    proxy.requests.append(request)
    sleep(proxy.latency)
    fault = proxy.fault(request)
    if fault is Fault.SAYS_DONE:
        _answer(handler, 200, [("ETag", '"00000000000000000000000000000000"'), ("Content-Length", "0")], b"")
        return
    if fault in _ANSWERS:
        status, code = _ANSWERS[fault]
        text = f"<Error><Code>{code}</Code><Message>{fault.value}</Message></Error>".encode()
        _answer(handler, status, [("Content-Type", "application/xml"), ("Content-Length", str(len(text)))], text)
        return
    headers = [(name, value) for name, value in handler.headers.items() if name.lower() not in _FOR_ONE_CONNECTION]
    connection = HTTPConnection(proxy.behind, timeout=60)
    try:
        connection.putrequest(request.method, request.path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers:
            connection.putheader(name, value)
        connection.endheaders(body or None)
        answer = connection.getresponse()
        content = answer.read()
    finally:
        connection.close()
    if fault is Fault.NO_ANSWER:
        handler.close_connection = True
        return
    kept = [(name, value) for name, value in answer.getheaders() if name.lower() not in _FOR_ONE_CONNECTION]
    if not any(name.lower() == "content-length" for name, _ in kept):
        kept.append(("Content-Length", str(len(content))))
    _answer(handler, answer.status, kept, content)


def _answer(handler: BaseHTTPRequestHandler, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
    handler.send_response_only(status)
    for name, value in headers:
        handler.send_header(name, value)
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(content)
