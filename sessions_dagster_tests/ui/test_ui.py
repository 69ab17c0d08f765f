"""The project in Dagster's UI as a person uses it: materializations, check results, backfills, and the sensor.

Every test has days of its own, so none needs what another one does.
"""

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pyarrow as pa
import pytest
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionResolvedStatus as Status
from deltalake import DeltaTable, QueryBuilder
from playwright.sync_api import expect

from sessions_dagster.config import SessionsConfig
from sessions_dagster.defs.assets import INPUT_BATCHES, RAW_EVENTS
from sessions_dagster.defs.checks import WINDOW_IS_COMPLETE, event_check_specs, sessions_check_spec
from sessions_dagster.defs.missing_batches import BATCHES_HAVE_LANDED
from sessions_dagster.demo import story
from sessions_dagster_tests.builders import landed_events, sessionized_events, write_batch
from sessions_dagster_tests.oracle import Event, sessionize
from sessions_dagster_tests.ui.clicks import (
    ASSETS,
    TICK_SECONDS,
    Ui,
    expect_backfill_succeeded,
    expect_finished,
    materialize_all,
    milliseconds,
    number_of,
    open_launched,
    open_partition,
    open_requested,
    show_check,
    show_check_of_asset,
    show_launchpad,
    show_partitions,
    show_sensor,
    switch_sensor,
    ticks,
)
from sessions_dagster_tests.ui.server import DagsterDev

ANY_CONFIG = SessionsConfig(start_date=story.MONDAY)
CHECKS = [*event_check_specs(ANY_CONFIG), sessions_check_spec(ANY_CONFIG)]
BACKFILLED = story.DAYS[1:6]
GOOD_RESULT = re.compile(r"^(0 of \d+ (rows?|sessions?) offend|All batches of the window have landed)\.$")
FIVE_DAYS = f"[{BACKFILLED[0]}...{BACKFILLED[-1]}]"


def deliver(dagster: DagsterDev, day: date) -> None:
    """Write a batch of the demo into its folder."""
    story.write_batch(dagster.input_root, day, story.batches()[day])


def rows_of_batch(table_uri: str, day: date) -> int:
    """The number of rows of a batch, read by delta-rs, so that no Spark is needed beside that of the runs."""
    query = f"SELECT count(*) AS rows FROM t WHERE batch_date = DATE '{day}'"
    found = QueryBuilder().register("t", DeltaTable(table_uri)).execute(query).read_all()
    rows: int = pa.table(found)["rows"][0].as_py()
    return rows


@pytest.fixture(scope="module")
def monday(dagster: DagsterDev, ui: Ui) -> str:
    """The partition of a day, after its assets were materialized in the UI."""
    deliver(dagster, story.MONDAY)
    key = story.MONDAY.isoformat()
    materialize_all(ui, key)
    open_launched(ui)
    expect_finished(ui.page)
    return key


@pytest.fixture(scope="module")
def backfilled(dagster: DagsterDev, ui: Ui) -> str:
    """Five days, after a backfill that was launched in the UI materialized all assets."""
    for day in BACKFILLED:
        deliver(dagster, day)
    materialize_all(ui, FIVE_DAYS)
    open_launched(ui)
    # One run lands. The other one applies, also to the next five days, which depend on the landed batches.
    expect_backfill_succeeded(ui, runs=2)
    return FIVE_DAYS


@pytest.fixture(scope="module")
def backfilled_to_the_end(dagster: DagsterDev, ui: Ui) -> str:
    """The newest five days, after a backfill materialized all assets."""
    today = datetime.now(UTC).date()
    days = [today - timedelta(days=back) for back in range(5, 0, -1)]
    for day in days:
        at_noon = datetime(day.year, day.month, day.day, 12)
        write_batch([Event("ada", "a", "idea", at_noon)], dagster.input_root / f"date={day}")
    range_of_days = f"[{days[0]}...{days[-1]}]"
    materialize_all(ui, range_of_days)
    open_launched(ui)
    # No day after the range depends on it, so all assets are materialized for the same days.
    expect_backfill_succeeded(ui, runs=1)
    return range_of_days


@pytest.fixture
def running_sensor(ui: Ui) -> Iterator[None]:
    """Turn the sensor on in the UI; it is off before and after the test."""
    show_sensor(ui)
    switch_sensor(ui, on=True)
    yield
    show_sensor(ui)
    switch_sensor(ui, on=False)


@pytest.mark.parametrize("asset", ASSETS)
def test_a_partition_materialized_in_the_ui_is_green(ui: Ui, monday: str, asset: str) -> None:
    show_partitions(ui, asset, monday)
    expect(number_of(ui, "Materialized", 1)).to_be_visible()
    open_partition(ui, monday)
    expect(ui.page.get_by_text("Materialized", exact=True)).to_be_visible()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_the_check_results_of_a_partition_are_shown(ui: Ui, monday: str, check: dg.AssetCheckSpec) -> None:
    show_check(ui, check.asset_key.to_user_string(), check.name, monday)
    expect(number_of(ui, "Passed", 1)).to_be_visible()
    open_partition(ui, monday)
    expect(ui.page.get_by_text("Passed", exact=True)).to_be_visible()
    expect(ui.page.get_by_text(GOOD_RESULT)).to_be_visible()


@pytest.mark.parametrize("asset", ASSETS)
def test_all_partitions_of_a_backfill_in_two_runs_are_green(ui: Ui, backfilled: str, asset: str) -> None:
    show_partitions(ui, asset, backfilled)
    expect(number_of(ui, "Materialized", len(BACKFILLED))).to_be_visible()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_every_check_has_a_result_for_each_partition_of_a_backfill(
    dagster: DagsterDev, backfilled: str, check: dg.AssetCheckSpec
) -> None:
    statuses = dagster.check_statuses(check.key)
    # The windows include an earlier day that lands in another test.
    results = {Status.SUCCEEDED, Status.FAILED} if check.name == WINDOW_IS_COMPLETE else {Status.SUCCEEDED}
    assert {statuses.get(day.isoformat()) for day in BACKFILLED} <= results


@pytest.mark.parametrize("asset", ASSETS)
def test_all_partitions_of_a_backfill_to_the_newest_day_in_one_run_are_green(
    ui: Ui, backfilled_to_the_end: str, asset: str
) -> None:
    show_partitions(ui, asset, backfilled_to_the_end)
    expect(number_of(ui, "Materialized", 5)).to_be_visible()


def test_batches_that_never_came_are_red_without_any_run(ui: Ui) -> None:
    show_check_of_asset(ui, RAW_EVENTS, BATCHES_HAVE_LANDED)
    missing = ui.page.get_by_text(re.compile(r"of \d+ batches that are due (has|have) not landed")).first
    expect(missing, "the sensor `missing_batches` says nothing").to_be_visible(timeout=milliseconds(TICK_SECONDS))


def test_the_graph_begins_with_the_input_folder(ui: Ui) -> None:
    ui.open("asset-groups")
    expect(ui.page.get_by_text(INPUT_BATCHES, exact=True).first).to_be_visible()


def test_a_vacuum_started_by_hand_begins_as_a_dry_run(ui: Ui) -> None:
    show_launchpad(ui, "vacuum")
    expect(ui.page.get_by_text("dry_run: true").first).to_be_visible()
    expect(ui.page.get_by_text("retention_days: 0").first).to_be_visible()


def test_the_sensor_lands_a_new_folder(dagster: DagsterDev, ui: Ui, running_sensor: None) -> None:
    deliver(dagster, story.SUNDAY)
    tick = ticks(ui, "1 run requested")
    expect(tick, "the sensor asks for no run").to_be_visible(timeout=milliseconds(TICK_SECONDS))
    run = open_requested(ui, tick)
    expect_finished(run)
    run.close()

    tables = (dagster.warehouse.raw_events, dagster.warehouse.rejected_events)
    # One of ada's actions is six days late, so it is rejected.
    assert [rows_of_batch(uri, story.SUNDAY) for uri in tables] == [len(story.batches()[story.SUNDAY]) - 1, 1]
    found = sessionized_events(dagster.warehouse.sessionized_events)
    assert sorted(found, key=str) == sorted(sessionize(landed_events(dagster.warehouse.raw_events)), key=str)
