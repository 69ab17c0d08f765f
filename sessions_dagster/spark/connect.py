"""A Spark that is reached over Spark Connect, and what every session needs that somebody else has started.

Here belongs how a session of Spark Connect is begun and ended. The server that `make dev` uses is in `server`.
"""

import os
import re
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final, cast

import pyspark
from pyspark.sql import SparkSession

from sessions_dagster.errors import SparkStartError, SparkUnavailableError
from sessions_dagster.redaction import redacted
from sessions_dagster.spark.failures import SPARK_ERRORS
from sessions_dagster.spark.tuning import is_remote, properties_for, task_slots
from sessions_dagster.spark.versions import check_connect

if TYPE_CHECKING:
    from pyspark.sql.connect.client import SparkConnectClient
    from pyspark.sql.connect.shell.progress import ProgressHandler

DELTA_EXTENSION: Final = "io.delta.sql.DeltaSparkSessionExtension"
DELTA_CATALOG: Final = "org.apache.spark.sql.delta.catalog.DeltaCatalog"

EXTENSIONS: Final = "spark.sql.extensions"
CATALOG: Final = "spark.sql.catalog.spark_catalog"

NEEDED: Final[Mapping[str, str]] = {
    "spark.sql.session.timeZone": "UTC",
    # By default Spark writes 96 bits. It reads and writes these much more slowly, and other readers deprecate them.
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    # By default a query fails if computing what it broadcasts takes more than five minutes. How long that takes
    # depends on the amount of data and on the machine.
    "spark.sql.broadcastTimeout": "86400",
    # Spark 4 has it by default, and whoever started a session may have turned it off.
    "spark.sql.ansi.enabled": "true",
    # Otherwise the union of several inputs with one task each has one task, so only one core would work on it.
    "spark.sql.unionOutputPartitioning": "false",
    # By default a flipped bit is another value, if it can be read. Pages have checksums if their writer made any, as
    # Spark does.
    "parquet.page.verify-checksum.enabled": "true",
}
"""The properties that every session has, whoever has started it, and that can be set while it runs."""

DEFAULT_PORT: Final = 15_002
MAX_PORT: Final = 65_535
_ADDRESS: Final = re.compile(
    r"sc://(?P<host>\[[0-9a-fA-F:.]+\]|[^\s/:;?#@\[\]]+)(:(?P<port>[0-9]{1,5}))?(/(;[^\s;/?#]+)*)?"
)
_ANSWER_SECONDS: Final = 5

CONNECT_MODE: Final = "SPARK_CONNECT_MODE_ENABLED"
"""The variable by which PySpark knows in this process that its functions are about Spark Connect."""

_ATTEMPTS: Final = 3
"""So many attempts take a second. By default PySpark waits ten minutes for a server that has ended."""

_tasks_by_operation: Final[dict[str, tuple[int, int]]] = {}
_lock: Final = threading.Lock()


def is_address(value: object) -> bool:
    """Whether a value is the address of a server of Spark Connect, as far as the value alone says."""
    if not isinstance(value, str):
        return False
    match = _ADDRESS.fullmatch(value)
    return match is not None and 0 < int(match["port"] or DEFAULT_PORT) <= MAX_PORT


def is_on_this_machine(address: str) -> bool:
    """Whether an address of a server of Spark Connect is one of loopback."""
    match = _ADDRESS.fullmatch(address)
    if match is None:
        return False
    host = match["host"].strip("[]").lower().removesuffix(".")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def connect(address: str, properties: Mapping[str, str]) -> SparkSession:
    """Begin a session of Spark Connect, the only one of this process.

    Args:
        address: Of the server, such as `sc://localhost:15002`.
        properties: Spark properties of the session, which can be set while it runs.

    Returns:
        The session, to be ended by `disconnect`.

    Raises:
        SparkStartError: If no server answers, if it has no Delta, if the client of Spark Connect is not installed, or
            if Spark is 3.5.
    """
    check_connect(pyspark.__version__)
    _check_answers(address)
    with _names_what_is_missing():
        import delta.connect.exceptions  # noqa: F401, PLC0415 (makes them what Delta raises over Spark Connect)
    was_on = CONNECT_MODE in os.environ
    session: SparkSession | None = None
    try:
        session = SparkSession.builder.remote(address).getOrCreate()
        if is_on_this_machine(address):
            wait_a_second(session.client)
        for name, value in properties.items():
            session.conf.set(name, value)
        prepare(session)
    except BaseException as error:
        if session is not None:
            session.stop()
        if not was_on:
            os.environ.pop(CONNECT_MODE, None)
        if isinstance(error, SPARK_ERRORS):
            raise SparkStartError(
                f"There is no Spark session at {_shown(address)}: {_first_line(error)} A token that the server asks "
                "for is in the variable SPARK_CONNECT_AUTHENTICATE_TOKEN."
            ) from error
        raise
    return session


def wait_a_second(client: "SparkConnectClient") -> None:
    """Let a client of Spark Connect give up soon if its server has ended."""
    from pyspark.sql.connect.client.retries import DefaultPolicy  # noqa: PLC0415 (needs packages that not everybody has)

    client.set_retry_policies([DefaultPolicy(max_retries=_ATTEMPTS)])


def disconnect(session: SparkSession) -> None:
    """End a session that `connect` has begun. After that the process may start a Spark of its own."""
    session.stop()
    os.environ.pop(CONNECT_MODE, None)


def prepare(session: SparkSession) -> None:
    """Set what our rules and tables need in a session that is running, and check what cannot be set any more.

    The properties that only make a run faster are set if nobody has given them a value.

    Args:
        session: Any session. Its time zone is UTC from now on.

    Raises:
        SparkStartError: If it has no Delta.
    """
    _check_delta(session)
    for name, value in NEEDED.items():
        if session.conf.get(name, None) != value:
            session.conf.set(name, value)
    if is_remote(session):
        session.registerProgressHandler(cast("ProgressHandler", _note_tasks))
        for name, value in properties_for(task_slots(session), is_local=False).items():
            if session.conf.get(name, None) is None:
                session.conf.set(name, value)


def running_tasks() -> tuple[int, int]:
    """Of the stages that servers run for this process, how many tasks are done and how many there are."""
    with _lock:
        found = list(_tasks_by_operation.values())
    return sum(done for done, _ in found), sum(tasks for _, tasks in found)


def _note_tasks(stages: Iterable[Any] | None, inflight_tasks: int, operation_id: str | None, done: bool) -> None:  # noqa: ARG001
    with _lock:
        if done:
            _tasks_by_operation.pop(str(operation_id), None)
        else:
            running = [stage for stage in stages or () if not stage.done]
            counts = (sum(stage.num_completed_tasks for stage in running), sum(stage.num_tasks for stage in running))
            _tasks_by_operation[str(operation_id)] = counts


def _check_answers(address: str) -> None:
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise SparkStartError(f"{_shown(address)} is no address of a server of Spark Connect.")
    host, port = match["host"].strip("[]"), int(match["port"] or DEFAULT_PORT)
    try:
        socket.create_connection((host, port), timeout=_ANSWER_SECONDS).close()
    except OSError as error:
        raise SparkUnavailableError(
            f"No server of Spark Connect answers at {_shown(address)} ({error}). Start it, or name another one."
        ) from error


@contextmanager
def _names_what_is_missing() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise SparkStartError(
            f"Spark Connect needs further Python packages ({_first_line(error)}). Install them: "
            "pip install 'sessions-dagster[connect]'."
        ) from error


def _check_delta(session: SparkSession) -> None:
    is_extended = DELTA_EXTENSION in str(session.conf.get(EXTENSIONS, "")).split(",")
    if is_extended and session.conf.get(CATALOG, "") == DELTA_CATALOG:
        return
    if not is_extended and _understands_delta(session):
        return
    raise SparkStartError(
        f"The Spark session that is running has no Delta. It has to be started with {EXTENSIONS}={DELTA_EXTENSION}, "
        f"{CATALOG}={DELTA_CATALOG} and the JARs of Delta."
    )


def _understands_delta(session: SparkSession) -> bool:
    """Whether a Spark has Delta without saying so, as some services do."""
    try:
        session.sql("DESCRIBE HISTORY delta.`/no/such/table`")
    except SPARK_ERRORS as error:
        return "PARSE_SYNTAX_ERROR" not in str(error)
    return True


def _shown(address: str) -> str:
    """An address without a user and without its parameters, one of which may be a secret."""
    shown: str = redacted(address.partition("/;")[0])
    return shown


def _first_line(error: BaseException) -> str:
    line: str = redacted(str(error).strip().split("\n", maxsplit=1)[0].strip())
    return line if line.endswith(".") else f"{line}."
