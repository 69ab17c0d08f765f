"""A server of Spark Connect on this machine, which stays warm from one run to the next.

It is Spark's own, started as every Spark of this project is. It listens on loopback only, and asks for a token, because
whoever reaches it can do whatever its user can do.
"""

import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from subprocess import Popen, TimeoutExpired
from types import FrameType
from typing import Any, Final

import pyspark
from pyspark import SparkContext
from pyspark.sql import SparkSession

from sessions_dagster.errors import SparkStartError
from sessions_dagster.spark.connect import is_address
from sessions_dagster.spark.session import SparkSettings, start_spark, stop_spark
from sessions_dagster.spark.versions import check_connect

TOKEN_VARIABLE: Final = "SPARK_CONNECT_AUTHENTICATE_TOKEN"
"""Spark's own variable for the token: the server asks for it, and PySpark gives it."""

_WORKERS_PYTHON: Final = "PYSPARK_PYTHON"
"""Spark's own variable for the Python of its workers."""

_HOST: Final = "localhost"
"""Not 127.0.0.1: only with this name PySpark gives the token without TLS."""

_PORT: Final = "spark.connect.grpc.binding.port"
_BINDING: Final = "spark.connect.grpc.binding.address"

_PROPERTIES: Final = {
    "spark.plugins": "org.apache.spark.sql.connect.SparkConnectPlugin",
    _BINDING: "127.0.0.1",
    # A client that lives asks again at once for the answer that it waits for. One that was killed never does.
    "spark.connect.execute.manager.detachedTimeout": "60s",
}

_LOOKS_EVERY_SECONDS: Final = 0.5
_ENDS_WITHIN_SECONDS: Final = 10


def serve(settings: SparkSettings, port: int, say: Callable[[str], None]) -> None:
    """Run a server of Spark Connect until this process gets SIGINT or SIGTERM, in the main thread of the process.

    Its JVM ends with it, also if this process is killed.

    Args:
        settings: How to start its Spark.
        port: Where it listens; 0 stands for any free port.
        say: Is told the address, how to use it, and how to stop it, as soon as it can be used.

    Raises:
        NoSuitableJavaError: If there is no Java to start it with.
        SparkStartError: If Spark does not start, or ends by itself, if it is 3.5, if the master is the address of a
            server, or if something else listens at the port.
    """
    if is_address(settings.master):
        raise SparkStartError("A server cannot use another one: give it a master such as local[*].")
    check_connect(pyspark.__version__)
    _check_free(port)
    # Spark has a property for the token, too, but everybody on the machine can read the arguments of a process.
    is_given = bool(os.environ.get(TOKEN_VARIABLE))
    if not is_given:
        os.environ[TOKEN_VARIABLE] = secrets.token_urlsafe()
    os.environ.setdefault(_WORKERS_PYTHON, sys.executable)
    properties = {**_PROPERTIES, _PORT: str(port)}
    asked = threading.Event()
    with _set_by_signals(asked):
        session = start_spark(replace(settings, server=None, extra_conf={**settings.extra_conf, **properties}))
    process = _jvm()
    # Spark has put a handler of its own in the place of ours.
    with _set_by_signals(asked):
        try:
            address = f"sc://{_HOST}:{_listens_at(session)}"
            say(f"Spark Connect listens at {address} (process {os.getpid()}, Java {process.pid}).")
            token = " and the same token" if is_given else f" {TOKEN_VARIABLE}={os.environ[TOKEN_VARIABLE]}"
            say(f"Runs use it with SESSIONS_SPARK_SERVER={address}{token}")
            say(f"To stop it: ctrl-c, or kill {os.getpid()}")
            while not asked.wait(_LOOKS_EVERY_SECONDS):
                if process.poll() is not None:
                    raise SparkStartError("The Java of the server has ended. Start the server again.")
        finally:
            _end(session, process)


def _check_free(port: int) -> None:
    """Check that a port is free. Spark would say so in two pages."""
    with socket.socket() as probe:
        # As Java does: a port on which only old connections end is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_PROPERTIES[_BINDING], port))
        except OSError as error:
            raise SparkStartError(
                f"No server can listen at port {port} of this machine ({error.strerror}). Stop what uses it, or choose "
                "another port (--port; make dev SPARK_PORT=...)."
            ) from error


@contextmanager
def _set_by_signals(asked: threading.Event) -> Iterator[None]:
    """A context in which an event is set, and nothing else happens, if somebody wants this process to end."""

    def note(_signal: int, _frame: FrameType | None) -> None:
        asked.set()

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _jvm() -> "Popen[Any]":
    process: Popen[Any] = SparkContext._gateway.proc  # type: ignore[union-attr]
    return process


def _listens_at(session: SparkSession) -> int:
    service = getattr(session._jvm, "org.apache.spark.sql.connect.service.SparkConnectService$")
    return int(getattr(service, "MODULE$").localPort())


def _end(session: SparkSession, process: "Popen[Any]") -> None:
    """Stop Spark, and wait until its JVM is gone. A JVM ends when nobody can write to it any more."""
    stop_spark(session)
    if process.stdin is not None:
        with suppress(OSError):
            process.stdin.close()
    try:
        process.wait(_ENDS_WITHIN_SECONDS)
    except TimeoutExpired:
        process.kill()
        process.wait()
