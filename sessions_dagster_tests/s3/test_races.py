"""Several writers of one table on S3, or runs of the product, at the same moment: nothing is lost, or there twice."""

import os
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, QueryBuilder, write_deltalake
from pyspark.sql import SparkSession

from sessions_dagster.pipeline.apply import apply_batches
from sessions_dagster.storage.filesystem import delta_rs_options
from sessions_dagster_tests.builders import CorrectionRow, World, landed_events, put_batch, sessions_of
from sessions_dagster_tests.histories import deliveries
from sessions_dagster_tests.object_store import StrictServer
from sessions_dagster_tests.oracle import Event, sessionize
from sessions_dagster_tests.s3.runner import day_of, window_of

ROUNDS, RUNNERS = 4, 2


@contextmanager
def running(programs: Sequence[Sequence[str]], env: Mapping[str, str] | None = None) -> Iterator[None]:
    """Programs that run in the meantime and have succeeded afterwards. None of them goes on if something fails here."""
    processes = [subprocess.Popen(program, env=env) for program in programs]
    try:
        yield
        assert [process.wait() for process in processes] == [0] * len(processes)
    finally:
        for process in processes:
            process.kill()
            process.wait()


def race(table: str, meeting: Path, engines: Sequence[str], rounds: int) -> None:
    """Let writers append a row each in some rounds."""
    program = [sys.executable, "-m", "sessions_dagster_tests.s3.writer"]
    size = [str(meeting), str(len(engines)), str(rounds)]
    with running([[*program, engine, table, str(number), *size] for number, engine in enumerate(engines)]):
        pass


def rows(table: DeltaTable) -> list[str]:
    found = QueryBuilder().register("t", table).execute("SELECT row FROM t ORDER BY row").read_all()
    values: list[str] = pa.table(found)["row"].to_pylist()
    return values


@pytest.mark.parametrize(
    ("engines", "rounds"),
    [
        pytest.param(["spark"] * 4, 20, id="four drivers"),
        pytest.param(["spark", "spark", "delta-rs", "delta-rs"], 20, id="drivers and delta-rs"),
    ],
)
def test_no_commit_of_a_race_is_lost(bucket: str, tmp_path: Path, engines: Sequence[str], rounds: int) -> None:
    table = f"{bucket}/race"
    write_deltalake(table, pa.table({"row": ["first"]}), storage_options=delta_rs_options(table))
    race(table, tmp_path, engines, rounds)
    raced = DeltaTable(table, storage_options=delta_rs_options(table))
    everybody = [f"{writer}-{number}" for writer in range(len(engines)) for number in range(rounds)]
    assert rows(raced) == sorted(["first", *everybody])
    assert raced.version() == len(everybody)


def batches() -> dict[date, list[Event]]:
    """A batch for each day of a race of runs. Each has an event that is rejected: it comes too late."""
    days = window_of(ROUNDS - 1, RUNNERS)
    delivered = defaultdict(list)
    for delivery in (each for seed in range(12) for each in deliveries(seed)):
        delivered[delivery.batch].append(delivery.event)
    midnight = {day: Event("late", "a", "idea", datetime.combine(day - timedelta(days=40), time())) for day in days}
    return {day: [*delivered[day], midnight[day]] for day in days}


def accepted(events: Sequence[Event]) -> list[Event]:
    return [event for event in events if event.user != "late"]


def rejected(world: World) -> Counter[tuple[str, date]]:
    table = world.warehouse.rejected_events
    found = QueryBuilder().register("t", DeltaTable(table, storage_options=delta_rs_options(table)))
    rows = pa.table(found.execute("SELECT user_id, batch_date FROM t").read_all()).to_pylist()
    return Counter((row["user_id"], row["batch_date"]) for row in rows)


def test_runs_that_land_and_apply_at_the_same_moment_end_in_the_rows_of_one_run_after_the_other(
    spark: SparkSession, server: StrictServer, bucket: str, tmp_path: Path
) -> None:
    raced, one_by_one = World(spark, f"{bucket}/raced"), World(spark, f"{bucket}/one-by-one")
    for day, events in batches().items():
        put_batch(events, raced.input.batch_folder(day))
    program = [sys.executable, "-m", "sessions_dagster_tests.s3.runner", f"{bucket}/raced"]
    size = [str(tmp_path), str(RUNNERS), str(ROUNDS)]
    # Not by the proxy: they are to be as fast as the store is.
    environment = {**os.environ, "AWS_ENDPOINT_URL": f"http://{server.address}"}
    with running([[*program, str(runner), *size] for runner in range(RUNNERS)], environment):
        for number in range(ROUNDS):
            for day in sorted({day_of(number, runner, RUNNERS) for runner in range(RUNNERS)}):
                one_by_one.land(day, batches()[day])
            apply_batches(spark, one_by_one.warehouse, window_of(number, RUNNERS), one_by_one.rules)

    events = accepted(one_by_one.all_events())
    assert Counter(landed_events(raced.warehouse.raw_events)) == Counter(events)
    assert rejected(raced) == rejected(one_by_one) == Counter(("late", day) for day in one_by_one.landed)
    assert Counter(raced.table()) == Counter(sessionize(events))
    assert Counter(raced.sessions()) == Counter(sessions_of(sessionize(events)))
    assert corrections(raced) == corrections(one_by_one)


def corrections(world: World) -> Counter[CorrectionRow]:
    """The entries of `session_corrections`, without the versions, which differ if a run was refused."""
    return Counter(row._replace(version=0) for row in world.corrections())
