"""On a cluster the tables are those of one pass over all batches, as in local mode, also if a worker is killed."""

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest
from pyspark.sql import SparkSession

from sessions_dagster.errors import is_retryable
from sessions_dagster.pipeline.check_tables import check_events, check_sessions
from sessions_dagster.storage.maintenance import compact
from sessions_dagster_tests.builders import World, sessions_of
from sessions_dagster_tests.cluster.standalone import PATIENCE_SECONDS, Cluster
from sessions_dagster_tests.histories import DAYS, FIRST_DAY, LATENESS, Delivery, deliveries
from sessions_dagster_tests.oracle import sessionize
from sessions_dagster_tests.test_programs import Play

HISTORIES: Final = 100
BATCH_DAYS: Final = [FIRST_DAY + timedelta(days=offset) for offset in range(DAYS + LATENESS)]
ATTEMPTS: Final = 4


def histories_of(seed: int) -> list[Delivery]:
    return [delivery for number in range(HISTORIES) for delivery in deliveries(seed + number)]


def check(world: World) -> None:
    expected, found = sessionize(world.all_events()), world.table()
    assert set(found) == expected
    assert len(found) == len(expected), "an event is in the table twice"
    assert set(world.sessions()) == sessions_of(expected)


def executor_says(spark: SparkSession, java: str) -> set[str]:
    """What a static method of Java gives in the tasks of executors."""
    rows = spark.range(8, numPartitions=8).selectExpr(f"java_method({java}) AS said").collect()
    return {row.said for row in rows}


def test_executors_are_in_utc_and_quiet_whatever_their_machines_are(spark: SparkSession, cluster: Cluster) -> None:
    assert spark.sparkContext.master == cluster.master
    assert executor_says(spark, "'java.lang.System', 'getProperty', 'user.timezone'") == {"UTC"}
    assert executor_says(spark, "'java.util.TimeZone', 'getDefault'") == executor_says(
        spark, "'java.util.TimeZone', 'getTimeZone', 'UTC'"
    )
    logs = list(cluster.folder.glob("worker*/app-*/*/stderr"))
    assert logs
    before = [len(log.read_text().splitlines()) for log in logs]
    spark.range(100, numPartitions=100).selectExpr("sum(id)").collect()
    assert [len(log.read_text().splitlines()) for log in logs] == before, "executors log each task"


@pytest.mark.parametrize("seed", [1, 2])
def test_a_program_ends_in_the_table_of_one_pass_over_all_batches(
    spark: SparkSession, tmp_path: Path, seed: int
) -> None:
    world, random = World(spark, tmp_path), Random(seed)
    play = Play(world, histories_of(seed))
    for day in random.sample(BATCH_DAYS, 8):
        play.land(day, random)
        if random.random() < 0.5:
            world.materialize(day)
    play.catch_up(random)
    world.refresh()
    check(world)


@pytest.mark.parametrize("killed_in", ["land", "apply", "sessions", "checks", "compaction"])
def test_a_worker_that_is_killed_in_a_step_costs_at_most_another_attempt(
    spark: SparkSession, cluster: Cluster, tmp_path: Path, killed_in: str
) -> None:
    world, random = World(spark, tmp_path), Random(killed_in)
    play = Play(world, histories_of(7))
    first, last = BATCH_DAYS[0], BATCH_DAYS[3]

    def land() -> None:
        for day in BATCH_DAYS[:4]:
            play.land(day, random)

    def checks() -> None:
        events = check_events(spark, world.warehouse, first, last, first)
        sessions = check_sessions(spark, world.warehouse, first, last)
        assert not any(each.offenders for each in events.findings)
        assert not any(each.offenders for each in sessions.findings)

    def compaction() -> None:
        for uri in filter(world.warehouse.open, world.warehouse.tables):
            compact(spark, world.warehouse, uri)

    steps: dict[str, Callable[[], Any]] = {
        "land": land,
        "apply": lambda: world.materialize(first, last),
        "sessions": world.refresh,
        "checks": checks,
        "compaction": compaction,
    }
    for name, step in steps.items():
        if name == killed_in:
            with_a_worker_killed(spark, cluster, step)
        else:
            step()
    check(world)


def with_a_worker_killed(spark: SparkSession, cluster: Cluster, step: Callable[[], Any]) -> None:
    """Run a step, kill a worker as soon as tasks of it run, and do what Dagster does with a failure that may pass."""
    tracker = spark.sparkContext.statusTracker()
    failed: list[BaseException] = []

    def kill() -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not tracker.getActiveStageIds():
            if time.monotonic() > deadline:
                failed.append(TimeoutError("no task was running"))
                return
            time.sleep(0.01)
        cluster.kill_worker()

    killer = threading.Thread(target=kill)
    killer.start()
    for attempt in range(ATTEMPTS):
        try:
            step()
            break
        except Exception as error:
            if not is_retryable(error) or attempt == ATTEMPTS - 1:
                raise
            time.sleep(5)
    killer.join()
    assert not failed
