"""Runs and servers of Spark Connect that are killed while they write (`make test-connect`)."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from sessions_dagster.spark.server import TOKEN_VARIABLE
from sessions_dagster_tests.conftest import server
from sessions_dagster_tests.test_spark_connect import PREAMBLE, outcome_of


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with server({"master": "local[2]", "shuffle_partitions": 1}) as found:
        yield found


SLEEPS_SECONDS: Final = 27

DAYS_OF_ADA: Final = """
from datetime import date, datetime
from sessions_dagster_tests.builders import World, landed_events
from sessions_dagster_tests.oracle import Event, sessionize
DAY, NEXT = date(2025, 9, 20), date(2025, 9, 21)
ADA = [Event("ada", "a", "idea", datetime.fromisoformat(clock)) for clock in ("2025-09-20T09:00", "2025-09-20T12:00")]
LATE = [Event("ada", "a", "idea", datetime.fromisoformat(clock)) for clock in ("2025-09-20T09:04", "2025-09-21T09:00")]
"""

AGAIN: Final = """
with spark_session(SparkSettings(master=sys.argv[1])) as spark:
    world = World(spark, Path(sys.argv[2]))
    world.landed[DAY] = ADA
    world.land(NEXT, LATE)
    world.materialize(NEXT)
    world.refresh()
"""
"""What was killed, once more; what is said of it afterwards follows, indented."""


@pytest.mark.parametrize("is_told", [True, False])
def test_the_query_of_a_killed_run_commits_nothing_after_the_next_run(
    address: str, tmp_path: Path, is_told: bool
) -> None:
    doomed = """
import threading, signal
from pyspark.sql import functions as F
from sessions_dagster.pipeline import land
replace = land.replace_slice
def slow(warehouse, uri, day, rows, row_count=None):
    if day == NEXT and uri == warehouse.raw_events:
        print("is writing", flush=True)
        threading.Timer(2, os.kill, (os.getpid(), signal.SIGKILL)).start()
        # Longer than the next run takes, which would otherwise find what it has to replace.
        rows = rows.limit(1).where(F.expr("reflect('java.lang.Thread', 'sleep', 25000L) IS NOT NULL"))
    return replace(warehouse, uri, day, rows, row_count=row_count)
land.replace_slice = slow
with spark_session(SparkSettings(master=sys.argv[1])) as spark:
    world = World(spark, Path(sys.argv[2]))
    world.land(DAY, ADA)
    world.materialize(DAY)
    world.land(NEXT, LATE)
"""
    command = [sys.executable, "-c", PREAMBLE + DAYS_OF_ADA + doomed, address, str(tmp_path)]
    killed = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (killed.stdout, killed.returncode) == ("is writing\n", -signal.SIGKILL), killed.stderr[-3000:]
    note = tmp_path / "warehouse" / ".writing.session"
    assert note.exists()
    slept = time.time() + SLEEPS_SECONDS
    if not is_told:
        note.unlink()

    before = """
import time
from deltalake import DeltaTable
logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.WARNING)
logging.getLogger("sessions_dagster.spark.left_sessions").setLevel(logging.INFO)
"""
    said = """
    versions = {uri: DeltaTable(uri).version() for uri in world.warehouse.tables}
    time.sleep(max(0, float(sys.argv[3]) - time.time()))
    print({uri: DeltaTable(uri).version() for uri in world.warehouse.tables} == versions)
    print(sorted(landed_events(world.warehouse.raw_events)) == sorted(ADA + LATE))
    version = DeltaTable(world.warehouse.raw_events).version()
    print(sorted(world.table()) == sorted(sessionize(world.all_events())), version)
"""
    *told, same, landed, applied = outcome_of(DAYS_OF_ADA + before + AGAIN + said, address, str(tmp_path), str(slept))
    assert len(told) == int(is_told), told
    assert (same, landed, applied) == ("True", "True", "True 2"), "two landings are two commits after the first one"
    assert not note.exists()


@pytest.mark.parametrize(("table", "seconds"), [("raw_events", 0.1), ("raw_events", 0.6), ("sessionized_events", 0.3)])
def test_a_killed_server_leaves_no_half_of_a_commit(address: str, tmp_path: Path, table: str, seconds: float) -> None:
    doomed = """
from sessions_dagster.storage import delta_tables, write_changes
from sessions_dagster.storage.exclusive_commits import exclusive_commit
def told(spark, table, *others):
    print("is writing", table.table_uri.rstrip("/").rpartition("/")[2], table.version(), flush=True)
    return exclusive_commit(spark, table, *others)
delta_tables.exclusive_commit = write_changes.exclusive_commit = told
with spark_session(SparkSettings(master=sys.argv[1])) as spark:
    world = World(spark, Path(sys.argv[2]))
    world.land(DAY, ADA)
    world.materialize(DAY)
    world.land(NEXT, LATE)
    world.materialize(NEXT)
"""
    command = [sys.executable, "-m", "sessions_dagster", "spark-server", "--port", "0"]
    env = {**os.environ, "SESSIONS_SPARK_MASTER": "local[2]", "SESSIONS_SPARK_SERVER": "", TOKEN_VARIABLE: "of-tests"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as killed:
        assert killed.stdout is not None
        found = re.search(r"(sc://\S+) .*Java (\d+)", killed.stdout.readline())
        assert found
        run = subprocess.Popen(
            [sys.executable, "-c", PREAMBLE + DAYS_OF_ADA + doomed, found[1], str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert run.stdout is not None
        # The second write to a table is that of the late batch.
        writes = 0
        for line in run.stdout:
            writes += f" {table} " in line
            if writes == 2:
                break
        time.sleep(seconds)
        os.kill(int(found[2]), signal.SIGKILL)
        run.stdout.read()
        assert run.wait(120) != 0
        killed.stdout.read()

    said = """
    print(sorted(landed_events(world.warehouse.raw_events)) == sorted(ADA + LATE))
    print(sorted(world.table()) == sorted(sessionize(world.all_events())), len(world.corrections()))
"""
    assert outcome_of(DAYS_OF_ADA + AGAIN + said, address, str(tmp_path)) == ["True", "True 1"]
