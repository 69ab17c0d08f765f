"""A warehouse whose credentials only Spark has: its logs and its notes go through Spark."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from sessions_dagster.errors import StorageError
from sessions_dagster.input.folders import InputRoot, batch_fingerprint
from sessions_dagster.pipeline.check_tables import check_events, check_sessions
from sessions_dagster.storage.landed_batches import landed_batches
from sessions_dagster.storage.maintenance import compact, vacuum
from sessions_dagster.storage.warehouse import Warehouse
from sessions_dagster_tests.builders import World, sessions_of, write_batch
from sessions_dagster_tests.oracle import Event, sessionize
from sessions_dagster_tests.s3.proxy import Proxy

DAYS = [date(2025, 9, 20) + timedelta(days=offset) for offset in range(3)]
BATCHES = {
    DAYS[0]: [Event("ada", "a", "idea", datetime(2025, 9, 20, 9, minute)) for minute in (0, 9)],
    DAYS[1]: [Event("ada", "b", "idea", datetime(2025, 9, 20, 9, 4, 30))],
    DAYS[2]: [],
}


def without_credentials(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if not name.startswith("AWS_")}


def test_a_process_without_credentials_writes_the_same_tables(
    spark: SparkSession, bucket: str, proxy: Proxy, tmp_path: Path
) -> None:
    world = World(spark, bucket)
    world.input = InputRoot(str(tmp_path))
    world.warehouse = Warehouse(world.warehouse.root, logs_through=lambda: spark)
    with pytest.MonkeyPatch.context() as environment:
        # Java has read its own when it started.
        for name in os.environ.keys() - without_credentials(os.environ).keys():
            environment.delenv(name)
        for day, events in BATCHES.items():
            world.land(day, events)
            world.materialize(day)
        world.land(DAYS[1], [])
        world.materialize(DAYS[1])
        world.refresh()
        for uri in world.warehouse.tables:
            compact(spark, world.warehouse, uri)
            vacuum(spark, world.warehouse, uri, dry_run=False)
        of_events = check_events(spark, world.warehouse, DAYS[0], DAYS[-1], DAYS[0])
        of_sessions = check_sessions(spark, world.warehouse, DAYS[0], DAYS[-1])
        landed = landed_batches(world.warehouse, DAYS)
    assert not [each for each in of_events.findings if each.offenders]
    assert not [each for each in of_sessions.findings if each.offenders]
    assert {day: batch.fingerprint for day, batch in landed.items()} == {
        day: batch_fingerprint(world.input, day) for day in DAYS
    }
    expected = sessionize(world.all_events())
    assert set(world.table()) == expected
    assert set(world.sessions()) == sessions_of(expected)
    assert {row.kind for row in world.corrections()} == {"merged", "split"}


def test_a_process_that_may_not_read_a_log_is_told_of_the_other_way(
    spark: SparkSession, bucket: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another one")
    warehouse = Warehouse(f"{bucket}/warehouse")
    with pytest.raises((PermissionError, StorageError), match="SESSIONS_LOGS_THROUGH_SPARK=true") as raised:
        warehouse.open(warehouse.sessions)
    assert warehouse.sessions in str(raised.value)


@contextmanager
def server_with_credentials(folder: Path, warehouse: str) -> Iterator[Mapping[str, str]]:
    """A server of Spark Connect that has the credentials, and the variables of a client that has none."""
    settings = {
        "SESSIONS_START_DATE": DAYS[0].isoformat(),
        "SESSIONS_INPUT_ROOT": str(folder / "input"),
        "SESSIONS_WAREHOUSE_ROOT": warehouse,
        "SPARK_CONNECT_AUTHENTICATE_TOKEN": "a token of a test",
    }
    output = folder / "server.log"
    command = [sys.executable, "-m", "sessions_dagster", "spark-server", "--port", "0"]
    with output.open("wb") as log:
        server = subprocess.Popen(command, env=os.environ | settings, stdout=log, stderr=log, start_new_session=True)
    try:
        while (said := re.search(r"sc://\S+:\d+", output.read_text())) is None:
            assert server.poll() is None, output.read_text()
            time.sleep(0.1)
        yield {
            **without_credentials(os.environ),
            **settings,
            "SESSIONS_SPARK_MASTER": said[0],
            "SESSIONS_LOGS_THROUGH_SPARK": "true",
        }
    finally:
        server.terminate()
        server.wait(60)


def test_the_command_works_with_a_server_that_alone_has_the_credentials(
    bucket: str, proxy: Proxy, tmp_path: Path
) -> None:
    for day, events in BATCHES.items():
        write_batch(events, tmp_path / "input" / f"date={day}")
    with server_with_credentials(tmp_path, f"{bucket}/warehouse") as environment:
        for day in BATCHES:
            for step in ("land", "apply"):
                run("--date", day.isoformat(), step=step, environment=environment)
        run(step="sessions", environment=environment)
        run("--date", DAYS[0].isoformat(), step="check", environment=environment)
    world = World(None, bucket)  # type: ignore[arg-type]
    expected = sessionize([event for events in BATCHES.values() for event in events])
    assert set(world.table()) == expected
    assert set(world.sessions()) == sessions_of(expected)


def test_dagster_and_its_sensors_work_with_a_server_that_alone_has_the_credentials(
    bucket: str, proxy: Proxy, tmp_path: Path
) -> None:
    for day, events in BATCHES.items():
        write_batch(events, tmp_path / "input" / f"date={day}")
    with server_with_credentials(tmp_path, f"{bucket}/warehouse") as environment:
        done = subprocess.run(
            [sys.executable, "-c", DAYS_IN_DAGSTER], env=environment, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-2:] == ["True True", "None ['2025-09-23']"]
    world = World(None, bucket)  # type: ignore[arg-type]
    expected = sessionize([event for events in BATCHES.values() for event in events])
    assert set(world.table()) == expected
    assert set(world.sessions()) == sessions_of(expected)


DAYS_IN_DAGSTER = """
from datetime import UTC, datetime
import dagster as dg
from sessions_dagster.config import SessionsConfig
from sessions_dagster.defs import build_defs
from sessions_dagster.defs.missing_batches import find_missing
from sessions_dagster.defs.resources import tables_without_run
from sessions_dagster.defs.sensors import build_sensor
config = SessionsConfig.from_env()
job = build_defs(config).resolve_implicit_global_asset_job_def()
with dg.DagsterInstance.ephemeral() as instance:
    for day in ("2025-09-20", "2025-09-21", "2025-09-22"):
        assert job.execute_in_process(partition_key=day, instance=instance).success
    with dg.build_sensor_context(instance=instance, definitions=build_defs(config)) as context:
        tick = build_sensor(config)(context)
    print(not tick.run_requests, tick.skip_reason is not None)
    missing = find_missing(instance, config, tables_without_run(config), datetime(2025, 9, 24, 20, tzinfo=UTC))
    print(missing.unknown, [str(day) for day in missing.days])
"""


def run(*arguments: str, step: str, environment: Mapping[str, str]) -> None:
    command = [sys.executable, "-m", "sessions_dagster", step, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
