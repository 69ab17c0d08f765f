"""Landings and applied batches as read from a Delta log, also after commits of other writers.

The tables here are written by delta-rs and have few columns, so that a log contains only the commits of its case.
"""

import json
import shutil
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, write_deltalake

from sessions_dagster.model.columns import BATCH_DATE, EVENT_DATE, LANDED_AT, USER
from sessions_dagster.storage.commit_metadata import (
    WRITER_KEY,
    AppliedBatches,
    applied_batches,
    following_metadata,
    version_followed,
)
from sessions_dagster.storage.delta_log import partition_dates, partitions, table_facts
from sessions_dagster.storage.slices import slices

D19, D20, D21 = date(2025, 9, 19), date(2025, 9, 20), date(2025, 9, 21)
NOON = datetime(2025, 9, 22, 12, tzinfo=UTC)
LATER = datetime(2025, 9, 22, 13, 0, 0, 1000, tzinfo=UTC)

ONE = {D20: NOON}
TWO = {D20: NOON, D21: LATER}


class RawEvents:
    """A table with slices like those of `raw_events`."""

    def __init__(self, folder: Path) -> None:
        self.uri = str(folder)
        write_deltalake(self.uri, self._rows(D20, NOON, 0), partition_by=BATCH_DATE)

    def land(self, day: date, landed_at: datetime, rows: int = 1) -> None:
        predicate = f"{BATCH_DATE} = '{day}'" if day in partitions(self.table) else None
        mode: Any = "overwrite" if predicate else "append"
        write_deltalake(self.uri, self._rows(day, landed_at, rows), mode=mode, predicate=predicate)

    def append(self, day: date, landed_at: datetime) -> None:
        """One more file of a slice."""
        write_deltalake(self.uri, self._rows(day, landed_at, 1), mode="append")

    @property
    def table(self) -> DeltaTable:
        return DeltaTable(self.uri)

    @staticmethod
    def _rows(day: date, landed_at: datetime, rows: int) -> pa.Table:
        columns = {
            BATCH_DATE: pa.array([day] * rows, pa.date32()),
            LANDED_AT: pa.array([landed_at] * rows, pa.timestamp("us", "UTC")),
        }
        return pa.table(columns)


class Sessionized:
    """A table with a log like that of `sessionized_events`: corrections, and commits of other writers."""

    def __init__(self, folder: Path) -> None:
        self.uri = str(folder)
        self.commit()

    def correct(self, landings: Mapping[date, datetime | None], *, complete: bool = True) -> None:
        """Commit a correction, after which the table has these landings applied."""
        self.commit(json.dumps(AppliedBatches(landings, complete).as_commit_metadata()))

    def commit(self, metadata: str | None = None) -> None:
        """Commit as any writer, with or without user metadata."""
        custom = {} if metadata is None else {"userMetadata": metadata}
        self.append(D20, CommitProperties(custom_metadata=custom))

    def append(self, day: date, properties: CommitProperties | None = None) -> None:
        """One more file of an event date."""
        rows = pa.table({USER: ["ada"], EVENT_DATE: pa.array([day], pa.date32())})
        write_deltalake(self.uri, rows, mode="append", partition_by=EVENT_DATE, commit_properties=properties)

    def restore(self, target: int | str) -> None:
        """Restore a version, or the version of a point in time."""
        self.table.restore(target)

    def write_commit(self, commit_info: Mapping[str, Any]) -> None:
        """Write a commit of another writer directly into the log."""
        commit = {"commitInfo": {"timestamp": 0, **commit_info}}
        Path(self.uri, "_delta_log", f"{self.table.version() + 1:020}.json").write_text(json.dumps(commit))

    def forget(self) -> None:
        """Write a checkpoint and remove the commits before the current version, as Delta does with old ones."""
        self.table.create_checkpoint()
        for commit in sorted(Path(self.uri, "_delta_log").glob("*.json"))[:-1]:
            commit.unlink()

    def committed_at(self, version: int) -> datetime:
        commit = Path(self.uri, "_delta_log", f"{version:020}.json")
        return datetime.fromtimestamp(commit.stat().st_mtime, UTC)

    @property
    def table(self) -> DeltaTable:
        return DeltaTable(self.uri)

    @property
    def applied(self) -> AppliedBatches:
        return applied_batches(self.table)


@pytest.fixture
def raw(tmp_path: Path) -> RawEvents:
    return RawEvents(tmp_path / "raw_events")


@pytest.fixture
def sessionized(tmp_path: Path) -> Sessionized:
    return Sessionized(tmp_path / "sessionized_events")


def test_an_empty_table_has_no_landings(raw: RawEvents) -> None:
    assert slices(raw.table).landings == {}
    assert partitions(raw.table) == set()


def test_each_batch_has_the_time_of_its_landing(raw: RawEvents) -> None:
    raw.land(D20, NOON)
    raw.land(D21, LATER)
    assert slices(raw.table).landings == {D20: NOON, D21: LATER}
    assert partitions(raw.table) == {D20, D21}


def test_a_batch_that_landed_again_has_the_time_of_its_last_landing(raw: RawEvents) -> None:
    raw.land(D20, NOON)
    raw.land(D21, NOON)
    raw.land(D20, LATER)
    assert slices(raw.table).landings == {D20: LATER, D21: NOON}


def test_a_batch_whose_slice_became_empty_has_no_landing(raw: RawEvents) -> None:
    raw.land(D20, NOON)
    raw.land(D21, NOON)
    raw.land(D20, LATER, rows=0)
    assert slices(raw.table).landings == {D21: NOON}
    assert partitions(raw.table) == {D21}


def test_compaction_and_a_checkpoint_do_not_change_the_landings(raw: RawEvents) -> None:
    raw.land(D20, NOON)
    raw.append(D20, NOON)
    raw.land(D21, LATER)
    raw.table.optimize.compact()
    raw.table.create_checkpoint()
    assert slices(raw.table).landings == {D20: NOON, D21: LATER}


def test_partition_dates_are_the_dates_with_rows_in_order(sessionized: Sessionized) -> None:
    for day in (D21, D19, D21):
        sessionized.append(day)
    assert partition_dates(sessionized.table) == [D19, D20, D21]
    sessionized.table.delete(f"{EVENT_DATE} = '{D20}'")
    assert partition_dates(sessionized.table) == [D19, D21]


def test_table_facts_describe_the_current_version(raw: RawEvents) -> None:
    raw.land(D20, NOON, rows=100)
    raw.land(D21, NOON, rows=3)
    raw.append(D21, NOON)
    raw.land(D20, LATER, rows=2)
    facts = table_facts(raw.table)
    on_disk = [Path(raw.uri, file).stat().st_size for file in pa.table(raw.table.get_add_actions())["path"].to_pylist()]
    assert (facts.version, facts.rows_written, facts.files, facts.partitions) == (4, 6, 3, 2)
    assert facts.bytes == sum(on_disk)


def test_an_unpartitioned_table_counts_as_one_partition(tmp_path: Path) -> None:
    for user in ("ada", "bob"):
        write_deltalake(str(tmp_path), pa.table({USER: [user]}), mode="append")
    facts = table_facts(DeltaTable(str(tmp_path)))
    assert (facts.files, facts.partitions) == (2, 1)


def test_a_new_table_has_no_applied_batches(sessionized: Sessionized) -> None:
    assert sessionized.applied == AppliedBatches({}, complete=True)


def test_the_newest_correction_has_the_applied_batches(sessionized: Sessionized) -> None:
    sessionized.correct({D20: NOON, D21: NOON})
    sessionized.correct({D20: LATER, D21: NOON})
    assert sessionized.applied == AppliedBatches({D20: LATER, D21: NOON}, complete=True)


def test_the_time_of_a_landing_is_stored_in_milliseconds(sessionized: Sessionized) -> None:
    landed_at = datetime(2025, 9, 22, 12, 30, 15, 987_000, tzinfo=UTC)
    sessionized.correct({D20: landed_at})
    assert sessionized.applied.landings == {D20: landed_at}


def test_an_applied_batch_without_rows_is_remembered(sessionized: Sessionized) -> None:
    sessionized.correct({D20: None, D21: NOON})
    assert sessionized.applied == AppliedBatches({D20: None, D21: NOON}, complete=True)


@pytest.mark.parametrize(
    "metadata", [None, "", "nightly compaction", "{", "null", "3", '"applied_batches"', "[1]", '{"applied": {}}']
)
def test_commits_of_other_writers_are_ignored(sessionized: Sessionized, metadata: str | None) -> None:
    sessionized.correct(ONE)
    sessionized.commit(metadata)
    assert sessionized.applied == AppliedBatches(ONE, complete=True)


def test_maintenance_commits_are_ignored(sessionized: Sessionized) -> None:
    sessionized.correct(ONE)
    sessionized.table.optimize.compact()
    sessionized.table.vacuum(dry_run=False)
    sessionized.table.alter.set_table_properties({"delta.logRetentionDuration": "interval 7 days"})
    assert [commit["operation"] for commit in sessionized.table.history(1)] == ["SET TBLPROPERTIES"]
    assert sessionized.applied == AppliedBatches(ONE, complete=True)


@pytest.mark.parametrize("others", [18, 19, 20, 21, 85])
def test_a_correction_is_found_behind_any_number_of_other_commits(sessionized: Sessionized, others: int) -> None:
    sessionized.correct(ONE)
    for _ in range(others):
        sessionized.commit()
    assert sessionized.applied == AppliedBatches(ONE, complete=True)


def test_a_table_with_many_commits_but_no_correction_has_no_applied_batches(sessionized: Sessionized) -> None:
    for _ in range(19):
        sessionized.commit()
    assert sessionized.applied == AppliedBatches({}, complete=True)


def test_a_table_that_is_put_back_from_a_copy_has_what_its_own_commits_say(
    sessionized: Sessionized, tmp_path: Path
) -> None:
    copy = shutil.copytree(sessionized.uri, tmp_path / "copy")
    sessionized.correct({D20: NOON})
    assert sessionized.applied.landings == {D20: NOON}
    shutil.rmtree(sessionized.uri)
    shutil.copytree(copy, sessionized.uri)
    sessionized.correct({D21: NOON})
    assert sessionized.applied.landings == {D21: NOON}


def test_a_restored_table_has_the_applied_batches_of_the_restored_version(sessionized: Sessionized) -> None:
    sessionized.correct(ONE)
    sessionized.correct(TWO)
    sessionized.restore(1)
    assert sessionized.applied == AppliedBatches(ONE, complete=True)


def test_a_table_restored_to_before_any_correction_has_no_applied_batches(sessionized: Sessionized) -> None:
    sessionized.correct(ONE)
    sessionized.restore(0)
    assert sessionized.applied == AppliedBatches({}, complete=True)


def test_a_restore_to_a_commit_of_another_writer_finds_the_correction_before_it(sessionized: Sessionized) -> None:
    sessionized.correct(ONE)
    sessionized.commit()
    sessionized.correct(TWO)
    sessionized.restore(2)
    assert sessionized.applied == AppliedBatches(ONE, complete=True)


def test_commits_of_other_writers_after_a_restore_are_ignored(sessionized: Sessionized) -> None:
    sessionized.correct(ONE)
    sessionized.correct(TWO)
    sessionized.restore(1)
    sessionized.commit()
    assert sessionized.applied == AppliedBatches(ONE, complete=True)


def test_a_correction_after_a_restore_replaces_the_restored_batches(sessionized: Sessionized) -> None:
    sessionized.correct(ONE)
    sessionized.correct(TWO)
    sessionized.restore(1)
    sessionized.correct({D20: LATER})
    assert sessionized.applied == AppliedBatches({D20: LATER}, complete=True)


def test_a_restore_can_be_undone_by_another_one(sessionized: Sessionized) -> None:
    sessionized.correct(ONE)
    sessionized.correct(TWO)
    sessionized.restore(1)
    sessionized.restore(2)
    assert sessionized.applied == AppliedBatches(TWO, complete=True)


def test_a_restore_to_an_earlier_restore_is_followed_to_its_target(sessionized: Sessionized) -> None:
    sessionized.correct(ONE)
    sessionized.correct(TWO)
    sessionized.restore(1)
    sessionized.correct({D19: LATER})
    sessionized.restore(3)
    assert sessionized.applied == AppliedBatches(ONE, complete=True)


def test_a_restore_over_many_commits_finds_the_correction(sessionized: Sessionized) -> None:
    sessionized.correct(ONE)
    for _ in range(40):
        sessionized.correct(TWO)
    sessionized.restore(1)
    assert sessionized.applied == AppliedBatches(ONE, complete=True)


def test_after_a_restore_to_a_point_in_time_the_applied_batches_are_unknown(sessionized: Sessionized) -> None:
    sessionized.correct(ONE)
    sessionized.correct(TWO)
    sessionized.restore(sessionized.committed_at(1).isoformat())
    assert sessionized.applied == AppliedBatches({}, complete=False)


@pytest.mark.parametrize(
    ("parameters", "applied"),
    [
        ({"version": 1, "timestamp": None}, AppliedBatches(ONE, complete=True)),
        ({"version": None, "timestamp": "2025-09-22 12:00:00.123"}, AppliedBatches({}, complete=False)),
    ],
    ids=["to a version", "to a point in time"],
)
def test_restores_by_spark_are_followed(
    sessionized: Sessionized, parameters: Mapping[str, Any], applied: AppliedBatches
) -> None:
    sessionized.correct(ONE)
    sessionized.correct(TWO)
    sessionized.write_commit({"operation": "RESTORE", "operationParameters": parameters})
    assert sessionized.applied == applied


def test_a_log_that_no_longer_contains_a_correction_is_reported_as_incomplete(sessionized: Sessionized) -> None:
    sessionized.correct(ONE)
    sessionized.commit()
    sessionized.forget()
    assert sessionized.applied == AppliedBatches({}, complete=False)


def test_one_remaining_correction_in_the_log_is_enough(sessionized: Sessionized) -> None:
    sessionized.correct(ONE)
    sessionized.correct(TWO)
    sessionized.forget()
    sessionized.commit()
    assert sessionized.applied == AppliedBatches(TWO, complete=True)


def test_a_restore_to_a_version_that_is_no_longer_in_the_log_is_reported_as_incomplete(
    sessionized: Sessionized,
) -> None:
    sessionized.correct(ONE)
    sessionized.correct(TWO)
    sessionized.restore(1)
    sessionized.forget()
    assert sessionized.applied == AppliedBatches({}, complete=False)


def test_incomplete_applied_batches_stay_incomplete(sessionized: Sessionized) -> None:
    sessionized.correct(TWO, complete=False)
    assert sessionized.applied == AppliedBatches(TWO, complete=False)


def test_the_commit_metadata_of_a_correction_has_a_few_bytes_for_each_batch() -> None:
    metadata = AppliedBatches({D21: None, D20: NOON}, complete=True).as_commit_metadata()
    assert metadata == {"applied_batches": {"2025-09-20": 1758542400000, "2025-09-21": None}, "complete": True}


def ours(sessionized: Sessionized, writer: str) -> None:
    """A commit of this project."""
    sessionized.commit(json.dumps({WRITER_KEY: writer}))


def test_a_table_that_was_put_back_from_a_copy_is_not_the_one_that_was_followed(
    sessionized: Sessionized, tmp_path: Path
) -> None:
    copy, follower = tmp_path / "copy", Sessionized(tmp_path / "sessions")
    ours(sessionized, "first")
    shutil.copytree(sessionized.uri, copy)
    ours(sessionized, "second")
    follower.commit(json.dumps(following_metadata(sessionized.table)))
    assert version_followed(follower.table, sessionized.table) == 2

    shutil.rmtree(sessionized.uri)
    shutil.copytree(copy, sessionized.uri)
    for writer in ("third", "fourth"):
        assert version_followed(follower.table, sessionized.table) is None
        ours(sessionized, writer)


def test_a_table_is_followed_through_maintenance_and_after_its_log_was_cleaned_up(
    sessionized: Sessionized, tmp_path: Path
) -> None:
    follower = Sessionized(tmp_path / "sessions")
    ours(sessionized, "first")
    sessionized.commit()
    follower.commit(json.dumps(following_metadata(sessionized.table)))
    sessionized.commit()
    assert version_followed(follower.table, sessionized.table) == 2
    sessionized.forget()
    assert version_followed(follower.table, sessionized.table) == 2
