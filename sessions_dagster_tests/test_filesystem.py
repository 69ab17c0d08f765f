"""Locations of batches and tables: how they are spelled, which files belong to a batch, and one writer at a time."""

import gzip
import re
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import QueryBuilder, write_deltalake

from sessions_dagster.errors import SettingsError, StorageError
from sessions_dagster.input.files import BatchFile
from sessions_dagster.input.folders import InputRoot
from sessions_dagster.storage.delta_log import table_facts
from sessions_dagster.storage.filesystem import location_of, storage_errors
from sessions_dagster.storage.warehouse import Warehouse
from sessions_dagster_tests.builders import NEEDS_A_FILE_THAT_FAILS, deliver, fail_to_read, nest_too_deep

DAY = date(2025, 9, 20)

WRITER = """
import sys

from sessions_dagster.storage.warehouse import Warehouse

print("waiting", flush=True)
with Warehouse(sys.argv[1]).locked():
    print("writing", flush=True)
    sys.stdin.read()
"""

SPECIAL_NAMES = [
    "with space.parquet",
    "100%.parquet",
    "a%20b.parquet",
    "a#b.parquet",
    "a?b.parquet",
    "a*b.parquet",
    "[1-3].parquet",
    "{a,b}.parquet",
    "a\\b.parquet",
    "a:b.parquet",
    "a+b=c&d.parquet",
    "Ünïcödé-数.parquet",
]


@pytest.fixture
def batch(tmp_path: Path) -> Path:
    """The folder of the batch of `DAY`, still empty."""
    folder = tmp_path / f"date={DAY}"
    folder.mkdir()
    return folder


def put(folder: Path, name: str, content: bytes = b"rows") -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def files_of(batch: Path) -> list[BatchFile]:
    return list(InputRoot(str(batch.parent)).delivery(DAY).files)


def names_of(batch: Path) -> list[str]:
    return [file.uri.removeprefix(f"{batch}/") for file in files_of(batch)]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("s3://lake/tables", "s3a://lake/tables"),
        ("s3a://lake/tables", "s3a://lake/tables"),
        ("s3://lake/tables/", "s3a://lake/tables"),
        ("gs://lake/tables", "gs://lake/tables"),
        ("abfss://box@account.dfs.core.windows.net/tables/", "abfss://box@account.dfs.core.windows.net/tables"),
    ],
)
def test_an_object_store_location_is_spelled_for_spark(given: str, expected: str) -> None:
    assert Warehouse(given).root == InputRoot(given).root == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("lake", "lake"),
        ("./lake/", "lake"),
        ("other/../lake", "lake"),
        ("{here}/lake", "lake"),
        ("{here}/lake/", "lake"),
        ("file://{here}/lake", "lake"),
        ("file:{here}/lake", "lake"),
        ("file://{here}/my%20lake%23/", "my lake#"),
        ("file://{here}/my lake#1?", "my lake#1?"),
        ("file:{here}/100%", "100%"),
        ("100% lake", "100% lake"),
    ],
)
def test_a_local_location_becomes_an_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    location = given.format(here=tmp_path)
    assert Warehouse(location).root == InputRoot(location).root == str(tmp_path.resolve() / expected)


@pytest.mark.parametrize("root", ["/data/my%20lake", "s3a://data/my%20lake", "/data/[lake]"])
def test_a_percent_sign_and_a_bracket_in_the_input_root_are_literal(root: str) -> None:
    assert InputRoot(root).root == root


@pytest.mark.parametrize("letter", ["%20", "%2f", "\\"])
@pytest.mark.parametrize("location", ["/data/a{}b/lake", "s3://data/a{}b/lake"])
def test_a_warehouse_whose_tables_delta_rs_could_not_open_is_refused(location: str, letter: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(f"cannot open a path that contains {letter}")):
        Warehouse(location.format(letter))


@pytest.mark.parametrize("letter", ["?", "#", "[", "]", "^", "|"])
def test_a_warehouse_in_an_object_store_is_refused_for_further_letters(letter: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(f"cannot open a path that contains {letter}")):
        Warehouse(f"s3://data/a{letter}b")


@pytest.mark.parametrize("letter", [*" ?#[]^|+{}~'\":;*$&<>`%", "%z", "ü", "u\u0308"])
def test_a_local_warehouse_can_have_any_other_letter(tmp_path: Path, letter: str) -> None:
    warehouse = Warehouse(f"{tmp_path}/a{letter}b")
    table = f"{warehouse.root}/t"
    # delta-rs cannot write to all of them.
    write_deltalake(tmp_path / "t", pa.table({"a": [1]}))
    shutil.copytree(tmp_path / "t", table)
    opened = warehouse.open_existing(table)
    rows = QueryBuilder().register("t", opened).execute("SELECT a FROM t").read_all()
    assert (pa.table(rows).num_rows, table_facts(opened).files, location_of(opened.table_uri)) == (1, 1, table)


def test_contexts_that_look_once_do_not_end_each_other(tmp_path: Path) -> None:
    warehouse = Warehouse(str(tmp_path))
    table = warehouse.sessions
    write_deltalake(table, pa.table({"a": [1]}))
    first, second = warehouse.looking_once(), warehouse.looking_once()
    with ExitStack() as contexts:
        with first:
            warehouse.open(table)
            contexts.enter_context(second)
        write_deltalake(table, pa.table({"a": [2]}), mode="append")
        for _ in range(2):
            assert warehouse.open_existing(table).version() == 1
            write_deltalake(table, pa.table({"a": [3]}), mode="append")
    assert warehouse.open_existing(table).version() == 3


@pytest.mark.parametrize(
    "location",
    [
        *["", " ", "dbfs:/x", "dbfs:///x", "oss://x/y", "wasbs://x@y/z", "http://x/y", "az://x/y", "s3n://x/y"],
        *[
            "FILE:///x",
            "File:/x",
            "S3://x/y",
            "s3:x",
            "s3:/x",
            "s3://",
            "s3:///x",
            "hdfs:",
            "hdfs:x",
            "gs:x",
            "file:x",
            "file:",
        ],
        *["file://host/x", "file:////host/x", "C:\\data", "c:/data", "\\\\server\\share", "~/x", "~", "$HOME/x"],
        *["oss:bucket", "DBFS:x", "S3N:bucket", "Wasb:x", "OSS://x/y", "my store://x/y", "S3://x/y", "File:/x"],
        *["a\0b", "a\nb", "file:///a\nb", "s3://a b/c", "hdfs:", "hdfs:x", "hdfs://"],
    ],
)
@pytest.mark.parametrize("place", [InputRoot, Warehouse])
def test_what_is_neither_a_folder_nor_a_known_uri_is_refused(
    place: type[InputRoot] | type[Warehouse], location: str
) -> None:
    with pytest.raises(SettingsError, match="must be a folder, or a URI that begins with file:///, s3a://"):
        place(location)


@pytest.mark.parametrize("location", ["a:b", "./~", "2025-09-20T10:00", "x/s3:y", "a#b?c", "%20", "C:", "[x]/{a}"])
def test_a_relative_folder_can_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, location: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert InputRoot(location).root == str(tmp_path / location)


def test_a_link_to_a_warehouse_is_the_warehouse(tmp_path: Path) -> None:
    (tmp_path / "lake").mkdir()
    (tmp_path / "alias").symlink_to("lake")
    assert Warehouse(str(tmp_path / "alias")) == Warehouse(str(tmp_path / "lake"))


@pytest.mark.parametrize("below", ["file", "file/lake", "nothing"])
def test_a_warehouse_that_cannot_be_written_is_named_in_a_sentence(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "nothing").symlink_to("/proc/nothing")
    warehouse = Warehouse(str(tmp_path / below))
    with pytest.raises(
        SettingsError, match=rf"^The lake must be a folder .*, and {re.escape(warehouse.root)} is none: "
    ):
        warehouse.check_writable("The lake")


def test_a_warehouse_that_can_be_written_is_created(tmp_path: Path) -> None:
    Warehouse(str(tmp_path / "a" / "lake")).check_writable("The lake")
    assert (tmp_path / "a" / "lake").is_dir()


@pytest.mark.parametrize(
    ("uri", "location"),
    [
        ("file:///data/My%20Data/100%25/a%23b/c+d/%C3%9Cn%C3%AF/", "/data/My Data/100%/a#b/c+d/Ünï"),
        ("s3a://data/My%20Data/a+b/", "s3a://data/My Data/a+b"),
        ("s3://data/lake/", "s3a://data/lake"),
    ],
)
def test_an_encoded_uri_is_decoded_to_its_location(uri: str, location: str) -> None:
    assert location_of(uri) == location


def test_a_location_does_not_depend_on_a_later_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    warehouse = Warehouse("lake")
    monkeypatch.chdir("/")
    assert warehouse.root == str(tmp_path.resolve() / "lake")


@pytest.mark.parametrize(("root", "expected"), [("/data/lake/", "/data/lake"), ("s3://data/lake/", "s3a://data/lake")])
def test_the_tables_are_directly_below_the_root(root: str, expected: str) -> None:
    warehouse = Warehouse(root)
    tables = [warehouse.raw_events, warehouse.rejected_events, warehouse.sessionized_events]
    assert tables == [f"{expected}/raw_events", f"{expected}/rejected_events", f"{expected}/sessionized_events"]


@pytest.mark.parametrize(("root", "expected"), [("/data/in", "/data/in"), ("s3://in/events/", "s3a://in/events")])
def test_the_folder_of_a_batch_is_named_by_its_day(root: str, expected: str) -> None:
    assert InputRoot(root).batch_folder(date(2025, 9, 1)) == f"{expected}/date=2025-09-01"


def test_the_files_of_a_batch_are_sorted_by_path(batch: Path) -> None:
    for name in ("b.parquet", "a.parquet", "c.parquet"):
        put(batch, name)
    assert names_of(batch) == ["a.parquet", "b.parquet", "c.parquet"]


def test_files_in_subfolders_belong_to_the_batch(batch: Path) -> None:
    put(batch, "hour=01/a.parquet")
    put(batch, "deep/er/b.parquet")
    assert names_of(batch) == ["deep/er/b.parquet", "hour=01/a.parquet"]


def test_the_files_of_other_days_do_not_belong_to_the_batch(batch: Path) -> None:
    put(batch, "a.parquet")
    put(batch.parent / "date=2025-09-21", "b.parquet")
    assert names_of(batch) == ["a.parquet"]


@pytest.mark.parametrize(
    "name",
    [
        "_SUCCESS",
        ".a.parquet.crc",
        "_temporary/0/a.parquet",
        ".staging/a.parquet",
        "deep/_SUCCESS",
        "deep/.er/a.parquet",
    ],
)
def test_hidden_files_do_not_belong_to_the_batch(batch: Path, name: str) -> None:
    put(batch, name)
    assert names_of(batch) == []


def test_a_hidden_folder_above_the_batch_does_not_hide_its_files(tmp_path: Path) -> None:
    batch = tmp_path / ".cache" / "_in" / f"date={DAY}"
    put(batch, "a.parquet")
    assert names_of(batch) == ["a.parquet"]


def test_a_name_with_a_hiding_character_in_the_middle_is_not_hidden(batch: Path) -> None:
    put(batch, "part_0.snappy.parquet")
    assert names_of(batch) == ["part_0.snappy.parquet"]


def test_an_empty_file_belongs_to_the_batch(batch: Path) -> None:
    put(batch, "a.csv", b"")
    assert [file.size for file in files_of(batch)] == [0]


def test_a_file_has_its_size_and_can_be_opened(batch: Path) -> None:
    put(batch, "a.csv", b"12345")
    (file,) = files_of(batch)
    with file.open() as opened:
        assert (file.size, opened.read()) == (5, b"12345")


def test_a_compressed_file_is_decompressed_by_its_name(batch: Path) -> None:
    put(batch, "a.csv.gz", gzip.compress(b"12345"))
    (file,) = files_of(batch)
    with file.open_stream() as opened:
        assert opened.read() == b"12345"


@pytest.mark.parametrize(
    ("name", "otherwise"),
    [
        ("a.csv", False),
        ("a.csv.gz", False),
        ("a.csv.bz2", False),
        ("a.csv.zst", False),
        ("a.lz4.csv", False),
        ("a.csv.lz4", True),
        ("a.csv.LZ4", True),
        ("a.csv.GZ", True),
        ("a.csv.snappy", True),
        ("a.csv.deflate", True),
    ],
)
def test_an_unsupported_compression_is_recognized_by_the_name_of_the_file(
    batch: Path, name: str, otherwise: bool
) -> None:
    put(batch, name)
    assert [file.is_compressed_otherwise for file in files_of(batch)] == [otherwise]


def test_files_with_special_characters_in_their_names_can_be_opened(batch: Path) -> None:
    for name in SPECIAL_NAMES:
        put(batch, name, name.encode())
    files = files_of(batch)
    assert sorted(names_of(batch)) == sorted(SPECIAL_NAMES)
    for file in files:
        with file.open() as opened:
            assert opened.read().decode() == Path(file.uri).name


def test_special_characters_in_the_root_are_preserved(tmp_path: Path) -> None:
    batch = tmp_path / "in put%20#1 [x]" / f"date={DAY}"
    put(batch, "a.parquet")
    assert [file.uri for file in files_of(batch)] == [f"{batch}/a.parquet"]


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="date=2025-09-20"):
        InputRoot(str(tmp_path)).delivery(DAY)


def test_a_file_instead_of_the_folder_is_an_error(tmp_path: Path) -> None:
    put(tmp_path, f"date={DAY}")
    with pytest.raises(OSError, match="date=2025-09-20"):
        InputRoot(str(tmp_path)).delivery(DAY)


def test_a_wrong_folder_is_not_reported_as_a_storage_error(tmp_path: Path) -> None:
    root = InputRoot(str(tmp_path))
    nest_too_deep(deliver(root, DAY))
    with pytest.raises(OSError, match="too long"):
        root.delivery(DAY)


@pytest.mark.parametrize(
    ("said", "is_missing"),
    [
        ("No such file or directory 'bucket/input'", True),
        ("No such file or directory 'bucket/input/other'", False),
        ("google::cloud::Status(UNKNOWN: cannot open credentials: No such file or directory '/keys/key.json')", False),
    ],
)
def test_only_the_folder_that_is_listed_is_missing_and_not_a_file_of_credentials(said: str, is_missing: bool) -> None:
    with pytest.raises(FileNotFoundError if is_missing else StorageError), storage_errors("bucket/input"):
        raise OSError(said)


@NEEDS_A_FILE_THAT_FAILS
def test_a_failure_while_reading_a_file_is_reported_as_a_storage_error(
    batch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_to_read(batch / "a.csv", monkeypatch)
    (file,) = files_of(batch)
    with file.open_stream() as opened, pytest.raises(StorageError, match="Input/output error"):
        opened.read(1)


@contextmanager
def writer(root: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that writes to a warehouse until its input ends. It prints when it waits and when it writes."""
    command = [sys.executable, "-c", WRITER, str(root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        try:
            yield process
        finally:
            process.kill()


def next_line(process: subprocess.Popen[bytes], *, within: float = 60) -> str | None:
    """The next line that a process prints, or None if it prints nothing for the given seconds."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], within)
    return process.stdout.readline().decode().strip() if ready else None


def test_a_second_process_waits_until_the_first_one_has_written(tmp_path: Path) -> None:
    with writer(tmp_path / "lake") as first:
        assert [next_line(first), next_line(first)] == ["waiting", "writing"]
        with writer(tmp_path / "lake") as second:
            assert [next_line(second), next_line(second, within=0.5)] == ["waiting", None]
            assert first.stdin is not None
            first.stdin.close()
            assert next_line(second) == "writing"


def test_a_killed_process_does_not_block_others(tmp_path: Path) -> None:
    with writer(tmp_path / "lake") as first:
        assert [next_line(first), next_line(first)] == ["waiting", "writing"]
        first.kill()
        with writer(tmp_path / "lake") as second:
            assert [next_line(second), next_line(second)] == ["waiting", "writing"]


def test_writers_of_different_warehouses_do_not_wait_for_each_other(tmp_path: Path) -> None:
    with writer(tmp_path / "lake") as first, writer(tmp_path / "other lake") as second:
        assert [next_line(first), next_line(first), next_line(second), next_line(second)] == ["waiting", "writing"] * 2


def test_the_lock_is_reentrant_within_a_process(tmp_path: Path) -> None:
    warehouse = Warehouse(str(tmp_path / "lake"))
    for _ in range(2):
        with warehouse.locked():
            assert Path(warehouse.root).is_dir()


def test_a_warehouse_in_an_object_store_is_not_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    warehouse = Warehouse("s3://lake/tables")
    with warehouse.locked(), warehouse.locked():
        assert list(tmp_path.iterdir()) == []
