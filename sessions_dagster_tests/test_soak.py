"""The soak's story, and that what it verifies by is red if a table is wrong."""

from collections import Counter
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from pyspark.sql import SparkSession

from sessions_dagster.model.columns import KIND, NEW_END
from sessions_dagster_tests.builders import World
from sessions_dagster_tests.corrections import compare_corrections
from sessions_dagster_tests.soak.picture import draw
from sessions_dagster_tests.soak.story import Delivery, Step, story
from sessions_dagster_tests.soak.verify import wrong_rows

DAYS: Final = 60
STORY: Final = list(story(DAYS, 100, seed=1))


def test_every_batch_of_the_story_arrives_and_some_do_more_than_once() -> None:
    arrivals = Counter(delivery.day for step in STORY for delivery in step.deliveries)
    assert len(arrivals) == DAYS
    assert max(arrivals.values()) > 1


def test_some_batches_arrive_after_later_ones() -> None:
    days = [min(delivery.day for delivery in step.deliveries) for step in STORY if step.deliveries]
    assert days != sorted(days)


def test_some_runs_are_killed_and_the_tables_are_kept_up() -> None:
    assert {step.kill_after is None for step in STORY} == {True, False}
    assert any(step.compacts for step in STORY)
    assert any(step.vacuums for step in STORY)


def test_a_seed_determines_the_story() -> None:
    assert list(story(DAYS, 100, seed=1)) == STORY
    assert list(story(DAYS, 100, seed=2)) != STORY


def test_the_plot_has_the_days_and_the_processes() -> None:
    days = [{"day": day, "seconds": 5.0 + day, "ordinary": True, "resident_bytes": {"daemon": 2**27}} for day in (1, 2)]
    drawn = draw(days)
    assert "daemon" in drawn
    assert "a day with one batch" in drawn


@pytest.fixture(scope="module")
def passed(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[World, list[Delivery]]:
    """The tables after the first days of the story, and what has landed."""
    world = World(spark, tmp_path_factory.mktemp("soak"))
    landed: dict[date, Delivery] = {}
    for step in STORY[:3]:
        _land_and_apply(world, step)
        landed |= {delivery.day: delivery for delivery in step.deliveries}
    return world, list(landed.values())


def _land_and_apply(world: World, step: Step) -> None:
    for delivery in step.deliveries:
        world.land(delivery.day, [*delivery.events, delivery.rejected])
        world.materialize(delivery.day)
    world.refresh()


def test_the_tables_of_the_product_have_no_wrong_row(passed: tuple[World, list[Delivery]]) -> None:
    world, landed = passed
    assert set(wrong_rows(world.warehouse, landed).values()) == {0}
    corrections = compare_corrections(world.warehouse)
    assert corrections.corrected_sessions > 0
    assert corrections.wrong == 0


@pytest.mark.parametrize("name", ["raw_events", "rejected_events", "sessionized_events", "sessions"])
def test_a_row_that_is_missing_is_found(passed: tuple[World, list[Delivery]], name: str, tmp_path: Path) -> None:
    world, landed = passed
    damaged = world.copy_to(tmp_path)
    DeltaTable(f"{damaged.warehouse.root}/{name}").delete("user_id IS NOT NULL")
    assert [table for table, count in wrong_rows(damaged.warehouse, landed).items() if count] == [name]


def _without_one(entries: pa.Table) -> pa.Table:
    return entries.slice(1)


def _one_doubled(entries: pa.Table) -> pa.Table:
    return pa.concat_tables([entries, entries.slice(0, 1)])


def _of_another_kind(entries: pa.Table) -> pa.Table:
    return _changed(entries, KIND, "removed")


def _with_another_end(entries: pa.Table) -> pa.Table:
    return _changed(entries, NEW_END, entries[NEW_END][0].as_py() + timedelta(microseconds=1))


def _changed(entries: pa.Table, column: str, value: object) -> pa.Table:
    place, values = entries.column_names.index(column), entries[column].to_pylist()
    return entries.set_column(place, entries.field(column), pa.array([value, *values[1:]], entries.field(column).type))


@pytest.mark.parametrize("damage", [_without_one, _one_doubled, _of_another_kind, _with_another_end])
def test_a_wrong_entry_is_found(
    passed: tuple[World, list[Delivery]], damage: Callable[[pa.Table], pa.Table], tmp_path: Path
) -> None:
    damaged = passed[0].copy_to(tmp_path)
    table = DeltaTable(damaged.warehouse.session_corrections)
    entries = table.to_pyarrow_table().sort_by([(KIND, "ascending")])
    assert entries[KIND][0].as_py() == "extended"
    write_deltalake(table, damage(entries), mode="overwrite")
    assert compare_corrections(damaged.warehouse).wrong > 0
