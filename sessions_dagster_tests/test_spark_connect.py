"""Spark Connect: a warm server of our own, and a session that somebody else has started. `make test-connect` runs more.

A process has either a Spark of its own or Spark Connect, so these tests use processes.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import pytest
from pyspark.sql import SparkSession

from sessions_dagster.errors import SettingsError, SparkStartError, SparkUnavailableError
from sessions_dagster.spark.connect import connect, is_address, prepare
from sessions_dagster.spark.failures import is_gone
from sessions_dagster.spark.left_sessions import end_left_session
from sessions_dagster.spark.server import TOKEN_VARIABLE, serve
from sessions_dagster.spark.session import SparkSettings
from sessions_dagster_tests.conftest import FOR_MANY_SMALL_QUERIES, server

pytestmark = pytest.mark.slow

NOBODY: Final = "sc://localhost:1"

PREAMBLE: Final = """
import logging, os, sys
from pathlib import Path
from sessions_dagster.spark.session import SparkSettings, running_session, spark_session
from sessions_dagster.spark.tuning import is_remote, task_slots
"""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with server({"master": "local[2]", "shuffle_partitions": 1, "extra_conf": FOR_MANY_SMALL_QUERIES}) as found:
        yield found


def outcome_of(script: str, *arguments: str, env: Mapping[str, str] | None = None) -> list[str]:
    """The lines that a script prints, in a process of its own."""
    command = [sys.executable, "-c", PREAMBLE + script, *arguments]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, env={**os.environ, **(env or {})})
    assert ended.returncode == 0, ended.stderr[-3000:]
    return ended.stdout.splitlines()


@pytest.mark.parametrize(
    "text", ["sc://localhost", "sc://h:15002", "sc://h:15002/;use_ssl=true;token=abc", "sc://[::1]:15002", "sc://h/"]
)
def test_an_address_of_spark_connect_is_a_master(text: str) -> None:
    assert is_address(text)
    assert SparkSettings(master=text, server=text).master == text


def test_a_server_that_does_not_answer_is_named_without_its_token() -> None:
    with pytest.raises(SparkUnavailableError, match=r"No server of Spark Connect .* sc://localhost:1 \(") as raised:
        connect(f"{NOBODY}/;token=secret", {})
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "address",
    [
        "sc://host/?;token=secret",
        "sc://host:99999/;token=secret",
        "sc://host:15002;token=secret",
        "SC://host/;token=secret",
        "sc://host/x?secret",
        "sc://secret@host",
        "sc://ada:secret@host:15002/;use_ssl=true",
        "sc:secret@host",
    ],
)
def test_an_address_that_is_none_is_shown_without_its_secrets(address: str) -> None:
    for settings in (partial(SparkSettings, master=address), partial(SparkSettings, server=address)):
        with pytest.raises(SettingsError, match="not '") as raised:
            settings()
        assert "secret" not in str(raised.value)


def test_a_session_at_the_server_of_somebody_else_is_not_told_to_end(
    spark: SparkSession, caplog: pytest.LogCaptureFixture
) -> None:
    note = {"endpoint": "192.0.2.1:15002", "use_ssl": "false", "session_id": "1", "user_id": "ada"}
    end_left_session(spark, json.dumps(note))
    assert "192.0.2.1:15002, which is not told to end it" in caplog.text


@pytest.mark.parametrize("note", ["", "{", "[]", "1", "null", '"text"', "{}", '{"endpoint": "localhost:1"}'])
def test_a_note_of_a_session_that_was_written_half_is_ignored(spark: SparkSession, note: str) -> None:
    end_left_session(spark, note)


def test_a_server_is_not_started_on_another_server() -> None:
    with pytest.raises(SparkStartError, match="A server cannot use another one"):
        serve(SparkSettings(master=NOBODY), 0, print)


def test_a_port_that_is_taken_is_named_before_anything_starts() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SparkStartError, match=f"No server can listen at port {port} .*Stop what uses it"):
            serve(SparkSettings(), port, print)


def test_a_run_does_not_end_its_own_session(address: str) -> None:
    script = """
from sessions_dagster.spark.left_sessions import end_left_session, remote_session
with spark_session(SparkSettings(master=sys.argv[1])) as spark:
    end_left_session(spark, remote_session(spark))
    print(spark.range(7).count())
"""
    assert outcome_of(script, address) == ["7"]


def test_a_session_starts_warm_has_what_our_tables_need_and_ends_without_its_server(address: str) -> None:
    script = """
for _ in range(2):
    settings = SparkSettings(server=sys.argv[1], extra_conf={"spark.sql.crossJoin.enabled": "false"})
    with spark_session(settings) as spark:
        print(is_remote(spark), spark.range(7).count(), task_slots(spark), spark.conf.get("spark.sql.session.timeZone"))
        print(spark.conf.get("spark.sql.crossJoin.enabled"), spark.conf.get("spark.sql.shuffle.partitions"))
    print(running_session(), "SPARK_CONNECT_MODE_ENABLED" in os.environ)
"""
    assert outcome_of(script, address) == ["True 7 2 UTC", "false 1", "None False"] * 2


@pytest.mark.usefixtures("java_without_optimizer")
def test_a_run_without_its_server_starts_a_spark_of_its_own_and_says_so() -> None:
    script = """
logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.WARNING)
logging.getLogger("py4j").setLevel(logging.ERROR)
with spark_session(SparkSettings(master="local[1]", server=sys.argv[1])) as spark:
    print(is_remote(spark), spark.range(7).count())
"""
    said, used = outcome_of(script, NOBODY)
    assert "a Spark of this process is started" in said
    assert NOBODY in said
    assert used == "False 7"


def test_a_server_that_was_started_without_what_s3_needs_is_not_used_for_s3(address: str) -> None:
    script = """
from sessions_dagster.spark import session
logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.WARNING)
def begins_to_start(*_):
    print("one of its own", "SPARK_CONNECT_MODE_ENABLED" in os.environ)
    sys.exit()
session.use_java = begins_to_start
session.start_spark(SparkSettings(server=sys.argv[1], on_s3=True))
"""
    said, used = outcome_of(script, address)
    assert "started without the connector and the log store for S3" in said
    assert used == "one of its own False"


@pytest.mark.skipif(sys.platform != "linux", reason="looks at the processes of Linux")
@pytest.mark.usefixtures("address")
def test_the_token_is_not_among_the_arguments_of_any_process() -> None:
    token = os.environ[TOKEN_VARIABLE].encode()
    shown = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(FileNotFoundError, ProcessLookupError):
            shown.append(file.read_bytes())
    assert any(b"SparkConnectPlugin" in command for command in shown), "the server runs"
    assert not any(token in command for command in shown)


def test_a_wrong_token_is_refused_in_one_sentence(address: str) -> None:
    script = """
from sessions_dagster.errors import SparkStartError
try:
    with spark_session(SparkSettings(master=sys.argv[1])):
        print("let in")
except SparkStartError as error:
    print(str(error).count(os.linesep), "SPARK_CONNECT_AUTHENTICATE_TOKEN" in str(error))
"""
    assert outcome_of(script, address, env={TOKEN_VARIABLE: "another"}) == ["0 True"]


def test_a_session_of_somebody_else_is_used_and_gets_what_it_needs(address: str) -> None:
    script = """
from pyspark.sql import SparkSession
theirs = SparkSession.builder.remote(sys.argv[1]).getOrCreate()
theirs.conf.set("spark.sql.session.timeZone", "Asia/Tokyo")
theirs.conf.set("spark.sql.shuffle.partitions", "3")
with spark_session(SparkSettings(master="yarn")) as spark:
    print(spark is theirs, spark.conf.get("spark.sql.session.timeZone"), spark.conf.get("spark.sql.shuffle.partitions"))
print(theirs.range(2).count())
"""
    assert outcome_of(script, address) == ["True UTC 3", "2"]


def test_what_a_run_sets_in_its_session_is_not_set_in_that_of_another_run(address: str) -> None:
    script = """
from pyspark.sql import SparkSession
from sessions_dagster.spark.tuning import spark_property
one, other = (SparkSession.builder.remote(sys.argv[1]).create() for _ in range(2))
name = "spark.databricks.delta.write.txnAppId"
with spark_property(one, name, "of one"), spark_property(other, "spark.sql.shuffle.partitions", "9"):
    print([each.conf.get(name, None) for each in (one, other)])
    print([each.conf.get("spark.sql.shuffle.partitions") for each in (one, other)])
for each in (one, other):
    each.stop()
"""
    assert outcome_of(script, address) == ["['of one', None]", "['1', '9']"]


def test_batches_land_and_apply_on_a_server(address: str, tmp_path: Path) -> None:
    script = """
from datetime import date, datetime
from sessions_dagster_tests.builders import World
from sessions_dagster_tests.oracle import Event, sessionize
DAY, NEXT = date(2025, 9, 20), date(2025, 9, 21)
def u(*clocks):
    return [Event("ada", "a", "idea", datetime.fromisoformat(clock)) for clock in clocks]
with spark_session(SparkSettings(master=sys.argv[1])) as spark:
    world = World(spark, Path(sys.argv[2]))
    world.land(DAY, u("2025-09-20T09:00", "2025-09-20T12:00"))
    world.materialize(DAY)
    world.land(NEXT, u("2025-09-20T09:04", "2025-09-21T09:00"))
    world.materialize(NEXT)
    world.refresh()
    print(set(world.table()) == sessionize(world.all_events()), len(world.sessions()), len(world.corrections()))
"""
    assert outcome_of(script, address, str(tmp_path)) == ["True 3 1"]


@pytest.mark.skipif(sys.platform != "linux", reason="needs what Linux says of sockets")
def test_a_server_listens_on_loopback_only(address: str) -> None:
    listening = {}
    for family in ("tcp", "tcp6"):
        for line in Path("/proc/net", family).read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == "0A":
                listening[f"socket:[{inode}]"] = local.rsplit(":", 1)
    port = int(address.rsplit(":", 1)[1])
    (java,) = (
        process
        for process in Path("/proc").glob("[0-9]*")
        if any(int(listening[socket][1], 16) == port for socket in sockets_of(process) & listening.keys())
    )
    hosts = {listening[socket][0] for socket in sockets_of(java) & listening.keys()}
    assert hosts <= {"0100007F", "0" * 16 + "FFFF00000100007F", "0" * 24 + "01000000"}


def sockets_of(process: Path) -> set[str]:
    """The sockets that a process has open, as Linux calls them; none if it may not be looked at."""
    try:
        return {str(link.readlink()) for link in (process / "fd").iterdir()}
    except OSError:
        return set()


@pytest.mark.usefixtures("java_without_optimizer")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_java_of_a_server_ends_with_it(how: signal.Signals) -> None:
    command = [sys.executable, "-m", "sessions_dagster", "spark-server", "--port", "0"]
    env = {**os.environ, "SESSIONS_SPARK_MASTER": "local[1]", "SESSIONS_SPARK_SERVER": ""}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout is not None
        assert "Spark Connect listens at sc://localhost:" in process.stdout.readline()
        process.send_signal(how)
        # The pipe is Java's as well, so it is closed when both have ended.
        process.stdout.read()
        assert process.wait(60) == (0 if how != signal.SIGKILL else -signal.SIGKILL)


@pytest.mark.usefixtures("java_without_optimizer")
def test_a_server_that_ends_in_the_middle_is_told_from_a_query_that_fails() -> None:
    script = """
import signal, time
from sessions_dagster.spark.failures import SPARK_ERRORS, is_gone
with spark_session(SparkSettings(master=sys.argv[1])) as spark:
    for doing in (lambda: spark.sql("SELECT no_such_column").collect(), lambda: spark.range(3).count()):
        try:
            doing()
        except SPARK_ERRORS as error:
            print(is_gone(error))
            os.kill(int(sys.argv[2]), signal.SIGKILL)
            time.sleep(2)
"""
    command = [sys.executable, "-m", "sessions_dagster", "spark-server", "--port", "0"]
    env = {**os.environ, "SESSIONS_SPARK_MASTER": "local[1]", TOKEN_VARIABLE: "t"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[4]
        assert outcome_of(script, address, str(process.pid), env={TOKEN_VARIABLE: "t"})[:2] == ["False", "True"]


def test_a_spark_without_delta_is_refused(spark: SparkSession) -> None:
    assert not is_gone(ValueError())
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("sessions_dagster.spark.connect.DELTA_CATALOG", "another")
        with pytest.raises(SparkStartError, match=r"has no Delta. It has to be started with spark\.sql\.extensions="):
            prepare(spark)
