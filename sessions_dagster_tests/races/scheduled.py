"""What Dagster starts, done by a runner: ticks of the sensor with the runs that they ask for, and runs of a backfill.

The runs are those of Dagster with its instance, so that the sensor knows of them. Only the queue is left out, which
would let them run one after the other.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    BACKFILL_ID_TAG,
    RUN_KEY_TAG,
    SENSOR_NAME_TAG,
)

from sessions_dagster.config import SessionsConfig
from sessions_dagster.defs import build_defs
from sessions_dagster.defs.batch_job import JOB_NAME
from sessions_dagster.defs.sensors import SENSOR_NAME, build_sensor
from sessions_dagster_tests.histories import FIRST_DAY


def sensor(folder: str) -> None:
    """Evaluate a tick, and do the runs that it asks for."""
    config = _config(folder)
    kept = Path(folder, "cursor")
    with instance_of(folder) as instance:
        cursor = kept.read_text() if kept.exists() else None
        with dg.build_sensor_context(instance, cursor, definitions=build_defs(config)) as context:
            data = build_sensor(config).evaluate_tick(context)
        kept.write_text(data.cursor or "")
        for request in data.run_requests or []:
            tags = {**request.tags, RUN_KEY_TAG: request.run_key or "", SENSOR_NAME_TAG: SENSOR_NAME}
            _run(config, instance, tags, partition_key=request.partition_key, asset_selection=request.asset_selection)


def backfill(folder: str, first: str, last: str) -> None:
    """Do the run of a backfill of a range."""
    days = {ASSET_PARTITION_RANGE_START_TAG: first, ASSET_PARTITION_RANGE_END_TAG: last}
    with instance_of(folder) as instance:
        _run(_config(folder), instance, {**days, BACKFILL_ID_TAG: "of-a-race"})


def _run(config: SessionsConfig, instance: dg.DagsterInstance, tags: Mapping[str, str], **of_run: Any) -> None:
    job = build_defs(config).resolve_job_def(JOB_NAME)
    result = job.execute_in_process(instance=instance, tags=tags, **of_run)
    assert result.success


def _config(folder: str) -> SessionsConfig:
    return SessionsConfig(
        start_date=FIRST_DAY,
        input_root=f"{folder}/input",
        warehouse_root=f"{folder}/warehouse",
        settle_seconds=0,
    )


def instance_of(folder: str) -> dg.DagsterInstance:
    """The instance of a race. Two processes cannot make its storage at once."""
    home = Path(folder, "home")
    home.mkdir(exist_ok=True)
    (home / "dagster.yaml").touch()
    return dg.DagsterInstance.from_config(str(home))
