"""A log of which a crash has left a part: it is named, or it does not matter, and it never counts."""

import re
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import Final

import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from sessions_dagster.errors import DamagedTableError, is_retryable
from sessions_dagster.model.tables import TABLES
from sessions_dagster.storage.torn_logs import check_newest_checkpoint, check_newest_commit
from sessions_dagster.storage.warehouse import Warehouse
from sessions_dagster_tests.builders import World, sessions_of
from sessions_dagster_tests.oracle import Event, sessionize

D20, D21 = date(2025, 9, 20), date(2025, 9, 21)
ON_TIME: Final = [Event("ada", "a", "idea", datetime(2025, 9, 20, hour)) for hour in (9, 12)]
LATE: Final = [Event("ada", "a", "idea", datetime(2025, 9, 20, 9, 4)), Event("ada", "a", "idea", datetime(2025, 9, 21))]

TEARS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "empty": lambda content: content[:0],
    "half": lambda content: content[: len(content) // 2],
    "without the last byte but one": lambda content: content.rstrip(b"\n")[:-1],
    "zeros": lambda content: bytes(len(content)),
    "a tail of zeros": lambda content: content[:-40] + bytes(40),
    "only its first line": lambda content: content.splitlines(keepends=True)[0],
    "without its last line": lambda content: b"".join(content.splitlines(keepends=True)[:-1]),
    "another byte": lambda content: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
    "only a line feed": lambda content: content[:0] + b"\n",
}


@pytest.fixture(scope="module")
def finished(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> World:
    """A late batch has landed, and was applied and followed."""
    world = World(spark, tmp_path_factory.mktemp("torn"))
    for day, events in {D20: ON_TIME, D21: LATE}.items():
        world.land(day, events)
        world.materialize(day)
        world.refresh()
    return world


def all_steps(world: World) -> None:
    world.land(D21, LATE)
    world.materialize(D20, D21)
    world.refresh()


def check(world: World) -> None:
    expected = sessionize([*ON_TIME, *LATE])
    assert sorted(world.table(), key=str) == sorted(expected, key=str)
    assert sorted(world.sessions()) == sorted(sessions_of(expected))


def newest(table: str) -> Path:
    return max(Path(table, "_delta_log").glob("*.json"))


@pytest.mark.parametrize("tear", TEARS.values(), ids=TEARS.keys())
@pytest.mark.parametrize("name", TABLES)
def test_a_torn_newest_commit_is_named_and_counts_for_nobody(
    finished: World, tmp_path: Path, name: str, tear: Callable[[bytes], bytes]
) -> None:
    table = f"{finished.copy_to(tmp_path).warehouse.root}/{name}"
    commit = newest(table)
    commit.write_bytes(tear(commit.read_bytes()))
    with pytest.raises(DamagedTableError, match=rf"{re.escape(str(commit))} .*Remove it .*run again") as raised:
        Warehouse(str(tmp_path / "warehouse")).open(table)
    assert not is_retryable(raised.value)


def test_a_commit_that_has_lost_its_files_is_named_without_checksums_too(finished: World, tmp_path: Path) -> None:
    table = finished.copy_to(tmp_path).warehouse.raw_events
    commit = newest(table)
    commit.with_name(f".{commit.name}.crc").unlink()
    commit.write_bytes(TEARS["only its first line"](commit.read_bytes()))
    with pytest.raises(DamagedTableError, match="lacks the files that it says it has added"):
        Warehouse(str(tmp_path / "warehouse")).open(table)


def test_a_commit_that_is_torn_while_a_table_is_open_is_named(finished: World, tmp_path: Path) -> None:
    warehouse = finished.copy_to(tmp_path).warehouse
    table = warehouse.open_existing(warehouse.raw_events)
    torn = newest(warehouse.raw_events).with_name(f"{table.version() + 1:020}.json")
    torn.write_bytes(b"")
    with pytest.raises(DamagedTableError, match=torn.name):
        warehouse.open(warehouse.raw_events)


@pytest.mark.parametrize("name", TABLES)
def test_without_the_torn_commit_a_run_makes_all_tables_right(finished: World, tmp_path: Path, name: str) -> None:
    world = finished.copy_to(tmp_path)
    commit = newest(f"{world.warehouse.root}/{name}")
    commit.write_bytes(b"")
    with pytest.raises(DamagedTableError):
        all_steps(world)
    for file in (commit, commit.with_name(f".{commit.name}.crc"), commit.with_suffix(".crc")):
        file.unlink(missing_ok=True)
    all_steps(World(finished.spark, tmp_path))
    check(world)


def test_files_that_a_dead_writer_has_left_in_the_log_do_not_matter(finished: World, tmp_path: Path) -> None:
    world = finished.copy_to(tmp_path)
    for uri in world.warehouse.tables:
        commit = newest(uri)
        following = int(commit.stem) + 1
        for name in (f".{following:020}.json.0f3e.tmp", f"..{following:020}.json.0f3e.tmp.crc", "_last_checkpoint.tmp"):
            commit.with_name(name).write_bytes(b'{"add":')
    all_steps(world)
    check(world)


@pytest.mark.parametrize("left", [(), (".00000000000000000000.json.0f3e.tmp",)], ids=["nothing", "half of a commit"])
def test_tables_whose_first_commit_was_never_made_are_created(
    spark: SparkSession, tmp_path: Path, left: tuple[str, ...]
) -> None:
    world = World(spark, tmp_path)
    for uri in world.warehouse.tables:
        log = Path(uri, "_delta_log")
        (log / "_staged_commits").mkdir(parents=True)
        for file in left:
            (log / file).write_bytes(b'{"commitInfo":')
    world.land(D20, ON_TIME)
    world.materialize(D20)
    all_steps(world)
    check(world)
    assert world.corrections()


@pytest.fixture
def with_checkpoint(finished: World, tmp_path: Path) -> Warehouse:
    warehouse = finished.copy_to(tmp_path).warehouse
    DeltaTable(warehouse.raw_events).create_checkpoint()
    return warehouse


@pytest.mark.parametrize("tear", [TEARS["empty"], TEARS["half"], TEARS["zeros"]], ids=["empty", "half", "zeros"])
@pytest.mark.parametrize("reaches_back", [True, False])
def test_a_torn_checkpoint_is_named_with_what_to_do(
    with_checkpoint: Warehouse, tear: Callable[[bytes], bytes], reaches_back: bool
) -> None:
    (checkpoint,) = Path(with_checkpoint.raw_events, "_delta_log").glob("*.checkpoint.parquet")
    checkpoint.write_bytes(tear(checkpoint.read_bytes()))
    if not reaches_back:
        checkpoint.with_name(f"{0:020}.json").unlink()
    todo = "remove .* and run again" if reaches_back else "put the table back from a copy"
    with pytest.raises(DamagedTableError, match=rf"{re.escape(str(checkpoint))} cannot be read.*{todo}"):
        with_checkpoint.open(with_checkpoint.raw_events)


@pytest.mark.parametrize("tear", TEARS.values(), ids=TEARS.keys())
def test_a_torn_note_of_the_last_checkpoint_does_not_matter(
    with_checkpoint: Warehouse, tear: Callable[[bytes], bytes]
) -> None:
    before = DeltaTable(with_checkpoint.raw_events).version()
    note = Path(with_checkpoint.raw_events, "_delta_log", "_last_checkpoint")
    note.write_bytes(tear(note.read_bytes()))
    assert with_checkpoint.open_existing(with_checkpoint.raw_events).version() == before


def test_what_is_whole_or_not_there_is_not_refused(finished: World, tmp_path: Path) -> None:
    for table in (*map(Path, finished.warehouse.tables), tmp_path, tmp_path / "nothing"):
        check_newest_commit(table)
        check_newest_checkpoint(table)
