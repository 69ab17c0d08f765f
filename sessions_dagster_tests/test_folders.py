"""Folders below an input root: which ones are batches, when contents differ, and when a batch is complete."""

import os
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import pytest

from sessions_dagster.input.folders import (
    SUCCESS_MARKER,
    Completeness,
    InputRoot,
    NotReady,
    batch_content,
    batch_contents,
    batch_folders,
    why_not_ready,
)
from sessions_dagster_tests.builders import deliver, nest_too_deep

DAY = date(2025, 9, 20)
FIRST_DAY = date(2025, 9, 1)
NOW = datetime(2025, 9, 25, 12, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=1)
MINUTE = timedelta(minutes=1)

SETTLED = Completeness(MINUTE, require_success_marker=False)
MARKED = Completeness(MINUTE, require_success_marker=True)


@pytest.fixture
def root(tmp_path: Path) -> InputRoot:
    return InputRoot(str(tmp_path))


def folder_of(root: InputRoot) -> Path:
    return Path(root.batch_folder(DAY))


def readiness(root: InputRoot, rule: Completeness) -> NotReady | None:
    folders = batch_folders(root, FIRST_DAY, NOW)
    return why_not_ready(batch_content(root, DAY), folders.days[DAY], rule, NOW)


def test_folders_named_by_day_are_batches(root: InputRoot) -> None:
    deliver(root, date(2025, 9, 19))
    deliver(root, DAY)
    folders = batch_folders(root, FIRST_DAY, NOW)
    assert set(folders.days) == {date(2025, 9, 19), DAY}
    assert not folders.ignored


@pytest.mark.parametrize(
    "name", ["events", "date=2025-9-5", "date=2025-09-31", "date=20250920", "date=2025-09-20 ", "day=2025-09-20"]
)
def test_folders_with_other_names_are_ignored_as_junk(root: InputRoot, tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    folders = batch_folders(root, FIRST_DAY, NOW)
    assert (folders.days, folders.ignored) == ({}, {NotReady.JUNK: [name]})


def test_a_file_named_like_a_batch_folder_is_junk(root: InputRoot, tmp_path: Path) -> None:
    (tmp_path / f"date={DAY}").touch()
    folders = batch_folders(root, FIRST_DAY, NOW)
    assert (folders.days, folders.ignored) == ({}, {NotReady.JUNK: [f"date={DAY}"]})


def test_an_undecodable_name_does_not_hide_other_batches(root: InputRoot, tmp_path: Path) -> None:
    os.mkdir(os.fsencode(tmp_path) + b"/\xff")  # noqa: PTH102 (a Path takes no bytes)
    deliver(root, DAY)
    assert set(batch_folders(root, FIRST_DAY, NOW).days) == {DAY}


def test_hidden_names_are_not_reported(root: InputRoot, tmp_path: Path) -> None:
    for name in ("_SUCCESS", ".staging", "_temporary"):
        (tmp_path / name).mkdir()
    folders = batch_folders(root, FIRST_DAY, NOW)
    assert (folders.days, folders.ignored) == ({}, {})


def test_a_day_before_the_first_partition_is_ignored(root: InputRoot) -> None:
    deliver(root, FIRST_DAY)
    deliver(root, FIRST_DAY - timedelta(days=1))
    folders = batch_folders(root, FIRST_DAY, NOW)
    assert set(folders.days) == {FIRST_DAY}
    assert folders.ignored == {NotReady.BEFORE_FIRST: ["2025-08-31"]}


@pytest.mark.parametrize(
    ("now", "is_over"),
    [
        (datetime(2025, 9, 20, 23, 59, 59, 999999, tzinfo=UTC), False),
        (datetime(2025, 9, 21, tzinfo=UTC), True),
        (datetime(2025, 9, 21, 1, tzinfo=timezone(timedelta(hours=2))), False),
        (datetime(2025, 9, 20, 22, tzinfo=timezone(timedelta(hours=-2))), True),
    ],
)
def test_a_day_can_land_once_it_is_over_in_utc(root: InputRoot, now: datetime, is_over: bool) -> None:
    deliver(root, DAY)
    folders = batch_folders(root, FIRST_DAY, now)
    assert (DAY in folders.days) == is_over
    assert folders.ignored == ({} if is_over else {NotReady.NOT_OVER: ["2025-09-20"]})


def test_a_missing_input_root_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        batch_folders(InputRoot(str(tmp_path / "not there")), FIRST_DAY, NOW)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda folder: (folder / "more.parquet").touch(), id="a file more"),
        pytest.param(lambda folder: (folder / "b.parquet").unlink(), id="a file less"),
        pytest.param(lambda folder: (folder / "b.parquet").rename(folder / "c.parquet"), id="another name"),
        pytest.param(lambda folder: write(folder / "b.parquet", b"longer than before"), id="another size"),
        pytest.param(lambda folder: os.utime(folder / "b.parquet", ns=(0, 1)), id="another time"),
        pytest.param(lambda folder: write(folder / "part" / "b.parquet", b"rows"), id="a file in a sub-folder"),
    ],
)
def test_a_change_of_the_data_changes_the_fingerprint(root: InputRoot, change: Callable[[Path], None]) -> None:
    deliver(root, DAY, ["a.parquet", "b.parquet"])
    before = batch_content(root, DAY)
    change(folder_of(root))
    assert batch_content(root, DAY).fingerprint != before.fingerprint


@pytest.mark.parametrize("name", [SUCCESS_MARKER, "_temporary/0/part.parquet", ".part.crc"])
def test_files_that_are_not_data_do_not_change_the_fingerprint(root: InputRoot, name: str) -> None:
    deliver(root, DAY)
    before = batch_content(root, DAY)
    write(folder_of(root) / name, b"")
    assert batch_content(root, DAY).fingerprint == before.fingerprint


def test_the_fingerprint_is_the_same_after_a_change_is_undone(root: InputRoot) -> None:
    deliver(root, DAY)
    before = batch_content(root, DAY)
    file = write(folder_of(root) / "more.parquet", b"rows")
    file.unlink()
    assert batch_content(root, DAY).fingerprint == before.fingerprint


@pytest.mark.parametrize(("age", "expected"), [(MINUTE, None), (MINUTE - timedelta(seconds=1), NotReady.NOT_SETTLED)])
def test_a_folder_is_complete_when_it_has_not_changed_for_the_settle_time(
    root: InputRoot, age: timedelta, expected: NotReady | None
) -> None:
    deliver(root, DAY, at=NOW - age)
    assert readiness(root, SETTLED) == expected


@pytest.mark.parametrize("name", ["_temporary/0/part.parquet", ".part.parquet.tmp"])
def test_unfinished_files_beside_the_data_restart_the_settle_time(root: InputRoot, name: str) -> None:
    folder = deliver(root, DAY, at=LONG_AGO)
    written = write(folder / name, b"half a fi")
    for changed in (written, *[each for each in written.parents if each.is_relative_to(folder)]):
        os.utime(changed, (NOW.timestamp(), NOW.timestamp()))
    assert readiness(root, SETTLED) == NotReady.NOT_SETTLED


def test_files_copied_with_old_times_restart_the_settle_time(root: InputRoot) -> None:
    folder = deliver(root, DAY, at=LONG_AGO)
    os.utime(folder, (NOW.timestamp(), NOW.timestamp()))
    assert readiness(root, SETTLED) == NotReady.NOT_SETTLED


def test_a_modification_time_in_the_future_is_reported(root: InputRoot) -> None:
    deliver(root, DAY, at=NOW + timedelta(days=1))
    assert readiness(root, SETTLED) == NotReady.IN_FUTURE


def test_a_required_marker_completes_a_folder_immediately(root: InputRoot) -> None:
    deliver(root, DAY, ["events.parquet", SUCCESS_MARKER], at=NOW)
    assert readiness(root, MARKED) is None


@pytest.mark.parametrize("names", [["events.parquet"], ["events.parquet", f"part/{SUCCESS_MARKER}"]])
def test_a_required_marker_in_a_subfolder_does_not_count(root: InputRoot, names: list[str]) -> None:
    deliver(root, DAY, names, at=LONG_AGO)
    assert readiness(root, MARKED) == NotReady.NO_MARKER


@pytest.mark.parametrize("rule", [SETTLED, MARKED])
@pytest.mark.parametrize("names", [[], [SUCCESS_MARKER], [SUCCESS_MARKER, "_temporary/part.parquet"]])
def test_a_folder_without_a_data_file_is_not_ready(root: InputRoot, rule: Completeness, names: list[str]) -> None:
    deliver(root, DAY, names, at=LONG_AGO)
    assert readiness(root, rule) == NotReady.EMPTY


def test_an_unreadable_folder_does_not_stop_the_listing_of_others(root: InputRoot) -> None:
    bad, gone = date(2025, 9, 19), date(2025, 9, 18)
    deliver(root, DAY)
    nest_too_deep(deliver(root, bad))
    contents = batch_contents(root, [gone, bad, DAY])
    assert isinstance(contents[gone], FileNotFoundError)
    assert isinstance(contents[bad], OSError)
    assert contents[DAY] == batch_content(root, DAY)


def write(file: Path, content: bytes) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file
