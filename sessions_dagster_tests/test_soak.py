"""The soak's story, and that what it verifies by is red if a table is wrong."""

from collections import Counter
from datetime import date
from pathlib import Path
from typing import Final

import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from sessions_dagster_tests.builders import World
from sessions_dagster_tests.soak.picture import draw
from sessions_dagster_tests.soak.story import Delivery, Step, story
from sessions_dagster_tests.soak.verify import wrong_corrections, wrong_rows

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
    changed, wrong = wrong_corrections(world.warehouse)
    assert changed > 0
    assert wrong == 0


@pytest.mark.parametrize("name", ["raw_events", "rejected_events", "sessionized_events", "sessions"])
def test_a_row_that_is_missing_is_found(passed: tuple[World, list[Delivery]], name: str, tmp_path: Path) -> None:
    world, landed = passed
    damaged = world.copy_to(tmp_path)
    DeltaTable(f"{damaged.warehouse.root}/{name}").delete("user_id IS NOT NULL")
    assert [table for table, count in wrong_rows(damaged.warehouse, landed).items() if count] == [name]


def test_an_entry_that_is_missing_is_found(passed: tuple[World, list[Delivery]], tmp_path: Path) -> None:
    damaged = passed[0].copy_to(tmp_path)
    DeltaTable(damaged.warehouse.session_corrections).delete("kind = 'extended'")
    assert wrong_corrections(damaged.warehouse)[1] > 0
