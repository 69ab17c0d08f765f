"""`batches_have_landed`: silence is not health. The check is red while the batch of any day is overdue."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessions_dagster.config import SessionsConfig
from sessions_dagster.defs import build_defs
from sessions_dagster.defs.metadata import not_delivered_metadata
from sessions_dagster.defs.missing_batches import (
    Missing,
    batches_check_spec,
    build_missing_batches_sensor,
    changed_evaluation,
    find_missing,
)
from sessions_dagster.defs.resources import tables_without_run
from sessions_dagster.model.dates import days_between
from sessions_dagster.pipeline.deadlines import due_batches

FIRST, LAST = date(2025, 9, 1), date(2025, 10, 10)
DAYS = days_between(FIRST, LAST)
NOON = datetime(2025, 10, 11, 12, tzinfo=UTC)
"""The deadline of the last day, to the second."""


@dataclass
class Product:
    """A product, the instance that knows its runs, and what its sensor does in a tick."""

    folder: Path
    start: date = FIRST
    instance: dg.DagsterInstance = field(default_factory=dg.DagsterInstance.ephemeral)

    @property
    def config(self) -> SessionsConfig:
        return SessionsConfig(start_date=self.start, warehouse_root=self.folder / "lake")

    def land(self, days: Iterable[date]) -> None:
        for day in days:
            self.instance.report_runless_asset_event(dg.AssetMaterialization("raw_events", partition=str(day)))

    def tick(self, now: datetime = NOON) -> dg.AssetCheckEvaluation | None:
        """Report what has changed, as the daemon does with the result of the sensor."""
        missing = find_missing(self.instance, self.config, tables_without_run(self.config), now)
        changed = changed_evaluation(self.instance, self.config, missing)
        if changed is not None:
            self.instance.report_runless_asset_event(changed)
        return changed

    def sensor_result(self) -> dg.SensorResult:
        with dg.build_sensor_context(instance=self.instance) as context:
            result = build_missing_batches_sensor(self.config)(context)
        assert isinstance(result, dg.SensorResult)
        return result

    @property
    def shown(self) -> dg.AssetCheckEvaluation | None:
        """The result that Dagster shows on the asset, and that the asset's health goes by."""
        key = batches_check_spec(self.config).key
        found = self.instance.event_log_storage.get_latest_asset_check_execution_by_key([key])
        return found[key].evaluation if key in found else None


@pytest.fixture
def product(tmp_path: Path) -> Product:
    return Product(tmp_path)


def is_red(evaluation: dg.AssetCheckEvaluation | None) -> bool:
    assert evaluation is not None
    assert evaluation.severity is dg.AssetCheckSeverity.ERROR
    return not evaluation.passed


def test_a_batch_is_due_so_many_hours_after_its_day_is_over() -> None:
    half_a_day, second = timedelta(hours=12), timedelta(seconds=1)
    assert due_batches(FIRST, half_a_day, NOON) == DAYS
    assert due_batches(FIRST, half_a_day, NOON - second) == DAYS[:-1]
    assert due_batches(FIRST, timedelta(), datetime(2025, 10, 11, tzinfo=UTC)) == DAYS
    assert due_batches(FIRST, timedelta(hours=36), NOON) == DAYS[:-1]
    assert due_batches(LAST + timedelta(days=3), half_a_day, NOON) == []


def test_the_time_zone_of_the_clock_does_not_matter() -> None:
    in_new_york = datetime.fromisoformat("2025-10-11T08:00:00-04:00")
    assert due_batches(FIRST, timedelta(hours=12), in_new_york) == DAYS


def test_with_39_of_40_days_missing_it_is_red_although_a_batch_landed_today(product: Product) -> None:
    product.land([FIRST])
    product.tick()
    assert is_red(product.shown)
    assert product.shown is not None
    assert product.shown.description == ("39 of 40 batches that are due have not landed: 2025-09-02...2025-10-10.")


def test_a_hole_that_a_backfill_has_materialized_stays_missing(product: Product) -> None:
    product.land(DAYS)
    hole = dg.AssetMaterialization("raw_events", partition=str(LAST), metadata=not_delivered_metadata())
    product.instance.report_runless_asset_event(hole)
    assert is_red(product.tick())
    assert find_missing(product.instance, product.config, tables_without_run(product.config), NOON).days == [LAST]


def test_an_empty_lake_is_red(product: Product) -> None:
    product.tick()
    assert is_red(product.shown)


def test_the_newest_finished_day_alone_is_enough(product: Product) -> None:
    product.land(DAYS[:-1])
    product.tick(NOON - timedelta(seconds=1))
    assert not is_red(product.shown)
    product.tick(NOON)
    assert is_red(product.shown)


def test_it_names_every_missing_day_and_when_it_was_due(product: Product) -> None:
    gaps = [DAYS[3], DAYS[4], LAST]
    product.land(day for day in DAYS if day not in gaps)
    result = product.tick()
    assert result is not None
    assert result.description == ("3 of 40 batches that are due have not landed: 2025-10-10, 2025-09-04...2025-09-05.")
    table = result.metadata["newest_missing_batches"]
    assert isinstance(table, dg.TableMetadataValue)
    assert [dict(record.data) for record in table.records] == [
        {"batch": "2025-10-10", "was_due": "2025-10-11 at 12:00 UTC"},
        {"batch": "2025-09-05", "was_due": "2025-09-06 at 12:00 UTC"},
        {"batch": "2025-09-04", "was_due": "2025-09-05 at 12:00 UTC"},
    ]


@pytest.mark.parametrize(
    ("due", "missing", "said"),
    [
        (1, 0, "The batch of 2025-09-01, the only one that is due, has landed."),
        (2, 0, "All 2 batches that are due have landed, the newest of them of 2025-09-02."),
        (1, 1, "1 of 1 batch that is due has not landed: 2025-09-01."),
        (2, 1, "1 of 2 batches that are due has not landed: 2025-09-01."),
        (2, 2, "2 of 2 batches that are due have not landed: 2025-09-01...2025-09-02."),
    ],
)
def test_one_batch_is_singular(due: int, missing: int, said: str) -> None:
    assert str(Missing(DAYS[:due], DAYS[:missing])) == said


def test_a_start_date_in_the_future_says_nothing_and_above_all_not_that_all_is_well(tmp_path: Path) -> None:
    product = Product(tmp_path, start=datetime.now(UTC).date() + timedelta(days=30))
    result = product.sensor_result()
    assert not result.asset_events
    assert result.skip_reason == dg.SkipReason("No batch is due yet.")


def test_a_tick_without_news_reports_nothing(product: Product) -> None:
    product.land(DAYS[5:])
    assert product.tick()
    assert product.tick() is None


def test_a_batch_that_lands_again_does_not_leave_the_result_outdated(product: Product) -> None:
    product.land(DAYS)
    product.tick()
    product.land([LAST])
    assert product.tick()
    assert not is_red(product.shown)


def test_a_run_that_failed_before_the_check_does_not_leave_it_failed(product: Product) -> None:
    product.land(DAYS)
    product.tick()
    job = build_defs(product.config).resolve_implicit_global_asset_job_def()
    job = job.get_subset(asset_selection={dg.AssetKey("raw_events")})
    run = product.instance.create_run_for_job(job, tags={"dagster/partition": str(LAST)})
    assert product.tick() is None
    product.instance.report_run_failed(run)
    assert product.tick()
    assert not is_red(product.shown)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.sets(st.sampled_from(DAYS[:9])), min_size=1, max_size=4), st.integers(0, 8))
def test_after_each_tick_it_is_red_exactly_while_a_batch_is_missing(landings: list[set[date]], due: int) -> None:
    product = Product(Path("no-such-folder"))
    landed: set[date] = set()
    for days in landings:
        product.land(days)
        landed |= days
        product.tick(datetime(2025, 9, 2, 12, tzinfo=UTC) + timedelta(days=due))
        assert is_red(product.shown) == bool(set(DAYS[: due + 1]) - landed)


def test_tables_that_cannot_be_read_are_no_sign_of_health(product: Product) -> None:
    log = product.folder / "lake" / "raw_events" / "_delta_log"
    log.mkdir(parents=True)
    (log / "00000000000000000000.json").write_text("{no json")
    product.land(DAYS[:-1])
    result = product.tick()
    assert is_red(result)
    assert result is not None
    assert str(result.description).startswith(
        "It is not known whether the batches of 2025-10-10 have landed: the tables cannot be read: "
    )


def test_the_sensor_is_on_from_the_start_and_starts_no_run(product: Product) -> None:
    assert build_missing_batches_sensor(product.config).default_status is dg.DefaultSensorStatus.RUNNING
    result = product.sensor_result()
    (event,) = result.asset_events
    assert isinstance(event, dg.AssetCheckEvaluation)
    assert is_red(event)
    assert not result.run_requests


def test_no_asset_has_a_freshness_that_any_materialization_satisfies(product: Product) -> None:
    specs = build_defs(product.config).resolve_all_asset_specs()
    assert not [spec.key for spec in specs if spec.freshness_policy is not None]
