"""Runs over many days: holes, wrong ranges, what is shown meanwhile, and what later runs make of earlier warnings."""

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionResolvedStatus as Status
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    BACKFILL_ID_TAG,
)
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from sessions_dagster.config import SessionsConfig
from sessions_dagster.defs import build_defs
from sessions_dagster.defs.checks import WINDOW_IS_COMPLETE
from sessions_dagster.defs.partitions import daily_partitions
from sessions_dagster.errors import BatchError
from sessions_dagster.input.folders import InputRoot
from sessions_dagster.model.rules import SessionRules
from sessions_dagster.pipeline import land_range as pipeline_land_range
from sessions_dagster.pipeline.land import LandingReport, land_batch
from sessions_dagster.pipeline.land_range import BatchOutcome, land_range
from sessions_dagster.storage.warehouse import Warehouse
from sessions_dagster_tests.builders import World, sessionized_events, write_batch
from sessions_dagster_tests.oracle import Event

START = date(2025, 9, 1)
RAW, EVENTS, SESSIONS = (dg.AssetKey(name) for name in ("raw_events", "sessionized_events", "sessions"))


def keys(*days: int) -> set[str]:
    return {f"2025-09-{day:02}" for day in days}


class Lake:
    """A product on an input and a warehouse of its own, and the Dagster instance of its runs."""

    def __init__(self, folder: Path, start: date = START) -> None:
        self.input = folder / "input"
        self.warehouse = folder / "warehouse"
        self.instance = dg.DagsterInstance.ephemeral()
        self.start = start

    def deliver(self, *days: int) -> None:
        """Write a batch with one user action for each day of September."""
        for day in days:
            write_batch([Event("ada", "a", "idea", datetime(2025, 9, day, 9))], self.input / f"date=2025-09-{day:02}")

    @property
    def config(self) -> SessionsConfig:
        return SessionsConfig(start_date=self.start, input_root=self.input, warehouse_root=self.warehouse)

    def run(
        self, first: str, last: str, assets: Sequence[dg.AssetKey] | None = None, **tags: str
    ) -> dg.ExecuteInProcessResult:
        """Materialize a range, or one day if both ends are the same; all assets and their checks if none is named."""
        of_range = {ASSET_PARTITION_RANGE_START_TAG: first, ASSET_PARTITION_RANGE_END_TAG: last}
        days: dict[str, Any] = {"partition_key": first, "tags": tags} if first == last else {"tags": of_range | tags}
        job = build_defs(self.config).resolve_implicit_global_asset_job_def()
        return job.execute_in_process(instance=self.instance, raise_on_error=False, asset_selection=assets, **days)

    def materialized(self, asset: dg.AssetKey) -> set[str]:
        return set(self.instance.get_materialized_partitions(asset))

    def windows(self) -> dict[Status, set[str]]:
        """The days by the status of the check of their windows, as the UI shows it."""
        check = (dg.AssetCheckKey(EVENTS, WINDOW_IS_COMPLETE), daily_partitions(self.config))
        (state,) = self.instance.event_log_storage.get_asset_check_state([check]).values()
        return {status: set(subset.subset_value.get_partition_keys()) for status, subset in state.subsets.items()}

    def log(self, result: dg.ExecuteInProcessResult) -> list[str]:
        return [entry.user_message for entry in self.instance.all_logs(result.run_id)]


def is_materialization(entry: dg.EventLogEntry, asset: dg.AssetKey) -> bool:
    event = entry.dagster_event
    return event is not None and event.is_step_materialization and event.asset_key == asset


def failure(result: dg.ExecuteInProcessResult) -> str:
    (failed,) = result.get_step_failure_events()
    return str(failed.step_failure_data.user_failure_data)


@pytest.fixture(scope="module")
def with_holes(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, dg.ExecuteInProcessResult]:
    """A range with a day without a folder at its beginning, in its middle and at its end."""
    lake = Lake(tmp_path_factory.mktemp("with_holes"))
    lake.deliver(2, 3, 5)
    return lake, lake.run("2025-09-01", "2025-09-06")


def test_days_that_were_never_delivered_do_not_fail_a_range(
    with_holes: tuple[Lake, dg.ExecuteInProcessResult],
) -> None:
    lake, result = with_holes
    assert result.success
    assert {row.at.date() for row in sessionized_events(str(lake.warehouse / "sessionized_events"))} == {
        date(2025, 9, day) for day in (2, 3, 5)
    }


def test_days_that_were_never_delivered_stay_unmaterialized_and_are_named(
    with_holes: tuple[Lake, dg.ExecuteInProcessResult],
) -> None:
    lake, result = with_holes
    assert lake.materialized(RAW) == keys(2, 3, 5)
    (line,) = [line for line in lake.log(result) if line.startswith("Never delivered")]
    assert "2025-09-01, 2025-09-04, 2025-09-06" in line


def test_the_tables_of_a_range_with_holes_are_up_to_date_and_checked_on_all_of_its_days(
    with_holes: tuple[Lake, dg.ExecuteInProcessResult],
) -> None:
    lake, result = with_holes
    assert lake.materialized(EVENTS) == lake.materialized(SESSIONS) == keys(1, 2, 3, 4, 5, 6)
    rows = [each for each in result.get_asset_check_evaluations() if each.partition and "checked" in each.metadata]
    assert {each.partition for each in rows} == keys(1, 2, 3, 4, 5, 6)
    assert all(each.passed for each in rows)


def test_each_day_is_materialized_before_the_next_one_lands(
    with_holes: tuple[Lake, dg.ExecuteInProcessResult],
) -> None:
    lake, result = with_holes
    order = [
        entry.user_message if entry.dagster_event is None else entry.dagster_event.partition
        for entry in lake.instance.all_logs(result.run_id)
        if re.fullmatch(r"landing batch \S+ \(. of 6\)", entry.user_message) or is_materialization(entry, RAW)
    ]
    assert order == [
        "landing batch 2025-09-01 (1 of 6)",
        "landing batch 2025-09-02 (2 of 6)",
        "2025-09-02",
        "landing batch 2025-09-03 (3 of 6)",
        "2025-09-03",
        "landing batch 2025-09-04 (4 of 6)",
        "landing batch 2025-09-05 (5 of 6)",
        "2025-09-05",
        "landing batch 2025-09-06 (6 of 6)",
    ]


def fail_to_land(day: date, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Spark fail on the batch of a day, as it does where this project has a fault."""

    def land_or_fail(*args: Any, **options: Any) -> LandingReport:
        if day in args:
            raise PySparkException(text)
        return land_batch(*args, **options)

    monkeypatch.setattr(pipeline_land_range, "land_batch", land_or_fail)


def outcomes_of_three_days(spark: SparkSession, folder: Path) -> list[BatchOutcome]:
    lake = Lake(folder)
    lake.deliver(1, 2, 3)
    days = [START, START + timedelta(1), START + timedelta(2)]
    warehouse = Warehouse(str(lake.warehouse))
    return list(land_range(spark, InputRoot(str(lake.input)), warehouse, days, "parquet", SessionRules()))


def test_a_failure_of_spark_that_nobody_can_explain_does_not_stop_the_other_days(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_to_land(START + timedelta(1), "An error occurred.\n: java.lang.AssertionError: no row\n\tat x", monkeypatch)
    first, failed, last = outcomes_of_three_days(spark, tmp_path)
    assert isinstance(first.result, LandingReport)
    assert isinstance(last.result, LandingReport)
    assert isinstance(failed.result, BatchError)
    assert f"{tmp_path}/input/date=2025-09-02" in str(failed.result)
    assert "java.lang.AssertionError: no row" in str(failed.result)
    # The sensor does not take it for the fault of what is in the folder.
    assert failed.fingerprint is None


@pytest.mark.parametrize("text", ["ExecutorLostFailure (executor 2 exited)", "Job 3 cancelled by a user"])
def test_a_failure_that_is_not_of_the_batch_stops_a_range(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    fail_to_land(START, text, monkeypatch)
    with pytest.raises(PySparkException, match=re.escape(text)):
        outcomes_of_three_days(spark, tmp_path)


def test_a_day_that_was_never_delivered_fails_if_it_is_asked_for_alone(
    with_holes: tuple[Lake, dg.ExecuteInProcessResult],
) -> None:
    lake, _ = with_holes
    message = failure(lake.run("2025-09-04", "2025-09-04"))
    assert "date=2025-09-04" in message
    assert "Deliver the batch" in message


def test_a_backfill_gets_every_partition_it_waits_for_and_no_window_is_complete_before_all_have_landed(
    spark: SparkSession, tmp_path: Path
) -> None:
    """Dagster's backfill daemon fails a backfill that lacks a partition, and starts a run for each complete window."""
    lake = Lake(tmp_path)
    lake.deliver(1, 2, 4, 5, 6, 7, 8)
    result = lake.run("2025-09-01", "2025-09-08", [RAW], **{BACKFILL_ID_TAG: "a_backfill"})
    assert result.success
    landed = [each.partition for each in result.asset_materializations_for_node("raw_events") if each.asset_key == RAW]
    assert landed == [f"2025-09-{day:02}" for day in (2, 4, 5, 6, 1, 7, 8, 3)]
    (hole,) = lake.instance.fetch_materializations(
        dg.AssetRecordsFilter(RAW, asset_partitions=["2025-09-03"]), limit=1
    ).records
    assert hole.asset_materialization is not None
    assert hole.asset_materialization.metadata["delivered"].value is False


TOMORROW = str(datetime.now(UTC).date() + timedelta(days=1))

WRONG_RANGES = {
    ("2025-09-20", "2025-09-18"): "Run it as 2025-09-18...2025-09-20",
    ("2025-08-30", "2025-09-02"): "not within the partitions, which are 2025-09-01...",
    ("2025-09-18", TOMORROW): "not within the partitions, which are 2025-09-01...",
}


@pytest.mark.parametrize(("days", "message"), WRONG_RANGES.items(), ids=lambda value: str(value)[:30])
@pytest.mark.parametrize("asset", [RAW, EVENTS, SESSIONS], ids=lambda key: key.path[-1])
def test_a_wrong_range_is_refused_before_anything_starts(
    tmp_path: Path, days: tuple[str, str], message: str, asset: dg.AssetKey
) -> None:
    lake = Lake(tmp_path)
    result = lake.run(*days, [asset])
    assert not result.success
    assert message in failure(result)
    assert not lake.warehouse.exists()


@pytest.mark.parametrize("asset", [RAW, EVENTS, SESSIONS])
def test_a_run_without_a_day_is_refused_with_an_instruction(tmp_path: Path, asset: dg.AssetKey) -> None:
    lake = Lake(tmp_path)
    job = build_defs(lake.config).resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(instance=lake.instance, raise_on_error=False, asset_selection=[asset])
    assert "This run has no partition" in failure(result)
    assert not lake.warehouse.exists()


def test_a_run_of_a_product_that_has_no_day_yet_is_refused_and_says_why(tmp_path: Path) -> None:
    lake = Lake(tmp_path, start=datetime.now(UTC).date() + timedelta(days=9))
    message = failure(lake.run("2025-09-02", "2025-09-03", [RAW]))
    assert f"the start date, {lake.start}, is not over" in message
    assert not lake.warehouse.exists()


def test_sessions_of_an_empty_warehouse_are_refused_with_an_instruction(tmp_path: Path) -> None:
    message = failure(Lake(tmp_path).run("2025-09-02", "2025-09-02", [SESSIONS]))
    assert "Materialize raw_events and sessionized_events first" in message


@pytest.mark.parametrize("job", ["compaction", "vacuum"])
def test_an_empty_warehouse_needs_no_maintenance(tmp_path: Path, job: str) -> None:
    lake = Lake(tmp_path)
    result = build_defs(lake.config).resolve_job_def(job).execute_in_process(instance=lake.instance)
    assert any("nothing to do" in line for line in lake.log(result))


def test_a_warning_goes_when_the_batch_it_names_lands(spark: SparkSession, tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.deliver(1, 3, 4)
    # A holiday: one that was delivered without events is not missing either.
    write_batch([], lake.input / "date=2025-09-02")
    assert lake.run("2025-09-03", "2025-09-04").success
    assert lake.windows()[Status.FAILED] == keys(3, 4)
    assert lake.run("2025-09-02", "2025-09-02").success
    assert lake.windows()[Status.FAILED] == keys(2, 3, 4)
    assert lake.run("2025-09-01", "2025-09-01").success
    assert lake.windows()[Status.FAILED] == set()
    assert lake.windows()[Status.SUCCEEDED] == keys(1, 2, 3, 4)


def test_landed_batches_before_a_later_start_date_are_named(spark: SparkSession, tmp_path: Path) -> None:
    world = World(spark, tmp_path)
    for day in (date(2025, 9, 1), date(2025, 9, 2), date(2025, 9, 4)):
        world.land(day, [Event("ada", "a", "idea", datetime.combine(day, datetime.min.time()) + timedelta(hours=9))])
    world.materialize(date(2025, 9, 1))
    lake = Lake(tmp_path, start=date(2025, 9, 4))
    result = lake.run("2025-09-04", "2025-09-04", [EVENTS])
    assert result.success
    (line,) = [line for line in lake.log(result) if "before the first partition" in line]
    assert "(2025-09-04): 2025-09-02." in line
