"""Damage that only checksums show: a file of a batch or of a table with a flipped bit is named, and so is one gone."""

import bz2
import gzip
import random
from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from sessions_dagster.errors import BatchError, DamagedTableError, is_retryable
from sessions_dagster.input.folders import InputRoot
from sessions_dagster.input.formats import InputFormat
from sessions_dagster.input.readers import find_broken_file, read_batch
from sessions_dagster.input.readers.rows import broken_files_named
from sessions_dagster.model.columns import SOURCE_FILE
from sessions_dagster.pipeline.audit import audit
from sessions_dagster.pipeline.check_tables import check_events, check_sessions
from sessions_dagster.pipeline.rebuild import rebuild
from sessions_dagster.spark.tuning import CASE_SENSITIVE, spark_property
from sessions_dagster.storage.forgotten_users import add_forgotten
from sessions_dagster.storage.maintenance import compact
from sessions_dagster_tests.builders import World, sessions_of
from sessions_dagster_tests.oracle import Event, sessionize

DAY: Final = date(2025, 9, 20)
D18, D19, D20 = (date(2025, 9, day) for day in (18, 19, 20))
NAMES: Final = ("user_id", "event_id", "product_code", "timestamp")
RECORDS: Final = [(f"user {n}", "abx"[n % 3], "idea", f"2025-09-20 09:{n % 60:02}:00") for n in range(200)]


def flipped(content: bytes, byte: int, bit: int) -> bytes:
    changed = bytearray(content)
    changed[byte] ^= 1 << bit
    return bytes(changed)


# --- files of a batch ------------------------------------------------------------------------------------------------


def read(spark: SparkSession, root: Path, input_format: InputFormat) -> list[tuple[object, ...]]:
    files = InputRoot(str(root)).delivery(DAY).files

    def rows_of(some: object) -> object:
        return read_batch(spark, some, input_format, {})  # type: ignore[arg-type]

    with (
        spark_property(spark, CASE_SENSITIVE, "true"),
        broken_files_named(lambda: find_broken_file(files, rows_of)),  # type: ignore[arg-type]
    ):
        return sorted(map(tuple, read_batch(spark, files, input_format, {}).drop(SOURCE_FILE).collect()), key=repr)


@pytest.mark.parametrize("codec", ["NONE", "ZSTD"])
def test_a_flipped_bit_in_a_parquet_file_with_checksums_is_refused_by_the_name_of_the_file(
    spark: SparkSession, tmp_path: Path, codec: str
) -> None:
    file = tmp_path / f"date={DAY}" / "events.parquet"
    file.parent.mkdir()
    table = pa.table([pa.array(values) for values in zip(*RECORDS, strict=True)], NAMES)
    pq.write_table(table, file, compression=codec, write_page_checksum=True, use_dictionary=False)
    content, chooser = file.read_bytes(), random.Random(20)
    row_group = pq.read_metadata(file).row_group(0)
    for column in map(row_group.column, range(len(NAMES))):
        # Behind the header of the page.
        end = column.data_page_offset + column.total_compressed_size
        file.write_bytes(flipped(content, chooser.randrange(end - 8, end), chooser.randrange(8)))
        with pytest.raises(BatchError, match=r"events\.parquet cannot be read to its end \(.*Deliver it again"):
            read(spark, tmp_path, "parquet")


COMPRESSED: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    ".csv.gz": lambda content: gzip.compress(content, mtime=0),
    ".csv.bz2": bz2.compress,
}


@pytest.mark.parametrize("suffix", COMPRESSED)
def test_a_flipped_bit_in_a_compressed_file_is_refused_by_its_name_or_changes_nothing(
    spark: SparkSession, tmp_path: Path, suffix: str
) -> None:
    file = tmp_path / f"date={DAY}" / f"events{suffix}"
    file.parent.mkdir()
    content = COMPRESSED[suffix]("\n".join([",".join(NAMES), *map(",".join, RECORDS)]).encode())
    file.write_bytes(content)
    whole, chooser = read(spark, tmp_path, "csv"), random.Random(20)
    for _ in range(6):
        file.write_bytes(flipped(content, chooser.randrange(len(content)), chooser.randrange(8)))
        try:
            assert read(spark, tmp_path, "csv") == whole
        except BatchError as error:
            assert str(file) in str(error)  # noqa: PT017


# --- files of a table ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Sessions of two days, one of them corrected, and a batch that has landed and is not applied."""
    world = World(spark, tmp_path_factory.mktemp("whole"))
    world.land(D18, [Event(f"u{n}", "a", "idea", datetime(2025, 9, 18, 9, n)) for n in range(20)])
    world.materialize(D18)
    world.land(D19, [Event("u3", "b", "idea", datetime(2025, 9, 18, 9, 6))])
    world.materialize(D19)
    world.refresh()
    world.land(D20, [Event(f"u{n}", "b", "idea", datetime(2025, 9, 18, 9, n) + timedelta(minutes=4)) for n in (5, 6)])
    return world


def flip_a_bit(file: Path) -> None:
    """In the first page, and as on a store, where no checksum lies beside the file."""
    file.with_name(f".{file.name}.crc").unlink(missing_ok=True)
    content = file.read_bytes()
    first = pq.read_metadata(file).row_group(0).column(0)
    start = first.dictionary_page_offset or first.data_page_offset
    file.write_bytes(flipped(content, start + first.total_compressed_size - 1, 2))


def check_all_events(world: World) -> None:
    check_events(world.spark, world.warehouse, D18, D19, D18)


def check_all_sessions(world: World) -> None:
    check_sessions(world.spark, world.warehouse, D18, D19)


def audit_all(world: World) -> None:
    audit(world.spark, world.warehouse)


def look_at_a_rebuild(world: World) -> None:
    rebuild(world.spark, world.warehouse, world.rules, dry_run=True)


def compact_events(world: World) -> None:
    compact(world.spark, world.warehouse, world.warehouse.sessionized_events)


def apply_again(world: World) -> None:
    world.materialize(D20)


DAMAGES: Final[Mapping[str, tuple[str, Callable[[Path], None], Callable[[World], None], str]]] = {
    "a bit of sessionized_events, applying": (
        "sessionized_events/*=*/*.parquet",
        flip_a_bit,
        apply_again,
        "is damaged",
    ),
    "a bit of sessionized_events, checking": (
        "sessionized_events/*=*/*.parquet",
        flip_a_bit,
        check_all_events,
        "is damaged",
    ),
    "a bit of sessionized_events, auditing": (
        "sessionized_events/*=*/*.parquet",
        flip_a_bit,
        audit_all,
        "is damaged",
    ),
    "a bit of sessions, looking at a rebuild": ("sessions/*=*/*.parquet", flip_a_bit, look_at_a_rebuild, "is damaged"),
    "a bit of sessionized_events, compacting": (
        "sessionized_events/*=*/*.parquet",
        flip_a_bit,
        compact_events,
        "is damaged",
    ),
    "a bit of sessions, checking": ("sessions/*=*/*.parquet", flip_a_bit, check_all_sessions, "is damaged"),
    "a bit of raw_events, applying": (f"raw_events/batch_date={D20}/*.parquet", flip_a_bit, apply_again, "is damaged"),
    "a file of raw_events, applying": (f"raw_events/batch_date={D20}/*.parquet", Path.unlink, apply_again, "is gone"),
    "a deletion vector, applying": ("sessionized_events/*.bin", Path.unlink, apply_again, "is gone"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_of_a_table_is_named_with_its_table_and_what_to_do(
    whole: World, tmp_path: Path, damage: str
) -> None:
    files, harm, act, said = DAMAGES[damage]
    world = whole.copy_to(tmp_path)
    for file in list(Path(world.warehouse.root).glob(files)):
        harm(file)
    table = files.partition("/")[0]
    with pytest.raises(DamagedTableError) as error:
        act(world)
    text = str(error.value)
    assert f"{world.warehouse.root}/{table}/" in text
    assert f"a file of the table {world.warehouse.root}/{table}, or its deletion vector, {said} (" in text
    assert ("Materialize raw_events for 2025-09-20" if table == "raw_events" else "Put it back from a copy") in text
    assert not is_retryable(error.value)


def test_a_damaged_list_of_forgotten_users_is_never_to_be_removed(whole: World, tmp_path: Path) -> None:
    world = whole.copy_to(tmp_path)
    add_forgotten(world.spark, world.warehouse, ["eve"])
    for file in Path(world.warehouse.forgotten_users).glob("*.parquet"):
        file.unlink()
    with pytest.raises(DamagedTableError, match=r"the table .*/forgotten_users, .* from a copy, and do not remove it"):
        world.land(D20, world.landed[D20])


def test_a_damaged_slice_of_raw_events_is_replaced_when_the_batch_lands_again(whole: World, tmp_path: Path) -> None:
    world = whole.copy_to(tmp_path)
    for file in list(Path(world.warehouse.raw_events).glob(f"batch_date={D20}/*.parquet")):
        flip_a_bit(file)
    world.land(D20, world.landed[D20])
    world.materialize(D20)
    world.refresh()
    assert set(world.table()) == sessionize(world.all_events())
    assert set(world.sessions()) == sessions_of(world.table())
