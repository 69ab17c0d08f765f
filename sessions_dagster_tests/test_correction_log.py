"""`session_corrections`: every correction of a written session is kept once, whatever dies in between."""

from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path

import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from sessions_dagster.core import commit
from sessions_dagster.core.maintenance import compact
from sessions_dagster_tests.builders import CorrectionRow, World
from sessions_dagster_tests.oracle import Event

D19, D20, D21, D22 = (date(2025, 9, day) for day in (19, 20, 21, 22))


def u(time: str, event: str = "a", user: str = "ada") -> Event:
    return Event(user, event, "idea", datetime.fromisoformat(f"2025-09-20 {time}"))


def at(time: str) -> datetime:
    return datetime.fromisoformat(f"2025-09-20 {time}")


TWO_SESSIONS = [u("09:00"), u("09:08"), u("12:00", "x")]


@pytest.fixture
def world(spark: SparkSession, tmp_path: Path) -> World:
    world = World(spark, tmp_path)
    apply(world, D20, TWO_SESSIONS)
    return world


def apply(world: World, day: date, events: Sequence[Event]) -> None:
    world.land(day, events)
    world.materialize(day)


def kinds(world: World) -> list[str]:
    return sorted(row.kind for row in world.corrections())


def test_new_sessions_are_no_corrections(world: World) -> None:
    apply(world, D21, [u("15:00"), u("09:00", user="bob")])
    assert world.corrections() == []


def test_a_session_that_is_touched_and_stays_as_it_was_is_no_correction(world: World) -> None:
    apply(world, D21, [u("09:02", "x"), u("09:01", "x")])
    assert world.corrections() == []


def test_an_extended_session_is_kept_with_its_bounds_and_its_batch(world: World) -> None:
    apply(world, D21, [u("09:02")])
    assert world.corrections() == [
        CorrectionRow(
            2,
            "ada",
            "idea",
            "extended",
            at("09:00"),
            at("09:05"),
            at("09:00"),
            at("09:07"),
            frozenset({D21}),
        )
    ]


def test_of_merged_sessions_each_is_kept(world: World) -> None:
    apply(world, D21, [u("09:04")])
    merged = [(row.kind, row.old_start, row.old_end, row.new_start, row.new_end) for row in world.corrections()]
    assert sorted(merged, key=str) == [
        ("merged", at("09:00"), at("09:05"), at("09:00"), at("09:13")),
        ("merged", at("09:08"), at("09:13"), at("09:00"), at("09:13")),
    ]


def test_a_split_session_is_kept_with_each_of_its_parts(world: World) -> None:
    apply(world, D21, [u("09:04")])
    apply(world, D21, [u("15:00")])
    split = [(row.old_start, row.new_start) for row in world.corrections() if row.kind == "split"]
    assert sorted(split, key=str) == [(at("09:00"), at("09:00")), (at("09:00"), at("09:08"))]


def test_a_shrunk_and_a_removed_session_are_kept(world: World) -> None:
    apply(world, D21, [u("09:02"), u("15:00")])
    apply(world, D21, [u("12:00", "y")])
    assert kinds(world) == ["extended", "removed", "shrunk"]
    (removed,) = (row for row in world.corrections() if row.kind == "removed")
    assert (removed.old_start, removed.new_start, removed.new_end) == (at("15:00"), None, None)


def test_of_batches_applied_at_once_those_are_named_that_did_it(world: World) -> None:
    world.land(D21, [u("09:02")])
    world.land(D22, [u("09:11"), u("18:00")])
    world.materialize(D21, D22)
    assert {(row.old_start, row.batches) for row in world.corrections()} == {
        (at("09:00"), frozenset({D21})),
        (at("09:08"), frozenset({D22})),
    }


def test_entries_name_the_version_that_holds_the_new_bounds_first(world: World) -> None:
    apply(world, D21, [u("09:02")])
    apply(world, D22, [u("09:11")])
    assert sorted(row.version for row in world.corrections()) == [2, 3]
    assert DeltaTable(world.warehouse.sessionized_events).version() == 3


class Killed(BaseException):
    """The end of a process."""


@pytest.fixture
def killed_before_its_commit(world: World) -> World:
    """A run has died when its entries were written, and its correction was not."""

    def die(*_: object) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        for write in ("append", "upsert", "upsert_and_remove"):
            patch.setattr(commit, write, die)
        world.land(D21, [u("09:02")])
        with pytest.raises(Killed):
            world.materialize(D21)
    assert kinds(world) == ["extended"]
    return world


def test_entries_of_a_run_that_died_are_not_there_twice_after_the_next(killed_before_its_commit: World) -> None:
    killed_before_its_commit.materialize(D21)
    assert kinds(killed_before_its_commit) == ["extended"]


def test_entries_of_a_run_that_died_go_where_its_correction_never_came(killed_before_its_commit: World) -> None:
    killed_before_its_commit.land(D21, [u("18:00")])
    killed_before_its_commit.materialize(D21)
    assert kinds(killed_before_its_commit) == []


def test_entries_of_a_run_that_died_go_though_a_compaction_has_taken_their_version(
    killed_before_its_commit: World,
) -> None:
    world = killed_before_its_commit
    compact(world.spark, world.warehouse, world.warehouse.sessionized_events)
    world.materialize(D21)
    assert [(row.kind, row.version) for row in world.corrections()] == [
        ("extended", DeltaTable(world.warehouse.sessionized_events).version())
    ]


def test_compaction_and_further_runs_keep_all_entries(world: World) -> None:
    apply(world, D21, [u("09:02")])
    for uri in (world.warehouse.sessionized_events, world.warehouse.session_corrections):
        compact(world.spark, world.warehouse, uri)
    apply(world, D22, [u("09:11")])
    world.materialize(D19)
    assert kinds(world) == ["extended", "extended"]
