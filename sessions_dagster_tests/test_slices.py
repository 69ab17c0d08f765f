"""Rows in `raw_events` that others have written: a slice of several landings is refused by the name of its commit.

Most tables here are written by delta-rs and have few columns. The last tests are those of whole runs.
"""

import json
import logging
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from sessions_dagster.errors import SliceError, is_retryable
from sessions_dagster.model.columns import BATCH_DATE, LANDED_AT
from sessions_dagster.pipeline.pending import days_in_sessions
from sessions_dagster.storage.commit_metadata import WRITER_KEY
from sessions_dagster.storage.landed_batches import landed_batches
from sessions_dagster.storage.slices import check_one_landing, slices
from sessions_dagster.storage.sql import quoted
from sessions_dagster_tests.builders import World, sessions_of
from sessions_dagster_tests.oracle import Event, sessionize

D20, D21, D29 = date(2025, 9, 20), date(2025, 9, 21), date(2025, 9, 29)
NOON: Final = datetime(2025, 9, 22, 12, tzinfo=UTC)
OTHERS: Final = {
    "newer": NOON + timedelta(milliseconds=1),
    "older": NOON - timedelta(milliseconds=1),
    "of another day": NOON - timedelta(days=400),
    "none": None,
}


def write(table: Path, day: date, times: Sequence[datetime | None], *, is_ours: bool = False) -> None:
    """Append rows to a slice, as we do or as anybody else."""
    rows = {
        BATCH_DATE: pa.array([day] * len(times), pa.date32()),
        LANDED_AT: pa.array(times, pa.timestamp("us", "UTC")),
    }
    metadata = {"userMetadata": json.dumps({WRITER_KEY: "one"})} if is_ours else {}
    properties = CommitProperties(custom_metadata=metadata)
    write_deltalake(table, pa.table(rows), mode="append", partition_by=[BATCH_DATE], commit_properties=properties)


def check(table: Path, *days: date) -> None:
    opened = DeltaTable(table)
    check_one_landing(opened, slices(opened), days)


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("is_compacted", [False, True], ids=["", "compacted"])
def test_a_slice_of_several_landings_is_refused_by_the_version_that_made_it_so(
    tmp_path: Path, other: str, is_compacted: bool
) -> None:
    write(tmp_path, D20, [NOON, NOON], is_ours=True)
    write(tmp_path, D20, [OTHERS[other]])
    write(tmp_path, D21, [NOON])
    if is_compacted:
        DeltaTable(tmp_path).optimize.compact()
    with pytest.raises(SliceError) as error:
        check(tmp_path, D20, D21)
    said = str(error.value)
    assert f"The slice {D20} of {tmp_path}" in said
    assert "Version 1 (WRITE by delta-rs" in said
    assert f"Materialize raw_events for {D20} once more" in said
    assert not is_retryable(error.value)
    check(tmp_path, D21)


def test_a_commit_that_the_log_has_forgotten_is_not_made_up(tmp_path: Path) -> None:
    write(tmp_path, D20, [NOON, OTHERS["newer"]])
    DeltaTable(tmp_path).create_checkpoint()
    (tmp_path / "_delta_log" / f"{0:020}.json").unlink()
    with pytest.raises(SliceError, match="does not say any more which version"):
        check(tmp_path, D20)


def test_a_file_without_statistics_is_not_taken_for_a_landing(tmp_path: Path) -> None:
    write(tmp_path, D20, [NOON], is_ours=True)
    write(tmp_path, D20, [NOON])
    commit = tmp_path / "_delta_log" / f"{1:020}.json"
    actions = [json.loads(line) for line in commit.read_text().splitlines()]
    for added in (action["add"] for action in actions if "add" in action):
        added.pop("stats")
    commit.write_text("\n".join(map(json.dumps, actions)))
    with pytest.raises(SliceError, match=r"12:00:00\.000 and none that the log has\).*Version 1 \(WRITE"):
        check(tmp_path, D20)


@given(micros=st.lists(st.integers(0, 3_000), min_size=1, max_size=3), is_one_file=st.booleans())
@settings(max_examples=10, deadline=None, derandomize=True)
def test_a_slice_is_clear_if_its_rows_landed_in_one_millisecond(
    micros: list[int], is_one_file: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    table = tmp_path_factory.mktemp("slices")
    times = [NOON + timedelta(microseconds=each) for each in micros]
    for part in [times] if is_one_file else [[each] for each in times]:
        write(table, D20, part)
    assert (D20 not in slices(DeltaTable(table)).unclear) == (len({each // 1000 for each in micros}) == 1)


def u(time: str, event: str = "a", day: int = 20) -> Event:
    return Event("ada", event, "idea", datetime.fromisoformat(f"2025-09-{day} {time}"))


@pytest.fixture(scope="module")
def applied(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World(spark, tmp_path_factory.mktemp("slices"))
    world.land(D20, [u("09:00"), u("09:08")])
    world.materialize(D20)
    world.refresh()
    return world


def insert_by_hand(world: World, landed_at: str) -> int:
    """Write a row as somebody would who wants to add an event. Returns the version."""
    uri = world.warehouse.raw_events
    world.spark.sql(
        f"INSERT INTO {quoted(uri)} SELECT user_id, event_id, product_code, timestamp + INTERVAL 4 MINUTES, "
        f"event_date, batch_date, {landed_at} FROM {quoted(uri)} WHERE batch_date = '{D20}' LIMIT 1"
    )
    return DeltaTable(uri).version()


@pytest.mark.parametrize("landed_at", ["current_timestamp()", "landed_at - INTERVAL 1 DAY"])
def test_a_row_written_by_hand_is_refused_by_its_version_until_the_batch_lands_again(
    applied: World, tmp_path: Path, landed_at: str, caplog: pytest.LogCaptureFixture
) -> None:
    world = applied.copy_to(tmp_path)
    version = insert_by_hand(world, landed_at)
    before = sorted(world.table())
    assert landed_batches(world.warehouse, [D20])[D20].fingerprint is None
    assert days_in_sessions(world.warehouse, [D20]) == set()
    with pytest.raises(SliceError, match=rf"Version {version} \(WRITE by Apache-Spark"):
        world.materialize(D20)
    assert sorted(world.table()) == before

    # Days whose window does not have the batch go on.
    world.land(D29, [u("09:00", day=29)])
    with caplog.at_level(logging.WARNING):
        world.materialize(D29)
    assert f"rows of several landings in slices that this run does not apply: {D20}" in caplog.text

    with caplog.at_level(logging.WARNING):
        world.land(D20, [u("09:00"), u("09:08"), u("09:04")])
    assert "This landing replaces all of them." in caplog.text
    world.materialize(D20)
    world.refresh()
    assert set(world.table()) == sessionize(world.all_events())
    assert set(world.sessions()) == sessions_of(world.table())


def test_a_slice_that_was_written_anew_by_hand_is_applied_as_a_landing(applied: World, tmp_path: Path) -> None:
    world = applied.copy_to(tmp_path)
    uri = quoted(world.warehouse.raw_events)
    world.spark.sql(f"DELETE FROM {uri} WHERE timestamp = '2025-09-20 09:08:00'")
    world.spark.sql(f"UPDATE {uri} SET landed_at = TIMESTAMP '2025-09-30 10:00:00.123456'")
    world.materialize(D20)
    assert set(world.table()) == sessionize([u("09:00")])
    assert not world.materialize(D20).applied
