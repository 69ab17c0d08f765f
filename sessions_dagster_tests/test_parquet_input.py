"""Parquet files as many writers deliver them: types, names, codecs and damages.

One bad row costs that row, one bad file costs its batch, and nothing that a sender has beside the four columns stops a
batch. Many cases are files of one batch, so that one landing shows them all.
"""

import base64
import json
import struct
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest
from deltalake import DeltaTable
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from sessions_dagster.errors import BatchError
from sessions_dagster.input.folders import InputRoot, delivery
from sessions_dagster.input.formats import EpochUnit
from sessions_dagster.input.readers import parquet_footer
from sessions_dagster.input.readers.parquet import read_parquet
from sessions_dagster.input.readers.parquet_footer import read_footer
from sessions_dagster.input.readers.thrift import CompactReader
from sessions_dagster.model.columns import BATCH_DATE, EVENT, PRODUCT, REASON, RECORD, SOURCE_FILE, TIMESTAMP, USER
from sessions_dagster.model.rejects import RejectReason
from sessions_dagster.model.rules import SessionRules
from sessions_dagster.pipeline.land import LandingReport, land_batch
from sessions_dagster.pipeline.land_range import land_range
from sessions_dagster.spark.compat import PARQUET_LOGICAL_TYPES
from sessions_dagster.storage.warehouse import Warehouse

FIRST: Final = date(2025, 1, 1)
COLUMNS: Final = (USER, EVENT, PRODUCT, TIMESTAMP)


class Lake:
    """A warehouse and its input, with a day of its own for each case."""

    def __init__(self, spark: SparkSession, folder: Path) -> None:
        self.spark = spark
        self.input = InputRoot(str(folder / "input"))
        self.warehouse = Warehouse(str(folder / "warehouse"))
        self._days = 0

    def new_day(self) -> tuple[date, Path]:
        """A day without a batch, and its folder."""
        self._days += 1
        day = FIRST + timedelta(days=self._days)
        folder = Path(self.input.batch_folder(day))
        folder.mkdir(parents=True)
        return day, folder

    def land(self, day: date, carried: Mapping[str, str] | None = None) -> LandingReport:
        return land_batch(
            self.spark,
            self.input,
            self.warehouse,
            day,
            "parquet",
            datetime.now(UTC),
            SessionRules(),
            1_000,
            carried or {},
        )

    def rows(self, table: str, day: date) -> list[dict[str, Any]]:
        """The slice of a batch in a table, read without Spark."""
        found: list[dict[str, Any]] = DeltaTable(table).to_pyarrow_table(filters=[(BATCH_DATE, "=", day)]).to_pylist()
        return found

    def users(self, day: date) -> list[str]:
        return sorted(row[USER] for row in self.rows(self.warehouse.raw_events, day))

    def rejected(self, day: date) -> list[dict[str, Any]]:
        return self.rows(self.warehouse.rejected_events, day)

    def versions(self) -> list[int]:
        tables = (self.warehouse.raw_events, self.warehouse.rejected_events)
        return [DeltaTable(uri).version() for uri in tables if DeltaTable.is_deltatable(uri)]


@pytest.fixture(scope="module")
def lake(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return Lake(spark, tmp_path_factory.mktemp("parquet"))


def at(day: date, count: int) -> pa.Array:
    noon = datetime(day.year, day.month, day.day, 12)
    return pa.array([noon + timedelta(seconds=number) for number in range(count)], pa.timestamp("us"))


def events(day: date, users: Any, **others: Any) -> dict[str, pa.Array]:
    """The four columns of good events."""
    count = len(users)
    columns = {
        USER: users,
        EVENT: pa.array(["a"] * count),
        PRODUCT: pa.array(["idea"] * count),
        TIMESTAMP: at(day, count),
    }
    return {name: others.get(name, values) for name, values in columns.items()}


def file_of(row: Mapping[str, Any]) -> str:
    return Path(unquote(row[SOURCE_FILE])).name


# --- columns of the sender's own -------------------------------------------------------------------------------------

ID: Final = uuid.UUID("12345678-9abc-def0-1234-56789abcdef0")


def numbers(type_: pa.DataType, *values: int) -> pa.Array:
    width = pa.int32() if type_.bit_width == 32 else pa.int64()
    return pa.array(values, width).cast(type_)


HALF_FLOAT: Final = 15
"""The number of the logical type in the format of Parquet."""

LEAVES: Final[Sequence[pa.Array]] = (
    pa.array([ID.bytes] * 2, pa.uuid()),
    pa.array([b"\xff" * 16] * 2, pa.binary(16)),
    pa.array([b"\xff\x00"] * 2),
    pa.array(["text", "m\u00fcller"]),
    pa.array(["text"] * 2, pa.large_string()),
    pa.array([True, False]),
    *[pa.array([0, 127], type_) for type_ in (pa.int8(), pa.int16(), pa.int32(), pa.int64())],
    *[pa.array([0, 2**bits - 1], type_) for bits, type_ in ((8, pa.uint8()), (16, pa.uint16()), (32, pa.uint32()))],
    pa.array([0, 2**64 - 1], pa.uint64()),
    *([pa.array([float("nan"), float("inf")], pa.float16())] if HALF_FLOAT in PARQUET_LOGICAL_TYPES else []),
    pa.array([float("nan"), -float("inf")], pa.float32()),
    pa.array([float("nan"), 1e300]),
    *[numbers(pa.time32("ms"), 0, 86_399_999)],
    *[numbers(pa.time64(unit), 0, 86_399_999_999) for unit in ("us", "ns")],
    *[
        numbers(pa.timestamp(unit, zone), -(2**63) + 1, 2**63 - 1)
        for unit in ("ms", "us", "ns")
        for zone in (None, "UTC", "Europe/Berlin")
    ],
    *[numbers(pa.duration(unit), -(2**63), 2**63 - 1) for unit in ("ms", "us", "ns")],
    numbers(pa.date32(), -(2**31), 2**31 - 1),
    *[pa.array([1, 2], type_) for type_ in (pa.decimal32(9, 2), pa.decimal64(18, 0), pa.decimal128(38, 38 - 20))],
    *[pa.array([1, 2], pa.decimal256(digits)) for digits in (20, 60, 76)],
    pa.array(["a", "b"]).dictionary_encode(),
)

NAMES: Final = (
    "_metadata",
    "_c4",
    "__stored_timestamp",
    "",
    " ",
    "a.b",
    "`a`.b",
    "a`b",
    "a,b;{}()\n\t=",
    "*",
    "own",
    "OWN",
    "USER_ID",
    "Timestamp",
    "record",
    "source_file",
    "batch_date",
    "date",
    "\U0001f600",
)


def lists(values: pa.Array) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array([0, 1, 2], pa.int32()), values)


def maps(values: pa.Array) -> st.SearchStrategy[pa.Array]:
    keys = st.sampled_from([leaf for leaf in LEAVES if not pa.types.is_dictionary(leaf.type)])
    return keys.map(
        lambda each: pa.MapArray.from_arrays(pa.array([0, 1, 2], pa.int32()), storage(each), storage(values))
    )


def storage(values: pa.Array) -> pa.Array:
    """The values without the name of an extension, which pyarrow does not know how to nest."""
    return values.storage if isinstance(values, pa.ExtensionArray) else values


def structures(values: pa.Array) -> st.SearchStrategy[pa.Array]:
    names = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True)
    return names.map(lambda each: pa.StructArray.from_arrays([values] * len(each), names=each))


def is_nested(values: pa.Array) -> bool:
    return bool(pa.types.is_nested(values.type))


def arrays() -> st.SearchStrategy[pa.Array]:
    leaves = st.one_of(st.sampled_from(LEAVES), st.just(pa.nulls(2)))
    return st.recursive(
        leaves,
        lambda inner: st.one_of(inner.map(lists), inner.flatmap(maps), inner.flatmap(structures)),
        max_leaves=3,
    )


def names() -> st.SearchStrategy[str]:
    text = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
    return st.one_of(st.sampled_from(NAMES), text).filter(lambda name: name not in COLUMNS)


def can_be_told_apart(columns: Sequence[tuple[str, pa.Array]]) -> bool:
    """Whether no nested column and no half float shares its name: Spark cannot read such a file (see `STOPS`)."""
    found = [name for name, _ in columns]
    return not any(
        found.count(name) > 1 and (is_nested(values) or values.type == pa.float16()) for name, values in columns
    )


own_columns = st.lists(st.tuples(names(), arrays()), max_size=4).filter(can_be_told_apart)


@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
@given(files=st.lists(own_columns, min_size=5, max_size=6))
def test_no_column_of_the_senders_own_stops_a_batch(
    lake: Lake, files: Sequence[Sequence[tuple[str, pa.Array]]]
) -> None:
    day, folder = lake.new_day()
    for number, own in enumerate(files):
        users = pa.array([f"good {number}", f"bad {number}"])
        required = events(day, users, **{EVENT: pa.array(["a", ""])})
        table = pa.Table.from_arrays(
            [*required.values(), *[values for _, values in own]], names=[*required, *[name for name, _ in own]]
        )
        pq.write_table(table, folder / f"{number}.parquet")
    lake.land(day)
    assert lake.users(day) == sorted(f"good {number}" for number in range(len(files)))
    assert len(lake.rejected(day)) == len(files)
    for row in lake.rejected(day):
        record = json.loads(row[RECORD])
        assert (row[REASON], f"{record[USER]}.parquet") == (RejectReason.EMPTY_EVENT_ID, f"bad {file_of(row)}")
        own = files[int(Path(file_of(row)).stem)]
        names = [name for name, _ in own]
        assert {name for name, values in own if names.count(name) == 1 and values[1].is_valid} <= set(record)


def test_a_record_shows_what_own_columns_stand_for(lake: Lake) -> None:
    day, folder = lake.new_day()
    own = {
        "uuid": pa.array([ID.bytes], pa.uuid()),
        "time": numbers(pa.time64("ns"), 36_000_000_000_001),
        "own timestamp": at(day, 1),
        "millis": numbers(pa.timestamp("ms"), 2**62),
        "uint": pa.array([2**64 - 1], pa.uint64()),
        "bytes": pa.array([b"\xff"]),
        "_metadata": pa.array([{"file_path": None}], pa.struct([("file_path", pa.string())])),
        "": pa.array([1]),
        "USER_ID": pa.array(["another"]),
        "nested": pa.array([[{"id": ID.bytes}]], pa.list_(pa.struct([("id", pa.binary(16))]))),
        "nothing": pa.nulls(1),
    }
    required = {**events(day, pa.array(["bad"])), EVENT: pa.array([""])}
    names = [*required, "twice", "twice", *own]
    values = [*required.values(), pa.array([1]), pa.array([2]), *own.values()]
    pq.write_table(pa.Table.from_arrays(values, names=names), folder / "rows.parquet")
    lake.land(day)
    (row,) = lake.rejected(day)
    assert file_of(row) == "rows.parquet"
    assert json.loads(row[RECORD]) == {
        USER: "bad",
        EVENT: "",
        PRODUCT: "idea",
        TIMESTAMP: f"{day}T12:00:00.000000Z",
        "uuid": str(ID),
        "time": "10:00:00.000000001",
        "own timestamp": f"{day}T12:00:00.000000Z",
        "millis": str(2**62),
        "uint": 2**64 - 1,
        "bytes": "/w==",
        "_metadata": {"file_path": None},
        "": 1,
        "USER_ID": "another",
        "nested": [{"id": base64.b64encode(ID.bytes).decode()}],
        "nothing": None,
    }


UNREADABLE_OWN: Final[Mapping[str, Callable[[pa.Table, Path], None]]] = {
    "brotli": lambda table, file: pq.write_table(table, file, compression={"own": "brotli", USER: "snappy"}),
    "byte stream split": lambda table, file: pq.write_table(
        table, file, use_dictionary=False, column_encoding={"own": "BYTE_STREAM_SPLIT"}
    ),
    "encrypted": lambda table, file: write_encrypted(table, file, ["own"], plaintext_footer=True),
}


class NoRealKeys(pe.KmsClient):  # type: ignore[misc]
    """Gives away every key."""

    def wrap_key(self, key_bytes: bytes, _: str) -> bytes:
        return base64.b64encode(key_bytes)

    def unwrap_key(self, wrapped_key: bytes, _: str) -> bytes:
        return base64.b64decode(wrapped_key)


def write_encrypted(table: pa.Table, file: Path, columns: Sequence[str], *, plaintext_footer: bool) -> None:
    encryption = pe.EncryptionConfiguration(
        footer_key="footer", column_keys={"columns": list(columns)}, plaintext_footer=plaintext_footer
    )
    factory = pe.CryptoFactory(lambda _: NoRealKeys())
    properties = factory.file_encryption_properties(pe.KmsConnectionConfig(), encryption)
    with pq.ParquetWriter(file, table.schema, encryption_properties=properties) as writer:
        writer.write_table(table)


def test_an_own_column_that_spark_cannot_read_is_left_out_of_the_record(lake: Lake) -> None:
    day, folder = lake.new_day()
    for name, write in UNREADABLE_OWN.items():
        table = pa.table(
            {**events(day, pa.array([name, name]), **{EVENT: pa.array(["a", ""])}), "own": pa.array([1, 2])}
        )
        write(table, folder / f"{name}.parquet")
    lake.land(day)
    assert lake.users(day) == sorted(UNREADABLE_OWN)
    assert all("own" not in json.loads(row[RECORD]) for row in lake.rejected(day))


ROW_INDEX: Final = "_tmp_metadata_row_index"


def test_an_own_column_with_a_name_of_spark_is_left_out_of_the_record(lake: Lake) -> None:
    day, folder = lake.new_day()
    for number, own in enumerate([pa.array(["x", "y"]), pa.array([7, 8]), pa.nulls(2), lists(pa.array([1, 2]))]):
        required = events(day, pa.array([f"good {number}", "bad"]), **{EVENT: pa.array(["a", ""])})
        pq.write_table(pa.table({**required, ROW_INDEX: own}), folder / f"{number}.parquet")
    lake.land(day)
    assert lake.users(day) == [f"good {number}" for number in range(4)]
    assert [set(json.loads(row[RECORD])) for row in lake.rejected(day)] == [set(COLUMNS)] * 4
    with pytest.raises(BatchError, match=rf"column {ROW_INDEX} has a name that Spark uses itself"):
        lake.land(day, {ROW_INDEX: "bigint"})


def nested(levels: int, wrap: Callable[[pa.Array], pa.Array]) -> pa.Array:
    values = pa.array([1, 2])
    for _ in range(levels):
        values = wrap(values)
    return values


def test_an_own_column_of_any_depth_does_not_stop_a_batch(lake: Lake) -> None:
    day, folder = lake.new_day()
    deep = {levels: nested(levels, lambda each: pa.StructArray.from_arrays([each], ["x"])) for levels in (80, 400)}
    deep[1_000] = nested(500, lists)
    for levels, own in deep.items():
        required = events(day, pa.array([f"good {levels}", "bad"]), **{EVENT: pa.array(["a", ""])})
        # What is behind it in the file is still found.
        pq.write_table(pa.table({"own": own, **required}), folder / f"{levels}.parquet", store_schema=False)
    lake.land(day)
    assert lake.users(day) == sorted(f"good {levels}" for levels in deep)
    assert {file_of(row): "own" in json.loads(row[RECORD]) for row in lake.rejected(day)} == {
        "80.parquet": True,
        "400.parquet": False,
        "1000.parquet": False,
    }


def test_a_carried_column_that_spark_cannot_read_stops_the_batch(lake: Lake) -> None:
    day, folder = lake.new_day()
    table = pa.table({**events(day, pa.array(["good"])), "own": pa.array([1.5])})
    UNREADABLE_OWN["byte stream split"](table, folder / "bad.parquet")
    with pytest.raises(BatchError, match=r"bad\.parquet: the column own is encoded as BYTE_STREAM_SPLIT"):
        lake.land(day, {"own": "double"})


def test_files_that_differ_only_in_own_columns_are_read_in_one_scan(lake: Lake) -> None:
    day, folder = lake.new_day()
    for number in range(30):
        own = {f"own {each}": pa.array([each]) for each in range(number)}
        pq.write_table(pa.table({**events(day, pa.array([f"{number}"])), **own}), folder / f"{number}.parquet")
    assert len(read_parquet(lake.spark, delivery(lake.input, day).files, {}, None)) == 1


def test_the_number_of_scans_has_a_limit_whatever_types_own_columns_have(lake: Lake) -> None:
    day, folder = lake.new_day()
    for number in range(30):
        required = events(day, pa.array([f"{number}", "bad"]), **{EVENT: pa.array(["a", ""])})
        own = {"own": pa.array([1, 2], pa.decimal128(8 + number))}
        pq.write_table(pa.table({**required, **own}), folder / f"{number}.parquet")
    assert len(read_parquet(lake.spark, delivery(lake.input, day).files, {}, None)) <= 16
    report = lake.land(day)
    assert (report.accepted, sum(report.rejected.values())) == (30, 30)


# --- the four columns ------------------------------------------------------------------------------------------------


def test_a_uuid_is_its_text_in_ids_and_carried_columns(spark: SparkSession, tmp_path: Path) -> None:
    lake = Lake(spark, tmp_path)
    day, folder = lake.new_day()
    ids = pa.array([ID.bytes, None], pa.uuid())
    pq.write_table(pa.table({**events(day, ids, **{EVENT: ids, PRODUCT: ids}), "own": ids}), folder / "rows.parquet")
    lake.land(day, {"own": "string"})
    (row,) = lake.rows(lake.warehouse.raw_events, day)
    assert [row[name] for name in (USER, EVENT, PRODUCT, "own")] == [str(ID)] * 4
    assert [row[REASON] for row in lake.rejected(day)] == [RejectReason.EMPTY_USER_ID]


OUT_OF_RANGE: Final = [(unit, value) for unit in ("ms", "us", "ns") for value in (-(2**63), -(2**63) + 1, 2**63 - 1)]


def test_a_timestamp_out_of_range_costs_its_row_only(lake: Lake) -> None:
    day, folder = lake.new_day()
    for number, (unit, value) in enumerate(OUT_OF_RANGE):
        noon = at(day, 1).cast(pa.timestamp(unit)).cast(pa.int64())[0].as_py()
        times = pa.array([noon, value, noon], pa.int64()).cast(pa.timestamp(unit, "UTC"))
        users = pa.array([f"good {number}", f"bad {number}", f"good {number}"])
        pq.write_table(pa.table(events(day, users, **{TIMESTAMP: times})), folder / f"{number}.parquet")
    lake.land(day)
    assert lake.users(day) == sorted(f"good {number}" for number in range(len(OUT_OF_RANGE)) for _ in range(2))
    rejected = {row[USER]: (row[REASON], row[TIMESTAMP]) for row in lake.rejected(day)}
    assert set(rejected) == {f"bad {number}" for number in range(len(OUT_OF_RANGE))}
    assert [rejected[f"bad {number}"] for number, (unit, _) in enumerate(OUT_OF_RANGE) if unit == "ms"] == [
        (RejectReason.UNPARSABLE_TIMESTAMP, str(value)) for unit, value in OUT_OF_RANGE if unit == "ms"
    ]


def test_bytes_that_are_not_said_to_be_text_are_text_in_all_four_columns(lake: Lake) -> None:
    day, folder = lake.new_day()
    rows = [("good", f"{day} 10:00:00"), ("no time", "x"), ("broken", f"{day}\ufffd")]
    users, times = zip(*rows, strict=True)
    columns = events(day, pa.array(users), **{TIMESTAMP: pa.array(times)})
    as_bytes = {name: values.cast(pa.binary()) for name, values in columns.items()}
    as_bytes[TIMESTAMP] = pa.array([value.as_py().replace(b"\xef\xbf\xbd", b"\xff") for value in as_bytes[TIMESTAMP]])
    pq.write_table(pa.table(as_bytes), folder / "rows.parquet")
    lake.land(day)
    assert lake.users(day) == ["good"]
    assert {row[USER]: row[REASON] for row in lake.rejected(day)} == {
        "no time": RejectReason.UNPARSABLE_TIMESTAMP,
        "broken": RejectReason.UNREADABLE_RECORD,
    }


REASONS: Final = {
    USER: RejectReason.EMPTY_USER_ID,
    EVENT: RejectReason.EMPTY_EVENT_ID,
    PRODUCT: RejectReason.EMPTY_PRODUCT_CODE,
    TIMESTAMP: RejectReason.MISSING_TIMESTAMP,
}


@pytest.mark.parametrize(
    ("null_columns", "epoch_unit"), [([*[(name,) for name in COLUMNS], COLUMNS], None), ([(TIMESTAMP,)], "seconds")]
)
def test_a_batch_whose_files_give_a_column_no_type_is_rejected_row_by_row(
    spark: SparkSession, tmp_path: Path, null_columns: Sequence[Sequence[str]], epoch_unit: EpochUnit | None
) -> None:
    lake = Lake(spark, tmp_path)
    days = {}
    for names in null_columns:
        day, folder = lake.new_day()
        days[day] = REASONS[names[0]]
        table = pa.table({**events(day, pa.array(["a", "b"])), **{name: pa.nulls(2) for name in names}})
        pq.write_table(table, folder / "rows.parquet")
    outcomes = land_range(
        spark, lake.input, lake.warehouse, list(days), "parquet", SessionRules(), epoch_unit=epoch_unit
    )
    reports = {outcome.day: outcome.result for outcome in outcomes}
    assert {day: isinstance(report, LandingReport) and report.rejected for day, report in reports.items()} == {
        day: {reason: 2} for day, reason in days.items()
    }
    assert {day: [row[REASON] for row in lake.rejected(day)] for day in days} == {
        day: [reason] * 2 for day, reason in days.items()
    }


WITHOUT_ROWS: Final[Mapping[str, pa.Table]] = {
    "double": pa.table({name: pa.array([], pa.float64()) for name in COLUMNS}),
    "null": pa.table({name: pa.nulls(0) for name in COLUMNS}),
    "text": pa.table({name: pa.array([], pa.string()) for name in COLUMNS}),
    "bytes": pa.table({name: pa.array([], pa.binary(16)) for name in COLUMNS}),
    "no columns": pa.table({}),
    "an index": pa.table({"__index_level_0__": pa.array([], pa.int64())}),
    "a column less": pa.table({name: pa.array([], pa.string()) for name in COLUMNS[:3]}),
}


def without_row_groups(table: pa.Table, file: Path) -> None:
    pq.ParquetWriter(file, table.schema).close()


@pytest.mark.parametrize("write", [pq.write_table, without_row_groups], ids=["a row group", "no row group"])
def test_a_batch_of_frames_without_rows_takes_the_batch_back(
    lake: Lake, write: Callable[[pa.Table, Path], None]
) -> None:
    day, folder = lake.new_day()
    pq.write_table(pa.table(events(day, pa.array(["good", ""]))), folder / "rows.parquet")
    lake.land(day)
    assert lake.users(day) == ["good"]
    (folder / "rows.parquet").unlink()
    for name, table in WITHOUT_ROWS.items():
        write(table, folder / f"{name}.parquet")
    report = lake.land(day)
    assert (report.files, report.accepted, report.rejected) == (len(WITHOUT_ROWS), 0, {})
    assert (lake.users(day), lake.rejected(day)) == ([], [])


def test_a_file_without_rows_does_not_matter_beside_others(lake: Lake) -> None:
    day, folder = lake.new_day()
    for name, table in WITHOUT_ROWS.items():
        pq.write_table(table, folder / f"{name}.parquet")
    pq.write_table(pa.table(events(day, pa.array(["good"]))), folder / "rows.parquet")
    assert lake.land(day).accepted == 1


# --- files that stop a batch -----------------------------------------------------------------------------------------


def with_key(values: pa.Array, **options: Any) -> Callable[[dict[str, pa.Array], Path], None]:
    return lambda columns, file: pq.write_table(pa.table({**columns, USER: values}), file, **options)


def bytes_as_text(*values: bytes) -> pa.Array:
    return pa.StringArray.from_buffers(len(values), *pa.array(values).buffers()[1:])


def written(**options: Any) -> Callable[[dict[str, pa.Array], Path], None]:
    return lambda columns, file: pq.write_table(pa.table(columns), file, **options)


def twice(columns: dict[str, pa.Array], file: Path) -> None:
    pq.write_table(pa.Table.from_arrays([*columns.values(), columns[USER]], names=[*columns, USER]), file)


def not_utf8(columns: dict[str, pa.Array], file: Path) -> None:
    pq.write_table(pa.table({**columns, "mueller": columns[USER]}), file, store_schema=False)
    file.write_bytes(file.read_bytes().replace(b"mueller", b"m\xfc\xfcller"))


def encrypted(columns: Sequence[str], *, plaintext_footer: bool) -> Callable[[dict[str, pa.Array], Path], None]:
    return lambda rows, file: write_encrypted(pa.table(rows), file, columns, plaintext_footer=plaintext_footer)


STOPS: Final[Mapping[str, tuple[Callable[[dict[str, pa.Array], Path], None], Sequence[str]]]] = {
    "bytes as ids": (with_key(pa.array([ID.bytes], pa.binary(16))), ["FIXED_LEN_BYTE_ARRAY(16)", "column user_id"]),
    "bytes of UUIDs without a type": (with_key(pa.array([b"\xff" * 16])), ["bytes of UUIDs", "column user_id"]),
    "bytes of UUIDs without statistics": (
        with_key(pa.array([ID.bytes]), write_statistics=False),
        ["bytes of UUIDs", "column user_id"],
    ),
    "bytes of UUIDs as text": (with_key(bytes_as_text(ID.bytes)), ["bytes of UUIDs", "column user_id"]),
    "half floats as ids": (
        with_key(pa.array([1.5], pa.float16())),
        ["FLOAT16" if HALF_FLOAT in PARQUET_LOGICAL_TYPES else "does not know", "user_id", "another type"],
    ),
    "large decimals as ids": (with_key(pa.array([1], pa.decimal256(60))), ["DECIMAL(60, 0)", "column user_id"]),
    "lists as ids": (with_key(pa.array([["a"]])), ["array<string>", "column user_id"]),
    "brotli": (written(compression="brotli"), ["column user_id is compressed with BROTLI", "another codec"]),
    "an encoding": (
        written(use_dictionary=False, column_encoding={TIMESTAMP: "BYTE_STREAM_SPLIT"}),
        ["column timestamp is encoded as BYTE_STREAM_SPLIT", "another encoding"],
    ),
    "an encrypted footer": (encrypted([USER], plaintext_footer=False), ["is encrypted", "without encryption"]),
    "an encrypted column": (encrypted([USER], plaintext_footer=True), ["column user_id is encrypted"]),
    "a required column twice": (twice, ["column user_id is there more than once"]),
    "a name for several columns, one of them nested": (
        lambda columns, file: pq.write_table(
            pa.Table.from_arrays(
                [*columns.values(), columns[USER], lists(pa.array([1, 2]))[:1]], [*columns, "own", "own"]
            ),
            file,
        ),
        ["several columns 'own'", "one of them"],
    ),
    "a name for several columns, one of them of half floats": (
        lambda columns, file: pq.write_table(
            pa.Table.from_arrays(
                [*columns.values(), columns[USER], pa.array([1.5], pa.float16())], [*columns, "own", "own"]
            ),
            file,
        ),
        ["several columns 'own'", "one of them"],
    ),
    "a name that is not UTF-8": (not_utf8, ["name is not UTF-8"]),
}


@pytest.mark.parametrize(
    "own", [pa.array([1.5], pa.float16()), pa.array([[1.5]], pa.list_(pa.float16()))], ids=["itself", "in a list"]
)
def test_a_file_with_a_type_that_spark_does_not_know_is_refused_by_the_name_that_has_it(
    own: pa.Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_footer, "PARQUET_LOGICAL_TYPES", PARQUET_LOGICAL_TYPES - {HALF_FLOAT})
    folder = Path(InputRoot(str(tmp_path)).batch_folder(FIRST))
    folder.mkdir()
    pq.write_table(pa.table({USER: ["good"], "own": own}), folder / "bad.parquet")
    (file,) = delivery(InputRoot(str(tmp_path)), FIRST).files
    with pytest.raises(BatchError, match=r"bad\.parquet has '(own|element)' with a type .* not know.* newer Spark"):
        read_footer(file)


def test_some_bytes_that_are_not_utf8_cost_their_rows_only_whatever_their_length(lake: Lake) -> None:
    day, folder = lake.new_day()
    good = b"0123456789abcdef"
    for number, users in enumerate([pa.array([good, ID.bytes, good]), bytes_as_text(good, ID.bytes, good)]):
        for statistics in (True, False):
            file = folder / f"{number} {statistics}.parquet"
            pq.write_table(pa.table(events(day, users)), file, write_statistics=statistics)
    lake.land(day)
    assert lake.users(day) == [good.decode()] * 8
    assert [row[REASON] for row in lake.rejected(day)] == [RejectReason.UNREADABLE_RECORD] * 4


@pytest.mark.parametrize("stop", STOPS)
def test_a_file_that_cannot_be_read_is_refused_with_what_to_do(lake: Lake, stop: str) -> None:
    write, texts = STOPS[stop]
    day, folder = lake.new_day()
    pq.write_table(pa.table(events(day, pa.array(["good"]))), folder / "good.parquet")
    write(events(day, pa.array(["good"])), folder / "bad.parquet")
    before = lake.versions()
    with pytest.raises(BatchError) as error:
        lake.land(day)
    assert [text for text in ["bad.parquet", *texts] if text not in str(error.value)] == []
    assert "Deliver it again" not in str(error.value)
    assert lake.versions() == before


# --- damaged files ---------------------------------------------------------------------------------------------------

ROWS: Final = 24
"""The rows of a damaged file: two row groups of three users, of whom the last one has no event id."""

Damage = Callable[[bytes, pq.FileMetaData], bytes]


def page_data(content: bytes, column: pq.ColumnChunkMetaData) -> int:
    """Where the data of the first data page of a column begins."""
    reader = CompactReader(content, column.data_page_offset)
    reader.read_struct()
    return reader.position


def overwritten(content: bytes, start: int, end: int) -> bytes:
    return content[:start] + b"\xff" * (end - start) + content[end:]


def column_of(metadata: pq.FileMetaData, name: str, row_group: int) -> pq.ColumnChunkMetaData:
    return metadata.row_group(row_group).column(metadata.schema.names.index(name))


def wrong_dictionary_index(content: bytes, metadata: pq.FileMetaData) -> bytes:
    """Three users are numbered with two bits; the number 3 is nobody's. It shows only when a user is looked at."""
    start = page_data(content, column_of(metadata, USER, 1)) + 2
    return overwritten(content, start, start + ROWS // 2 // 4)


def broken_page_header(content: bytes, metadata: pq.FileMetaData) -> bytes:
    start = column_of(metadata, USER, 1).data_page_offset
    return overwritten(content, start, start + 8)


def broken_row_group(content: bytes, metadata: pq.FileMetaData) -> bytes:
    first, second = column_of(metadata, USER, 1), column_of(metadata, TIMESTAMP, 1)
    return overwritten(content, first.dictionary_page_offset, second.data_page_offset)


def varint(number: int) -> bytes:
    number *= 2
    digits = [number >> shift & 0x7F for shift in range(0, number.bit_length(), 7)]
    return bytes([*[digit | 0x80 for digit in digits[:-1]], digits[-1]])


def row_group_beyond_the_end(content: bytes, metadata: pq.FileMetaData) -> bytes:
    """Spark assigns a row group to the task that has its first byte. Nobody has one beyond the end."""
    footer = len(content) - 8 - struct.unpack("<I", content[-8:-4])[0]
    old = varint(column_of(metadata, metadata.schema.names[0], 1).dictionary_page_offset)
    new = varint((1 << (7 * len(old) - 1)) - 1)
    assert len(new) == len(old)
    return content[:footer] + content[footer:].replace(old, new)


def footer_of_nonsense(content: bytes, _: pq.FileMetaData) -> bytes:
    footer = len(content) - 8 - struct.unpack("<I", content[-8:-4])[0]
    return overwritten(content, footer + 10, footer + 60)


DAMAGES: Final[Sequence[Damage]] = (
    wrong_dictionary_index,
    broken_page_header,
    broken_row_group,
    row_group_beyond_the_end,
    footer_of_nonsense,
    lambda content, _: content[: len(content) // 2],
    lambda content, _: content[:-1],
    lambda content, _: content[len(content) // 2 :],
    lambda content, _: content[:4],
)


def write_damaged(file: Path, day: date, damage: Damage) -> None:
    users = pa.array([f"user {number % 3}" for number in range(ROWS)])
    columns = events(day, users, **{EVENT: pa.array([("a", "a", "")[number % 3] for number in range(ROWS)])})
    columns["own"] = pa.array([f"own {number % 3}" for number in range(ROWS)])
    schema = pa.schema([pa.field(name, values.type, nullable=False) for name, values in columns.items()])
    pq.write_table(pa.table(columns, schema=schema), file, compression="NONE", row_group_size=ROWS // 2)
    file.write_bytes(damage(file.read_bytes(), pq.read_metadata(file)))


@pytest.fixture(scope="module")
def sound_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("footers") / "date=2025-01-01" / "rows.parquet"
    file.parent.mkdir()
    nested = pa.array(
        [[{"a": 1, "b": [ID.bytes]}]], pa.list_(pa.struct({"a": pa.time32("ms"), "b": pa.list_(pa.binary(16))}))
    )
    maps = pa.array([[("key", 1)]], pa.map_(pa.string(), pa.decimal128(38, 9)))
    pq.write_table(pa.table({**events(FIRST, pa.array(["good"])), "nested": nested, "map": maps}), file)
    return file


@given(data=st.data())
def test_any_footer_is_read_or_refused_by_the_name_of_its_file(sound_file: Path, data: st.DataObject) -> None:
    content = bytearray(sound_file.read_bytes())
    footer = len(content) - 8 - struct.unpack("<I", content[-8:-4])[0]
    for place, byte in data.draw(
        st.lists(st.tuples(st.integers(footer, len(content) - 9), st.integers(0, 255)), max_size=4)
    ):
        content[place] = byte
    damaged = sound_file.with_name("damaged.parquet")
    damaged.write_bytes(content)
    file = next(each for each in delivery(InputRoot(str(sound_file.parents[1])), FIRST).files if "damaged" in each.uri)
    message = str(damaged)
    try:
        read_footer(file)
    except BatchError as error:
        message = str(error)
    assert str(damaged) in message


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_file_is_named_and_changes_no_table(lake: Lake, damage: Damage) -> None:
    day, folder = lake.new_day()
    for name in ("a good one", "one more"):
        pq.write_table(pa.table(events(day, pa.array(["good"]))), folder / f"{name}.parquet")
    write_damaged(folder / "bad.parquet", day, damage)
    before = lake.versions()
    with pytest.raises(BatchError, match=r"bad\.parquet"):
        lake.land(day)
    assert lake.versions()[-2:] == before[-2:] or not before


def test_damage_in_an_own_column_does_not_separate_the_two_tables(lake: Lake) -> None:
    def damage(content: bytes, metadata: pq.FileMetaData) -> bytes:
        own = column_of(metadata, "own", 0)
        return overwritten(content, own.data_page_offset, own.data_page_offset + 8)

    day, folder = lake.new_day()
    write_damaged(folder / "rows.parquet", day, damage)
    report = lake.land(day)
    assert (report.accepted, report.rejected) == (16, {RejectReason.EMPTY_EVENT_ID: 8})
    rows = lake.rejected(day)
    assert [set(json.loads(row[RECORD])) for row in rows] == [set(COLUMNS)] * 8
    assert {file_of(row) for row in rows} == {"rows.parquet"}
