"""`session_corrections`: each correction is recorded once, even if runs are killed, or several write at once."""

import shutil
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from sessions_dagster.errors import ConcurrentWriteError, is_retryable
from sessions_dagster.pipeline import apply as apply_module
from sessions_dagster.storage.commit_metadata import CorrectionEntries, newest_entries
from sessions_dagster.storage.correction_log import write_ahead
from sessions_dagster.storage.maintenance import compact
from sessions_dagster.storage.sql import quoted, run_sql
from sessions_dagster.storage.warehouse import Warehouse
from sessions_dagster.storage.write_changes import write_changes
from sessions_dagster_tests.builders import CorrectionRow, World
from sessions_dagster_tests.oracle import Event, sessionize

D20, D21, D22, D28 = (date(2025, 9, day) for day in (20, 21, 22, 28))


def u(time: str, event: str = "a", user: str = "ada") -> Event:
    return Event(user, event, "idea", datetime.fromisoformat(f"2025-09-20 {time}"))


def at(time: str) -> datetime:
    return datetime.fromisoformat(f"2025-09-20 {time}")


FIRST = [
    *[u("09:00", user="touched"), u("09:00", user="extended"), u("09:00", user="split"), u("09:08", user="split")],
    *[u("09:00", user="merged"), u("09:08", user="merged"), u("09:00", user="shrunk"), u("09:00", user="two batches")],
    *[u("09:08", user="two batches")],
]
"""The events of the first batch. Each user is named by what happens to its sessions."""

LATE = [
    *[u("09:02", "x", "touched"), u("09:02", user="extended"), u("09:04", user="merged"), u("15:00", user="new")],
    *[u("09:04", user="split"), u("09:02", user="shrunk"), u("15:00", user="removed"), u("09:02", user="two batches")],
]

RETRACTED = [u("09:04", user="split"), u("09:02", user="shrunk"), u("15:00", user="removed")]
"""The events that the late batch retracts when it lands again."""

LATER = [u("09:11", user="two batches")]


@pytest.fixture(scope="module")
def entries(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> list[CorrectionRow]:
    """The recorded corrections after a late batch was applied together with a later one, and then landed again."""
    world = World(spark, tmp_path_factory.mktemp("corrections"))
    apply(world, D20, FIRST)
    world.land(D21, LATE)
    world.land(D22, LATER)
    world.materialize(D21, D22)
    apply(world, D21, [event for event in LATE if event not in RETRACTED])
    for uri in (world.warehouse.sessionized_events, world.warehouse.session_corrections):
        compact(world.spark, world.warehouse, uri)
    assert not world.materialize(D20, D22).committed
    return world.corrections()


def apply(world: World, day: date, events: Sequence[Event]) -> None:
    world.land(day, events)
    world.materialize(day)


def kinds(world: World) -> list[str]:
    return sorted(row.kind for row in world.corrections())


@pytest.mark.parametrize("user", ["new", "touched"])
def test_a_change_that_keeps_the_bounds_of_all_existing_sessions_is_not_recorded(
    entries: list[CorrectionRow], user: str
) -> None:
    assert [row for row in entries if row.user == user] == []


def test_an_extended_session_is_recorded_with_its_bounds_and_its_batch(entries: list[CorrectionRow]) -> None:
    before, now = (at("09:00"), at("09:05")), (at("09:00"), at("09:07"))
    assert [row for row in entries if row.user == "extended"] == [
        CorrectionRow(2, "extended", "idea", "extended", *before, *now, frozenset({D21}))
    ]


def test_each_merged_session_is_recorded(entries: list[CorrectionRow]) -> None:
    merged = {(row.kind, row.old_start, row.new_start, row.new_end) for row in entries if row.user == "merged"}
    assert merged == {("merged", at(start), at("09:00"), at("09:13")) for start in ("09:00", "09:08")}


def test_a_split_session_is_recorded_once_for_each_part(entries: list[CorrectionRow]) -> None:
    parts = {(row.old_start, row.new_start) for row in entries if row.user == "split" and row.kind == "split"}
    assert parts == {(at("09:00"), at("09:00")), (at("09:00"), at("09:08"))}


def test_a_shrunk_session_is_recorded(entries: list[CorrectionRow]) -> None:
    assert [(row.version, row.kind) for row in sorted(entries) if row.user == "shrunk"] == [
        (2, "extended"),
        (3, "shrunk"),
    ]


def test_a_removed_session_is_recorded_without_a_new_one(entries: list[CorrectionRow]) -> None:
    removed = [(row.kind, row.old_start, row.new_start, row.new_end) for row in entries if row.user == "removed"]
    assert removed == [("removed", at("15:00"), None, None)]


def test_only_the_batches_that_caused_a_correction_are_recorded(entries: list[CorrectionRow]) -> None:
    assert {(row.old_start, row.batches) for row in entries if row.user == "two batches"} == {
        (at("09:00"), frozenset({D21})),
        (at("09:08"), frozenset({D22})),
    }


class Killed(BaseException):
    """Ends the process at this point."""


@pytest.fixture(scope="module")
def killed(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> World:
    """A warehouse whose last run was killed after it had written its entries and before it committed its correction."""
    world = World(spark, tmp_path_factory.mktemp("killed"))
    apply(world, D20, [u("09:00"), u("12:00", "x")])

    world.land(D21, [u("09:02")])
    with pytest.MonkeyPatch.context() as patch:
        die_before(patch, "write_changes", world)
    assert kinds(world) == ["extended"]
    return world


@pytest.fixture
def killed_before_its_commit(killed: World, tmp_path: Path) -> World:
    return killed.copy_to(tmp_path)


def test_the_next_run_does_not_duplicate_entries_of_a_killed_run(killed_before_its_commit: World) -> None:
    killed_before_its_commit.materialize(D21)
    assert kinds(killed_before_its_commit) == ["extended"]


def test_entries_of_a_killed_run_are_dropped_if_its_correction_was_not_committed(
    killed_before_its_commit: World,
) -> None:
    killed_before_its_commit.land(D21, [u("18:00")])
    killed_before_its_commit.materialize(D21)
    assert kinds(killed_before_its_commit) == []


def test_entries_of_a_killed_run_are_dropped_even_if_a_compaction_committed_their_version(
    killed_before_its_commit: World,
) -> None:
    world = killed_before_its_commit
    compact(world.spark, world.warehouse, world.warehouse.sessionized_events)
    world.materialize(D21)
    assert [(row.kind, row.version) for row in world.corrections()] == [
        ("extended", DeltaTable(world.warehouse.sessionized_events).version())
    ]


def test_entries_of_a_run_are_kept_if_maintenance_committed_just_before_its_correction(
    killed_before_its_commit: World,
) -> None:
    world = killed_before_its_commit

    def write_after_maintenance(*arguments: Any) -> int | None:
        run_sql(world.spark, f"ALTER TABLE {quoted(world.warehouse.sessionized_events)} SET TBLPROPERTIES ('a' = 'b')")
        return write_changes(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(apply_module, "write_changes", write_after_maintenance)
        report = world.materialize(D21)
    assert report.version == DeltaTable(world.warehouse.sessionized_events).version() == 4
    assert not world.materialize(D21).committed
    assert kinds(world) == ["extended"]


def test_entries_of_a_killed_run_of_an_older_version_are_dropped(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(spark, tmp_path)
    apply(world, D20, [u("09:00")])
    world.land(D21, [u("09:02")])
    with monkeypatch.context() as patch:
        # It gave them no id.
        patch.setattr(CorrectionEntries, "as_commit_metadata", lambda *_: {})
        die_before(patch, "write_changes", world)
    assert kinds(world) == ["extended"]
    apply(world, D21, [u("18:00")])
    assert kinds(world) == []


def test_entries_of_a_killed_run_that_somebody_has_deleted_are_looked_for_once(
    killed_before_its_commit: World,
) -> None:
    world = killed_before_its_commit
    run_sql(world.spark, f"DELETE FROM {quoted(world.warehouse.session_corrections)}")
    world.land(D21, [u("18:00")])
    world.materialize(D21)
    tables = (world.warehouse.session_corrections, world.warehouse.sessionized_events)
    assert newest_entries(*map(DeltaTable, tables)) is None


def die_before(patch: pytest.MonkeyPatch, step: str, world: World) -> None:
    """Let a run that applies a batch be killed just before a step."""

    def die(*_: object) -> None:
        raise Killed

    patch.setattr(apply_module, step, die)
    with pytest.raises(Killed):
        world.materialize(D21)


def commits_the_correction(world: World) -> None:
    world.materialize(D21)


def commits_without_entries(world: World) -> None:
    assert not world.materialize(D28).session_changes


def is_killed_after_its_entries(world: World) -> None:
    with pytest.MonkeyPatch.context() as patch:
        die_before(patch, "write_changes", world)


def test_a_run_finds_the_entries_of_another_one_before_it_writes_its_own(
    landed: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on an object store.
    monkeypatch.setattr(Warehouse, "locked", lambda _: nullcontext())
    world = landed.copy_to(tmp_path)
    # Of the first entries there is no table that the run could have looked at before.
    world.materialize(D21)
    world.land(D22, [u("09:04")])

    def after_the_other_run(*arguments: Any) -> Any:
        patch.undo()
        World(world.spark, tmp_path).materialize(D22)
        return write_ahead(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(apply_module, "write_ahead", after_the_other_run)
        with pytest.raises(ConcurrentWriteError, match=r"has written to .*session_corrections while a correction"):
            world.materialize(D22)
    assert sorted(row.version for row in world.corrections()) == [2, 3]


@pytest.fixture(scope="module")
def landed(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> World:
    """A warehouse with a batch that was applied, and two that were not: a late one, and one that corrects nothing."""
    world = World(spark, tmp_path_factory.mktemp("landed"))
    apply(world, D20, [u("09:00"), u("12:00", "x")])
    world.land(D21, [u("09:02")])
    world.land(D28, [Event("ada", "a", "idea", datetime(2025, 9, 28, 9))])
    return world


def run_that_corrects_nothing(world: World) -> None:
    world.materialize(D28)


def run_that_is_killed_after_its_entries(world: World) -> None:
    is_killed_after_its_entries(world)
    world.materialize(D28)


@pytest.mark.parametrize("run", [run_that_corrects_nothing, run_that_is_killed_after_its_entries])
def test_entries_are_kept_if_the_table_is_put_back_from_a_copy_made_before_their_corrections(
    landed: World, tmp_path: Path, run: Callable[[World], None]
) -> None:
    before = landed.copy_to(tmp_path / "before")
    before.materialize(D21)
    apply(before, D22, [u("09:04")])
    entries = sorted(before.corrections())
    assert [row.version for row in entries] == [2, 3]

    # In another folder, because Spark remembers the log of a table.
    world = before.copy_to(tmp_path / "put back")
    shutil.rmtree(world.warehouse.sessionized_events)
    shutil.copytree(landed.warehouse.sessionized_events, world.warehouse.sessionized_events)
    run(world)
    apply(world, D28, [Event("ada", "a", "idea", datetime(2025, 9, 28, hour)) for hour in (9, 15)])
    assert sorted(world.corrections()) == entries
    world.materialize(D21, D22)
    assert len(world.corrections()) == 3
    assert set(world.table()) == sessionize(world.all_events())


@pytest.mark.parametrize(
    ("step", "other"),
    [
        ("write_ahead", commits_the_correction),
        ("write_ahead", commits_without_entries),
        ("write_changes", commits_the_correction),
        ("write_changes", is_killed_after_its_entries),
    ],
)
def test_a_run_that_another_one_gets_ahead_of_is_refused_and_no_entry_is_lost_or_left(
    landed: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, other: Callable[[World], None]
) -> None:
    # As on an object store.
    monkeypatch.setattr(Warehouse, "locked", lambda _: nullcontext())
    world = landed.copy_to(tmp_path)
    proper_step = getattr(apply_module, step)

    def after_the_other_run(*arguments: Any) -> Any:
        patch.undo()
        other(World(world.spark, tmp_path))
        return proper_step(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(apply_module, step, after_the_other_run)
        with pytest.raises(ConcurrentWriteError) as error:
            world.materialize(D21)
    assert is_retryable(error.value)
    for day in (D21, D28):
        World(world.spark, tmp_path).materialize(day)
    assert [(row.kind, row.old_start, row.batches) for row in world.corrections()] == [
        ("extended", at("09:00"), frozenset({D21}))
    ]
    assert set(world.table()) == sessionize(world.all_events())
