"""A proxy in front of an S3 server: it counts requests, makes them slow, and does what a store does on a bad day.

It is a process of its own, because delta-rs keeps all threads of its process waiting for some answers:

    python -m sessions_dagster_tests.s3.proxy ADDRESS_OF_THE_SERVER
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from time import sleep
from typing import Any, Final, NamedTuple


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
    TOO_LATE = "nothing is done, and the connection ends when nobody waits any more"
    SAYS_DONE = "the store says that it is done, whatever the condition is: 200"


_ANSWERS: Final = {
    Fault.SLOW_DOWN: (503, "SlowDown"),
    Fault.NOT_THE_SAME: (412, "PreconditionFailed"),
    Fault.INTERNAL_ERROR: (500, "InternalError"),
}

TOO_LATE_SECONDS: Final = 7.0
"""How long the one who asks waits for nothing."""

_FOR_ONE_CONNECTION: Final = {"connection", "keep-alive", "transfer-encoding", "expect"}

_CONTROL: Final = "/-proxy-"
"""The path of what is said to the proxy itself; no bucket has such a name."""


@dataclass(frozen=True)
class Proxy:
    """A running proxy, as its tests see it.

    Attributes:
        address: Where it answers.
    """

    address: str

    @property
    def requests(self) -> list[Request]:
        """All requests since the last `reset`."""
        return [Request(*each) for each in self._say("GET")]

    def meets(self, fault: Fault, pattern: str, *, method: str = "", times: int | None = None) -> None:
        """From now on some requests meet a fault, instead of those before.

        Args:
            fault: What happens to them.
            pattern: A regular expression that is found in their paths.
            method: Their method; empty for any.
            times: How many of them; None for all.
        """
        self._say("PUT", {"fault": fault.name, "pattern": pattern, "method": method, "times": times})

    def is_slow(self, seconds: float) -> None:
        """From now on each request takes some seconds longer."""
        self._say("PUT", {"latency": seconds})

    def reset(self) -> None:
        """Forget the requests so far, and pass on all requests as they are."""
        self._say("DELETE")

    def _say(self, method: str, content: object = None) -> Any:
        connection = HTTPConnection(self.address, timeout=60)
        try:
            connection.request(method, _CONTROL, json.dumps(content))
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()


@contextmanager
def proxy_of(behind: str) -> Iterator[Proxy]:
    """A proxy of a server, until the context ends."""
    command = [sys.executable, "-m", "sessions_dagster_tests.s3.proxy", behind]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    try:
        yield Proxy(process.stdout.readline().strip())
    finally:
        process.terminate()
        process.wait()


class _State:
    """What the proxy knows and does."""

    def __init__(self, behind: str) -> None:
        self.behind = behind
        self._lock = Lock()
        self.reset()

    def reset(self) -> None:
        self.requests: list[Request] = []
        self.latency: float = 0
        self._rule: dict[str, Any] = {}

    def change(self, said: dict[str, Any]) -> None:
        if "latency" in said:
            self.latency = said["latency"]
        else:
            self._rule = said

    def fault_of(self, request: Request) -> Fault | None:
        """Note a request, and say what happens to it."""
        with self._lock:
            self.requests.append(request)
            rule = self._rule
            if not rule or rule["method"] not in ("", request.method) or not re.search(rule["pattern"], request.path):
                return None
            if rule["times"] is not None:
                if rule["times"] == 0:
                    return None
                rule["times"] -= 1
            return Fault[rule["fault"]]


def _serve(handler: BaseHTTPRequestHandler, state: _State) -> None:
    body = _body(handler)
    request = Request(handler.command, handler.path)
    if request.path == _CONTROL:
        _be_told(handler, state, body)
        return
    fault = state.fault_of(request)
    sleep(state.latency)
    if fault is Fault.TOO_LATE:
        sleep(TOO_LATE_SECONDS)
        handler.close_connection = True
    elif fault is Fault.SAYS_DONE:
        _answer(handler, 200, [("ETag", '"00000000000000000000000000000000"')], b"")
    elif fault in _ANSWERS:
        status, code = _ANSWERS[fault]
        text = f"<Error><Code>{code}</Code><Message>{fault.value}</Message></Error>"
        _answer(handler, status, [("Content-Type", "application/xml")], text.encode())
    else:
        _pass_on(handler, state.behind, body, is_answered=fault is None)


def _be_told(handler: BaseHTTPRequestHandler, state: _State, body: bytes) -> None:
    if handler.command == "DELETE":
        state.reset()
    elif handler.command == "PUT":
        state.change(json.loads(body))
    _answer(handler, 200, [], json.dumps(state.requests).encode())


def _pass_on(handler: BaseHTTPRequestHandler, behind: str, body: bytes, *, is_answered: bool) -> None:
    connection = HTTPConnection(behind, timeout=60)
    try:
        connection.putrequest(handler.command, handler.path, skip_host=True, skip_accept_encoding=True)
        for name, value in handler.headers.items():
            if name.lower() not in _FOR_ONE_CONNECTION:
                connection.putheader(name, value)
        if "Content-Length" not in handler.headers and body:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body or None)
        answer = connection.getresponse()
        content = answer.read()
    finally:
        connection.close()
    if is_answered:
        kept = [(name, value) for name, value in answer.getheaders() if name.lower() not in _FOR_ONE_CONNECTION]
        _answer(handler, answer.status, kept, content)
    else:
        handler.close_connection = True


def _body(handler: BaseHTTPRequestHandler) -> bytes:
    if handler.headers.get("Transfer-Encoding", "").lower() != "chunked":
        return handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
    body = b""
    while size := int(handler.rfile.readline().split(b";")[0], 16):
        body += handler.rfile.read(size)
        handler.rfile.readline()
    # Behind the last chunk there are no trailers: those of S3 are within the chunks.
    handler.rfile.readline()
    return body


def _answer(handler: BaseHTTPRequestHandler, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
    handler.send_response_only(status)
    for name, value in headers:
        handler.send_header(name, value)
    if not any(name.lower() == "content-length" for name, _ in headers):
        handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(content)


def main() -> None:
    """Serve until the process is ended."""
    state = _State(sys.argv[1])

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline(65537)
            if not self.raw_requestline or not self.parse_request():
                self.close_connection = True
                return
            _serve(self, state)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    print(f"127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
