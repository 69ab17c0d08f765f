"""Landing: accepted and rejected rows, the slices it replaces, and bad batches that change no table.

All batches here are landed in one warehouse. Each has its own day and contains many cases.
"""

import gzip
import json
import lzma
import random
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from shutil import rmtree
from typing import Any, Final, NamedTuple, assert_never

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from sessions_dagster.errors import BatchError, StorageError
from sessions_dagster.input.folders import InputRoot
from sessions_dagster.input.formats import InputFormat
from sessions_dagster.input.readers.rows import broken_files_named
from sessions_dagster.model.columns import (
    BATCH_DATE,
    EVENT,
    EVENT_DATE,
    EVENT_IDENTITY,
    LANDED_AT,
    PRODUCT,
    REASON,
    RECORD,
    SOURCE_FILE,
    TIMESTAMP,
    USER,
)
from sessions_dagster.model.rejects import RejectReason
from sessions_dagster.model.rules import SessionRules
from sessions_dagster.model.schemas import REJECTED_EVENTS_SCHEMA, raw_events_schema
from sessions_dagster.pipeline.land import LandingReport, land_batch
from sessions_dagster.spark.compat import HAS_TEXT_IN_ZSTANDARD, SPARK_LINE
from sessions_dagster.storage.warehouse import Warehouse
from sessions_dagster_tests.builders import columns_with_statistics

EPOCH: Final = datetime(1970, 1, 1)
COLUMNS: Final = (USER, EVENT, PRODUCT, TIMESTAMP)


Row = dict[str, Any]


class Accepted(NamedTuple):
    """A row of `raw_events` without the columns that are constant within a slice. Times are naive, in UTC."""

    user: str
    event: str
    product: str
    at: datetime


class Lake:
    """A warehouse and its input."""

    def __init__(self, spark: SparkSession, folder: Path) -> None:
        self.spark = spark
        self.input = InputRoot(str(folder / "input"))
        self.warehouse = Warehouse(str(folder / "warehouse"))

    def folder(self, day: date) -> Path:
        """The folder of a batch, created if it is missing."""
        folder = Path(self.input.batch_folder(day))
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def land(
        self, day: date, input_format: InputFormat = "parquet", landed_at: datetime | None = None
    ) -> LandingReport:
        return land_batch(
            self.spark, self.input, self.warehouse, day, input_format, landed_at or datetime.now(UTC), SessionRules()
        )

    def accepted(self, day: date) -> list[Accepted]:
        """The slice of a batch in `raw_events`, sorted."""
        rows = self.rows(self.warehouse.raw_events, day)
        return sorted(Accepted(row[USER], row[EVENT], row[PRODUCT], naive(row[TIMESTAMP])) for row in rows)

    def rejected(self, day: date) -> list[Row]:
        """The slice of a batch in `rejected_events`."""
        return self.rows(self.warehouse.rejected_events, day)

    def rows(self, table: str, day: date) -> list[Row]:
        """The slice of a batch in a table, read without Spark."""
        rows = DeltaTable(table).to_pyarrow_table(filters=[(BATCH_DATE, "=", day)])
        found: list[Row] = rows.to_pylist()
        return found

    def versions(self) -> list[int]:
        """The versions of `raw_events` and `rejected_events`."""
        return [DeltaTable(uri).version() for uri in (self.warehouse.raw_events, self.warehouse.rejected_events)]


def naive(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(tzinfo=None)


@pytest.fixture(scope="module")
def lake(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return Lake(spark, tmp_path_factory.mktemp("lake"))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def text_columns(rows: Sequence[Mapping[str, str | None]], *names: str) -> pa.Table:
    """A table of text columns."""
    return pa.table({name: pa.array([row.get(name) for row in rows], pa.string()) for name in names})


# --- accepted and rejected rows --------------------------------------------------------------------------------------

DAY: Final = date(2025, 9, 20)
GOOD: Final = {EVENT: "a", PRODUCT: "idea", TIMESTAMP: "2025-09-20 10:00:00"}

Overrides = Mapping[str, str | None]
"""The values in which a row differs from a good one. The user of each row is named after its case."""

VERDICTS: Final[Mapping[str, tuple[Overrides, RejectReason | None]]] = {
    "good": ({}, None),
    "blank but not empty": ({EVENT: " ", PRODUCT: " "}, None),
    "user is NULL": ({USER: None}, RejectReason.EMPTY_USER_ID),
    "user is empty": ({USER: ""}, RejectReason.EMPTY_USER_ID),
    "event is NULL": ({EVENT: None}, RejectReason.EMPTY_EVENT_ID),
    "event is empty": ({EVENT: ""}, RejectReason.EMPTY_EVENT_ID),
    "product is NULL": ({PRODUCT: None}, RejectReason.EMPTY_PRODUCT_CODE),
    "product is empty": ({PRODUCT: ""}, RejectReason.EMPTY_PRODUCT_CODE),
    "timestamp is NULL": ({TIMESTAMP: None}, RejectReason.MISSING_TIMESTAMP),
    "timestamp is empty": ({TIMESTAMP: ""}, RejectReason.MISSING_TIMESTAMP),
    "timestamp is a word": ({TIMESTAMP: "yesterday"}, RejectReason.UNPARSABLE_TIMESTAMP),
    "timestamp is blank": ({TIMESTAMP: " "}, RejectReason.UNPARSABLE_TIMESTAMP),
    "last microsecond of the day": ({TIMESTAMP: "2025-09-20 23:59:59.999999"}, None),
    "next midnight": ({TIMESTAMP: "2025-09-21 00:00:00"}, RejectReason.AFTER_BATCH_DAY),
    "next midnight in UTC only": ({TIMESTAMP: "2025-09-20 23:00:00-01:00"}, RejectReason.AFTER_BATCH_DAY),
    "next midnight in its zone only": ({TIMESTAMP: "2025-09-21 00:30:00+01:00"}, None),
    "five days before": ({TIMESTAMP: "2025-09-15 00:00:00"}, None),
    "a microsecond too late": ({TIMESTAMP: "2025-09-14 23:59:59.999999"}, RejectReason.TOO_LATE),
    "too late in UTC only": ({TIMESTAMP: "2025-09-15 00:30:00+01:00"}, RejectReason.TOO_LATE),
    "all of it is NULL": (dict.fromkeys(COLUMNS), RejectReason.EMPTY_USER_ID),
    "no user, event, product, and too late": (
        {USER: "", EVENT: "", PRODUCT: "", TIMESTAMP: "2025-01-01 00:00:00"},
        RejectReason.EMPTY_USER_ID,
    ),
    "no event, product and timestamp": (
        {EVENT: "", PRODUCT: None, TIMESTAMP: None},
        RejectReason.EMPTY_EVENT_ID,
    ),
    "no product and timestamp": ({PRODUCT: "", TIMESTAMP: None}, RejectReason.EMPTY_PRODUCT_CODE),
    "no product, timestamp is a word": ({PRODUCT: "", TIMESTAMP: "yesterday"}, RejectReason.EMPTY_PRODUCT_CODE),
    "no product, after the day": ({PRODUCT: "", TIMESTAMP: "2025-09-21 10:00:00"}, RejectReason.EMPTY_PRODUCT_CODE),
}


def delivered(case: str) -> dict[str, str | None]:
    return {"case": case, USER: case, **GOOD, **VERDICTS[case][0]}


@dataclass(frozen=True)
class Landed:
    """The report of a landing, and the rows of both tables after it."""

    report: LandingReport
    accepted: Sequence[Accepted]
    rejected: Sequence[Row]

    @property
    def reasons(self) -> dict[str, str]:
        """The reason of each rejected record."""
        return {row[RECORD]: row[REASON] for row in self.rejected}


def landed(lake: Lake, day: date, input_format: InputFormat = "parquet") -> Landed:
    return Landed(lake.land(day, input_format), lake.accepted(day), lake.rejected(day))


@pytest.fixture(scope="module")
def verdicts(lake: Lake) -> Landed:
    rows = text_columns([delivered(case) for case in VERDICTS], *COLUMNS, "case")
    pq.write_table(rows, lake.folder(DAY) / "verdicts.parquet")
    return landed(lake, DAY)


@pytest.mark.parametrize("case", VERDICTS)
def test_a_row_is_accepted_or_rejected_with_the_first_reason_that_applies(verdicts: Landed, case: str) -> None:
    accepted: list[RejectReason | None] = [None for row in verdicts.accepted if row.user == case]
    rejected = [RejectReason(row[REASON]) for row in verdicts.rejected if json.loads(row[RECORD])["case"] == case]
    assert accepted + rejected == [VERDICTS[case][1]]


def test_a_rejected_row_is_stored_as_it_was_delivered(verdicts: Landed) -> None:
    for row in verdicts.rejected:
        record = json.loads(row[RECORD])
        assert record == delivered(record["case"])
        assert {name: row[name] for name in COLUMNS} == {name: record[name] for name in COLUMNS}
        assert row[SOURCE_FILE].endswith(f"date={DAY}/verdicts.parquet")


def test_the_event_date_is_the_utc_date_of_the_timestamp(lake: Lake, verdicts: Landed) -> None:
    for row in lake.rows(lake.warehouse.raw_events, DAY):
        assert row[EVENT_DATE] == naive(row[TIMESTAMP]).date()


def test_the_report_counts_the_rows_of_the_tables(lake: Lake, verdicts: Landed) -> None:
    report = verdicts.report
    reasons = [row[REASON] for row in verdicts.rejected]
    assert report.accepted == len(verdicts.accepted)
    assert report.late == sum(row.at.date() < DAY for row in verdicts.accepted) == 1
    lateness = [(DAY - row.at.date()).days for row in verdicts.accepted]
    assert list(report.rows_by_lateness) == [lateness.count(days) for days in range(6)]
    assert report.rejected == {reason: reasons.count(reason) for reason in RejectReason if reason in reasons}
    assert (report.files, report.bytes) == (1, (lake.folder(DAY) / "verdicts.parquet").stat().st_size)


@pytest.mark.usefixtures("verdicts")
def test_the_tables_have_the_columns_of_the_contract(lake: Lake) -> None:
    for uri, schema in (
        (lake.warehouse.raw_events, raw_events_schema({})),
        (lake.warehouse.rejected_events, REJECTED_EVENTS_SCHEMA),
    ):
        assert [field.name for field in DeltaTable(uri).schema().fields] == schema.names
        assert DeltaTable(uri).metadata().partition_columns == [BATCH_DATE]
        assert columns_with_statistics(uri) == {LANDED_AT}


# --- Parquet ---------------------------------------------------------------------------------------------------------

NEW_YEAR: Final = date(1970, 1, 1)
MOMENTS_NS: Final = (-500, -1_000, -1_001, 43_200_123_456_789)
"""Moments around 1970, where a careless division rounds up."""
IN_MICROSECONDS: Final = [EPOCH + timedelta(microseconds=ns // 1_000) for ns in MOMENTS_NS]
IN_MILLISECONDS: Final = [EPOCH + timedelta(milliseconds=ns // 1_000_000) for ns in MOMENTS_NS]


def moments(unit: str, zone: str | None = None) -> pa.Array:
    divisor = {"ms": 1_000_000, "us": 1_000, "ns": 1}[unit]
    return pa.array([ns // divisor for ns in MOMENTS_NS], pa.int64()).cast(pa.timestamp(unit, zone))


def in_text(form: str, hours: int = 0) -> pa.Array:
    return pa.array([f"{moment + timedelta(hours=hours):{form}}" for moment in IN_MICROSECONDS])


@dataclass(frozen=True)
class Kind:
    """A type in which the moments are written, and the times as which they are read."""

    timestamps: pa.Array
    read_as: Sequence[datetime]
    options: Mapping[str, Any]


def kind(timestamps: pa.Array, read_as: Sequence[datetime] = IN_MICROSECONDS, **options: Any) -> Kind:
    return Kind(timestamps, read_as, options)


KINDS: Final[Mapping[str, Kind]] = {
    "milliseconds": kind(moments("ms", "UTC"), IN_MILLISECONDS),
    "milliseconds without zone": kind(moments("ms"), IN_MILLISECONDS),
    "microseconds": kind(moments("us", "UTC")),
    "microseconds of another zone": kind(moments("us", "Europe/Berlin")),
    "microseconds without zone": kind(moments("us")),
    "nanoseconds": kind(moments("ns", "UTC")),
    "nanoseconds without zone": kind(moments("ns")),
    "INT96": kind(moments("ns"), use_deprecated_int96_timestamps=True),
    "text": kind(in_text("%Y-%m-%d %H:%M:%S.%f")),
    "text with a zone": kind(in_text("%Y-%m-%dT%H:%M:%S.%f+02:00", hours=2)),
    "text in a dictionary": kind(in_text("%Y-%m-%d %H:%M:%S.%f").dictionary_encode()),
    "long text": kind(in_text("%Y-%m-%d %H:%M:%S.%f").cast(pa.large_string())),
}

EXTRAS: Final = (
    pa.array([1, None, 3, 4], pa.int8()),
    pa.array([[1], [], None, [2, 3]]),
    pa.array([{"deep": {"er": 1}}] * 4),
    pa.array([b"\x00\xff"] * 4),
    moments("ns"),
)


@pytest.fixture(scope="module")
def kinds(lake: Lake) -> Landed:
    """A batch with a file of each kind. Each has its own order of columns, with additional ones among them."""
    folder = lake.folder(NEW_YEAR)
    for number, (name, kind) in enumerate(KINDS.items()):
        columns = {
            USER: pa.array([name] * 4),
            EVENT: pa.array(["a"] * 4),
            PRODUCT: pa.array(["idea"] * 4),
            TIMESTAMP: kind.timestamps,
            f"extra {number}": EXTRAS[number % len(EXTRAS)],
        }
        order = random.Random(number).sample(list(columns), len(columns))
        pq.write_table(pa.table({each: columns[each] for each in order}), folder / f"{number}.parquet", **kind.options)
    others = {
        "years": pa.array([-62_135_596_800_000_000, 2**63 - 1], pa.int64()).cast(pa.timestamp("us", "UTC")),
        "nothing": pa.nulls(2),
        "numbers": moments("us")[:2],
    }
    for name, timestamps in others.items():
        users = pa.array([5, 6]) if name == "numbers" else pa.array([name] * 2)
        columns = {TIMESTAMP: timestamps, USER: users, EVENT: ["a"] * 2, PRODUCT: ["idea"] * 2}
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    return landed(lake, NEW_YEAR)


@pytest.mark.parametrize("name", KINDS)
def test_each_timestamp_type_of_parquet_is_read_as_expected(kinds: Landed, name: str) -> None:
    assert [row.at for row in kinds.accepted if row.user == name] == sorted(KINDS[name].read_as)


def test_numeric_keys_become_text(kinds: Landed) -> None:
    assert [row for row in kinds.accepted if row.user in {"5", "6"}] == [
        Accepted("5", "a", "idea", IN_MICROSECONDS[0]),
        Accepted("6", "a", "idea", IN_MICROSECONDS[1]),
    ]


def test_timestamps_of_any_year_are_accepted_or_rejected_by_their_day(kinds: Landed) -> None:
    reasons = {row[TIMESTAMP]: row[REASON] for row in kinds.rejected if row[USER] == "years"}
    assert reasons == {
        "0001-01-01 00:00:00": RejectReason.TOO_LATE,
        "+294247-01-10 04:00:54.775807": RejectReason.AFTER_BATCH_DAY,
    }


def test_a_timestamp_column_with_only_nulls_is_rejected_as_missing_timestamps(kinds: Landed) -> None:
    reasons = [(row[TIMESTAMP], row[REASON]) for row in kinds.rejected if row[USER] == "nothing"]
    assert reasons == [(None, RejectReason.MISSING_TIMESTAMP)] * 2


NOT_UTF8: Final = b"m\xfcller"
NOT_UTF8_DAY: Final = date(2025, 9, 2)
GOOD_BYTES: Final = {USER: b"good", EVENT: b"a", PRODUCT: b"idea", TIMESTAMP: b"2025-09-02 10:00:00"}
BYTES: Final[Mapping[str, Mapping[str, bytes]]] = {
    **{name: {**GOOD_BYTES, name: NOT_UTF8} for name in (USER, EVENT, PRODUCT)},
    TIMESTAMP: {**GOOD_BYTES, TIMESTAMP: GOOD_BYTES[TIMESTAMP] + NOT_UTF8},
    "own text": {**GOOD_BYTES, USER: b"own text", "own": NOT_UTF8},
    "own bytes": {**GOOD_BYTES, USER: b"own bytes", "raw": NOT_UTF8},
    "all of it": {**dict.fromkeys(COLUMNS, NOT_UTF8), "own": NOT_UTF8, "raw": NOT_UTF8},
    "own text, and rejected": {**GOOD_BYTES, EVENT: b"", "own": NOT_UTF8},
}
"""Rows of bytes, by the part of them that is not UTF-8."""


@pytest.fixture(scope="module")
def bytes_for_text(lake: Lake) -> Landed:
    """A batch with these rows twice: in text columns, and in binary columns except for the timestamp."""
    folder = lake.folder(NOT_UTF8_DAY)
    for key_type in (pa.string(), pa.binary()):
        types = {**dict.fromkeys((USER, EVENT, PRODUCT), key_type), TIMESTAMP: pa.string(), "own": pa.string()}
        columns = {
            name: pa.array([row.get(name) for row in BYTES.values()], pa.binary()).view(types.get(name, pa.binary()))
            for name in (*COLUMNS, "own", "raw")
        }
        pq.write_table(pa.table(columns), folder / f"{key_type}.parquet")
    return landed(lake, NOT_UTF8_DAY)


def test_only_the_four_required_columns_of_a_parquet_row_must_be_utf8(bytes_for_text: Landed) -> None:
    assert [row.user for row in bytes_for_text.accepted] == ["own bytes"] * 2 + ["own text"] * 2


def test_an_invalid_utf8_parquet_row_is_quarantined_with_its_readable_values(
    bytes_for_text: Landed,
) -> None:
    rejected = [row for row in bytes_for_text.rejected if row[REASON] == RejectReason.UNREADABLE_RECORD]
    found = sorted([row[name].replace("\ufffd", "?") for name in COLUMNS] for row in rejected)
    rows = [BYTES[name] for name in (USER, EVENT, PRODUCT, TIMESTAMP, "all of it")]
    assert found == sorted(
        [[row[name].decode(errors="replace").replace("\ufffd", "?") for name in COLUMNS] for row in rows] * 2
    )


def test_an_additional_column_with_invalid_utf8_keeps_the_record_readable(bytes_for_text: Landed) -> None:
    records = [row[RECORD] for row in bytes_for_text.rejected if row[REASON] == RejectReason.EMPTY_EVENT_ID]
    assert [json.loads(record)["own"] for record in records] == ["m\ufffdller"] * 2


@pytest.mark.usefixtures("bytes_for_text")
def test_tables_with_rows_of_invalid_utf8_are_readable_by_other_tools(lake: Lake) -> None:
    for table in (lake.warehouse.raw_events, lake.warehouse.rejected_events):
        for file in DeltaTable(table).file_uris():
            assert duckdb.read_parquet(file).fetchall()


NAMES: Final = (
    "with space.parquet",
    "100%.parquet",
    "a%20b.parquet",
    "a#b?c.parquet",
    "a*b.parquet",
    "[1-3].parquet",
    "{a,b}.parquet",
    "a\\b.parquet",
    "a+b=c&d.parquet",
    "Ünïcödé-数.parquet",
    "hour=01/user_id=5/a.parquet",
)


def test_files_with_any_name_are_read_exactly_once(lake: Lake) -> None:
    day = date(2025, 9, 1)
    for name in NAMES:
        file = lake.folder(day) / name
        file.parent.mkdir(parents=True, exist_ok=True)
        row = {USER: name, EVENT: "a", PRODUCT: "idea", TIMESTAMP: "2025-09-01 10:00:00"}
        pq.write_table(text_columns([row], *COLUMNS), file)
    (lake.folder(day) / "_SUCCESS").touch()
    report = lake.land(day)
    assert report.files == len(NAMES)
    assert [row.user for row in lake.accepted(day)] == sorted(NAMES)


# --- CSV -------------------------------------------------------------------------------------------------------------

CSV_DAY: Final = date(2025, 9, 22)
CSV_FILES: Final[Mapping[str, bytes]] = {
    "quotes.csv": (
        b"user_id,event_id,timestamp,product_code\n"
        b'"o\'hara, ""the"" one",a,2025-09-22 10:00:00,idea\n'
        b'"two\nlines",x,"2025-09-22 10:01:00",idea\n'
        b'back\\slash,a,2025-09-22T12:02:00+02:00,"idea"\n'
    ),
    "other order.csv": (
        b"\xef\xbb\xbfcountry,timestamp,product_code,event_id,user_id,\r\n"
        b"de,2025-09-22 11:00:00,pyc,a,bob,1\r\n"
        b"fr,2025-09-22 11:01:00,pyc,,bob,2\r\n"
    ),
    "same columns in another order.csv": (
        b"product_code,timestamp,event_id,user_id\nidea,2025-09-22 12:00:00,a,carl\n"  # no line end after the last row
        b"idea,2025-09-22 12:01:00,b,carl"
    ),
    "small.csv.gz": gzip.compress(b"user_id,event_id,timestamp,product_code\nzoe,a,2025-09-22 13:00:00,idea\n"),
    "no rows.csv": b"user_id,event_id,timestamp,product_code\n",
    "broken.csv": (
        b"user_id,event_id,timestamp,product_code\n"
        b"short,a\n"
        b"long,a,2025-09-22 14:00:00,idea,and more\n"
        b"m\xfcller,a,2025-09-22 14:00:00,idea\n"
        b"dora,a,2025-09-22 14:00:00,idea\n"
    ),
    "open quote.csv": (
        b"user_id,event_id,timestamp,product_code\n"
        b"emil,a,2025-09-22 15:00:00,idea\n"
        b'"open,a,2025-09-22 15:01:00,idea\n'
        b"next,a,2025-09-22 15:02:00,idea\n"
    ),
    "open quote in the last value.csv": (
        b'user_id,event_id,timestamp,product_code\nopen,a,2025-09-22 16:01:00,"idea\nnext,a,2025-09-22 16:02:00,idea\n'
    ),
    "lines of a row in a value.csv": (
        b"user_id,event_id,timestamp,inches,product_code\n"
        b'quoted,a,2025-09-22 16:11:00,"5,idea\n'
        b'other,a,2025-09-22 16:12:00,6",idea\n'
    ),
    "open quote after the time.csv": (
        b"timestamp,user_id,event_id,product_code,message\n"
        b'2025-09-22 16:21:00,open,a,idea,"oops\n'
        b"2025-09-22 16:22:00,next,a,idea,fine\n"
    ),
    "two line ends.csv": (
        b"user_id,event_id,timestamp,product_code\n"
        b"fritz,a,2025-09-22 17:00:00,idea\nfritz,a,2025-09-22 17:01:00,idea\r\n"
    ),
    "long values.csv": b"user_id,event_id,timestamp,product_code,list\n"
    + b"".join(
        b'gina,a,2025-09-22 18:00:%02d,idea,"first line\n%s"\n' % (number, values)
        for number, values in enumerate([b"," * 2_000, b"," * 200_000, b"1,2\r\n" * 50_000, b" " * 200_000])
    ),
    "times in messages.csv": (
        b"timestamp,user_id,event_id,product_code,message\n"
        b'2025-09-22 19:00:00,hans,a,idea,"failed:\n2025-09-22 10:00 error\r\n2025-09-22 10:01 error, once more\n"\n'
        b'2025-09-22 19:01:00,hans,a,idea,"failed:\n2025-09-22 10:00 error, once more"\n'
    ),
}


@pytest.fixture(scope="module")
def from_csv(lake: Lake) -> Landed:
    for name, content in CSV_FILES.items():
        (lake.folder(CSV_DAY) / name).write_bytes(content)
    return landed(lake, CSV_DAY, "csv")


def test_each_csv_file_is_read_by_its_own_header(from_csv: Landed) -> None:
    assert from_csv.accepted == [
        Accepted("back\\slash", "a", "idea", at("2025-09-22 10:02")),
        Accepted("bob", "a", "pyc", at("2025-09-22 11:00")),
        Accepted("carl", "a", "idea", at("2025-09-22 12:00")),
        Accepted("carl", "b", "idea", at("2025-09-22 12:01")),
        Accepted("dora", "a", "idea", at("2025-09-22 14:00")),
        Accepted("emil", "a", "idea", at("2025-09-22 15:00")),
        Accepted("fritz", "a", "idea", at("2025-09-22 17:00")),
        Accepted("fritz", "a", "idea", at("2025-09-22 17:01")),
        *[Accepted("gina", "a", "idea", at(f"2025-09-22 18:00:{number:02}")) for number in range(4)],
        Accepted("hans", "a", "idea", at("2025-09-22 19:00")),
        Accepted("hans", "a", "idea", at("2025-09-22 19:01")),
        Accepted("next", "a", "idea", at("2025-09-22 15:02")),
        Accepted("next", "a", "idea", at("2025-09-22 16:02")),
        Accepted("next", "a", "idea", at("2025-09-22 16:22")),
        Accepted('o\'hara, "the" one', "a", "idea", at("2025-09-22 10:00")),
        Accepted("quoted", "a", "idea", at("2025-09-22 16:11")),
        Accepted("two\nlines", "x", "idea", at("2025-09-22 10:01")),
        Accepted("zoe", "a", "idea", at("2025-09-22 13:00")),
    ]


@pytest.mark.parametrize("text", ["short,a", "long,a,2025-09-22 14:00:00,idea,and more"])
def test_a_csv_record_with_too_few_or_too_many_values_is_quarantined_unchanged(from_csv: Landed, text: str) -> None:
    assert from_csv.reasons[text] == RejectReason.UNREADABLE_RECORD


def test_a_csv_record_that_is_not_utf8_is_quarantined(from_csv: Landed) -> None:
    (row,) = [row for row in from_csv.rejected if "m\ufffdller" in row[RECORD]]
    assert row[REASON] == RejectReason.UNREADABLE_RECORD


@pytest.mark.parametrize(
    ("file", "record"),
    [
        ("open quote.csv", '"open,a,2025-09-22 15:01:00,idea'),
        ("open quote in the last value.csv", 'open,a,2025-09-22 16:01:00,"idea'),
        ("open quote after the time.csv", '2025-09-22 16:21:00,open,a,idea,"oops'),
    ],
)
def test_a_csv_record_with_a_quote_that_is_never_closed_is_quarantined_alone(
    from_csv: Landed, file: str, record: str
) -> None:
    (row,) = [row for row in from_csv.rejected if Path(row[SOURCE_FILE]).name == file]
    assert (row[REASON], row[RECORD]) == (RejectReason.UNREADABLE_RECORD, record)


def test_a_rejected_csv_row_is_stored_with_all_its_columns(from_csv: Landed) -> None:
    (row,) = [row for row in from_csv.rejected if row[USER] == "bob"]
    record = {"country": "fr", TIMESTAMP: "2025-09-22 11:01:00", PRODUCT: "pyc", EVENT: None, USER: "bob", "_c5": "2"}
    assert (row[REASON], json.loads(row[RECORD])) == (RejectReason.EMPTY_EVENT_ID, record)


def test_no_other_row_of_the_csv_files_is_rejected(from_csv: Landed) -> None:
    assert from_csv.report.rejected == {RejectReason.UNREADABLE_RECORD: 6, RejectReason.EMPTY_EVENT_ID: 1}


# --- JSON lines ------------------------------------------------------------------------------------------------------

JSON_DAY: Final = date(2025, 9, 23)
JSON_LINES: Final[Mapping[str, RejectReason | None]] = {
    '{"user_id":"ada","event_id":"a","product_code":"idea","timestamp":"2025-09-23 10:00:00"}': None,
    '{"x":{"y":[1]},"timestamp":"2025-09-23T12:01+02:00","product_code":"pyc","event_id":"x","user_id":7}': None,
    '{"user_id":"cut","event_id":"a","product_code":"idea","timest': RejectReason.UNREADABLE_RECORD,
    "not JSON at all": RejectReason.UNREADABLE_RECORD,
    # Spark 3.5 has no limit for the length of a name.
    f'{{"{"x" * 50_001}":1}}': (RejectReason.UNREADABLE_RECORD if SPARK_LINE >= (4, 0) else RejectReason.EMPTY_USER_ID),
    '["a","list"]': RejectReason.UNREADABLE_RECORD,
    "null": RejectReason.UNREADABLE_RECORD,
    '{"user_id":"one"} {"user_id":"another"}': RejectReason.UNREADABLE_RECORD,
    '{"user_id":"one"}, {"user_id":"another"}': RejectReason.UNREADABLE_RECORD,
    '{"user_id":null,"event_id":"a","product_code":"idea","timestamp":"2025-09-23 10:00:00"}': (
        RejectReason.EMPTY_USER_ID
    ),
    '{"user_id":"bob","product_code":"idea","timestamp":"2025-09-23 10:00:00"}': RejectReason.EMPTY_EVENT_ID,
    '{"user_id":"bob","event_id":"a","product_code":"idea"}': RejectReason.MISSING_TIMESTAMP,
    '{"user_id":"bob","event_id":"a","product_code":"idea","timestamp":1758621600}': RejectReason.UNPARSABLE_TIMESTAMP,
    **{
        json.dumps(dict.fromkeys(EVENT_IDENTITY, "x") | {name: "m\ufffd"}, ensure_ascii=False): (
            RejectReason.UNREADABLE_RECORD
        )
        for name in EVENT_IDENTITY
    },
}


NESTED_TOO_DEEP: Final = '{"user_id":"deep","x":' + "[" * 20_000
NESTED_DEEP: Final = (
    '{"user_id":"yan","event_id":"a","product_code":"idea","timestamp":"2025-09-23 12:00:00","x":'
    + "[" * 500
    + "]" * 500
    + "}"
)


@pytest.fixture(scope="module")
def from_json(lake: Lake) -> Landed:
    folder = lake.folder(JSON_DAY)
    (folder / "lines.json").write_text("\n".join(JSON_LINES) + "\n\n  \n")
    (folder / "packed.jsonl.gz").write_bytes(
        gzip.compress(b'{"timestamp":"2025-09-23 11:00:00","user_id":"zoe","event_id":"b","product_code":"idea"}\r\n')
    )
    (folder / "deep.json").write_text(f"{NESTED_TOO_DEEP}\n" + NESTED_DEEP)
    return landed(lake, JSON_DAY, "json")


def test_json_lines_are_read_with_their_fields_in_any_order(from_json: Landed) -> None:
    assert from_json.accepted == [
        Accepted("7", "x", "pyc", at("2025-09-23 10:01")),
        Accepted("ada", "a", "idea", at("2025-09-23 10:00")),
        Accepted("yan", "a", "idea", at("2025-09-23 12:00")),
        Accepted("zoe", "b", "idea", at("2025-09-23 11:00")),
    ]


def test_rejected_json_lines_are_quarantined_unchanged(from_json: Landed) -> None:
    rejected = {line: reason for line, reason in JSON_LINES.items() if reason is not None}
    assert from_json.reasons == {**rejected, NESTED_TOO_DEEP: RejectReason.UNREADABLE_RECORD}


# --- compressed text -------------------------------------------------------------------------------------------------

COMPRESSED_DAY: Final = date(2025, 9, 24)
TEXT_FORMATS: Final[Sequence[InputFormat]] = ("csv", "json")
CODECS: Final = {".bz2": "bz2", ".gz": "gzip", **({".zst": "zstd"} if HAS_TEXT_IN_ZSTANDARD else {})}


def as_text(input_format: InputFormat, user: str, day: date) -> bytes:
    """A row as text in a format, with a header if the format has one."""
    row = {USER: user, EVENT: "a", PRODUCT: "idea", TIMESTAMP: f"{day} 10:00:00"}
    if input_format == "json":
        return json.dumps(row).encode() + b"\n"
    return f"{','.join(row)}\n{','.join(row.values())}\n".encode()


def compress(content: bytes, codec: str) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, codec) as stream:
        stream.write(content)
    return bytes(sink.getvalue())


@pytest.mark.parametrize("input_format", TEXT_FORMATS)
def test_text_is_read_from_every_supported_compression(lake: Lake, input_format: InputFormat) -> None:
    folder = lake.folder(COMPRESSED_DAY)
    rmtree(folder)
    folder.mkdir()
    for suffix, codec in CODECS.items():
        content = as_text(input_format, codec, COMPRESSED_DAY)
        parts = [content[:10], content[10:60], b"", content[60:]]
        (folder / f"rows.{input_format}{suffix}").write_bytes(compress(content, codec))
        (folder / f"in parts.{input_format}{suffix}").write_bytes(b"".join(compress(part, codec) for part in parts))
    assert [row.user for row in landed(lake, COMPRESSED_DAY, input_format).accepted] == sorted([*CODECS.values()] * 2)


# --- landing again ---------------------------------------------------------------------------------------------------

AGAIN: Final = date(2025, 9, 25)
FIRST_LANDING: Final = datetime(2025, 9, 27, 8, 0, 0, 123_999, UTC)
LANDINGS: Final = [("a", "b", "-c"), ("b", "d", "-e", "-f"), (), ("-g",)]
"""The users in each landing of the same batch. The row of a user with a minus is rejected."""


@dataclass(frozen=True)
class State:
    """Both tables after a landing: the slices of the batch, as user and `landed_at` (UTC, naive), and other slices."""

    accepted: Sequence[tuple[str, datetime]]
    rejected: Sequence[tuple[str, datetime]]
    others: Sequence[Row]
    versions: Sequence[int]
    report: LandingReport


def write_users(lake: Lake, day: date, users: Sequence[str]) -> None:
    rows = [
        {USER: user.strip("-"), EVENT: "a", PRODUCT: "" if "-" in user else "idea", TIMESTAMP: f"{day} 10:00"}
        for user in users
    ]
    pq.write_table(text_columns(rows, *COLUMNS), lake.folder(day) / "rows.parquet")


def landing_time(number: int) -> datetime:
    """The time of the landing with this number as it is stored: in milliseconds."""
    return (FIRST_LANDING + timedelta(hours=number)).replace(microsecond=123_000, tzinfo=None)


@pytest.fixture(scope="module")
def states(lake: Lake, verdicts: Landed) -> Sequence[State]:
    """The state after each of the landings."""
    tables = (lake.warehouse.raw_events, lake.warehouse.rejected_events)
    found = []
    for number, users in enumerate(LANDINGS):
        write_users(lake, AGAIN, users)
        report = lake.land(AGAIN, landed_at=FIRST_LANDING + timedelta(hours=number))
        accepted, rejected = (
            sorted((row[USER], naive(row[LANDED_AT])) for row in lake.rows(table, AGAIN)) for table in tables
        )
        others = [row for table in tables for row in lake.rows(table, DAY)]
        found.append(State(accepted, rejected, others, lake.versions(), report))
    return found


@pytest.mark.parametrize("number", range(len(LANDINGS)))
def test_landing_again_replaces_the_slice_in_both_tables(states: Sequence[State], number: int) -> None:
    users = LANDINGS[number]
    assert states[number].accepted == [(user, landing_time(number)) for user in users if "-" not in user]
    assert states[number].rejected == [(user.strip("-"), landing_time(number)) for user in users if "-" in user]


def test_landing_again_does_not_replace_other_slices(states: Sequence[State], verdicts: Landed) -> None:
    for state in states:
        assert state.others == states[0].others
        assert len(state.others) == len(verdicts.accepted) + len(verdicts.rejected)


def test_each_slice_is_replaced_in_one_commit_and_an_empty_one_stays_without_a_commit(states: Sequence[State]) -> None:
    steps = [
        [after - before for before, after in zip(one.versions, two.versions, strict=True)]
        for one, two in pairwise(states)
    ]
    # The columns: raw_events, rejected_events.
    assert steps == [[1, 1], [1, 1], [0, 1]]


def test_the_report_has_the_table_versions_of_the_landing(states: Sequence[State]) -> None:
    reported = [[state.report.raw_events_version, state.report.rejected_events_version] for state in states]
    assert reported == [state.versions for state in states]


def test_the_time_of_a_landing_must_have_a_time_zone(lake: Lake) -> None:
    write_users(lake, AGAIN, ("a",))
    with pytest.raises(ValueError, match="time zone"):
        lake.land(AGAIN, landed_at=datetime(2025, 9, 27))


NO_ROWS: Final[Sequence[tuple[InputFormat, str, bytes]]] = [
    ("csv", "rows.csv", b"user_id,event_id,product_code,timestamp\n"),
    ("json", "rows.json", b""),
]


@pytest.mark.usefixtures("verdicts")
@pytest.mark.parametrize(("input_format", "name", "content"), NO_ROWS)
def test_a_batch_without_rows_lands_and_does_not_change_the_tables(
    lake: Lake, input_format: InputFormat, name: str, content: bytes
) -> None:
    day, versions = date(2025, 9, 27), lake.versions()
    folder = lake.folder(day)
    for old in folder.iterdir():
        old.unlink()
    (folder / name).write_bytes(content)
    report = lake.land(day, input_format)
    assert (report.files, report.accepted, report.late, report.rejected) == (1, 0, 0, {})
    assert lake.versions() == versions


# --- bad batches -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stop:
    """A batch that cannot be landed: the change to its folder, which has a good file, and the expected error texts."""

    name: str
    done: Callable[[Path], object]
    errors: Sequence[str]
    input_format: InputFormat = "parquet"


GOOD_ROWS: Final = text_columns([{USER: "good", **GOOD}], *COLUMNS)
MANY_ROWS: Final = text_columns([{USER: f"user {number}", **GOOD} for number in range(20_000)], *COLUMNS)
MANY_LINES: Final = "".join(f"user {number},a,2025-09-20 10:00:00.{number},idea\n" for number in range(20_000))
CSV_HEADER: Final = "user_id,event_id,timestamp,product_code\n"


def bad(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def bad_parquet(rows: pa.Table) -> Callable[[Path], object]:
    return lambda folder: pq.write_table(rows, folder / "bad.parquet")


def with_column(name: str, values: pa.Array) -> pa.Table:
    return GOOD_ROWS.set_column(GOOD_ROWS.schema.get_field_index(name), name, values)


def no_folder(folder: Path) -> None:
    rmtree(folder)


def no_file(folder: Path) -> None:
    no_folder(folder)
    folder.mkdir()


def only_markers(folder: Path) -> None:
    no_file(folder)
    (folder / "_SUCCESS").touch()
    (folder / "_temporary").mkdir()
    pq.write_table(GOOD_ROWS, folder / "_temporary" / "unfinished.parquet")


def cut_parquet(folder: Path) -> None:
    """Write a file without its end, which in Parquet has the description of its content."""
    pq.write_table(MANY_ROWS, folder / "bad.parquet")
    whole = (folder / "bad.parquet").read_bytes()
    (folder / "bad.parquet").write_bytes(whole[: len(whole) // 2])


def garbled_parquet(folder: Path) -> None:
    """Write a file with an intact end, but without the data that its end describes."""
    pq.write_table(MANY_ROWS, folder / "bad.parquet", compression="NONE", use_dictionary=False)
    whole = (folder / "bad.parquet").read_bytes()
    (folder / "bad.parquet").write_bytes(b"PAR1" + b"\xff" * (len(whole) // 2) + whole[4 + len(whole) // 2 :])


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def cut_gzip(name: str, text: str) -> Callable[[Path], object]:
    return bad(name, cut(gzip.compress(text.encode())))


COMPRESSED_OTHERWISE: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    ".deflate": zlib.compress,
    ".lz4": lambda content: compress(content, "lz4"),
    ".snappy": lambda content: bytes(pa.compress(content, "snappy", asbytes=True)),
    ".xz": lzma.compress,
    ".GZ": gzip.compress,
}


STOPS: Final = [
    Stop("no folder", no_folder, ["There is no batch folder", "date={day}", "check the input root"]),
    Stop("an empty folder", no_file, ["date={day} has no data file"]),
    Stop("only markers", only_markers, ["date={day} has no data file"]),
    Stop(
        "columns missing",
        bad_parquet(GOOD_ROWS.drop_columns([PRODUCT, TIMESTAMP])),
        ["bad.parquet lacks", "product_code, timestamp;", "it has user_id, event_id"],
    ),
    Stop(
        "a column name in another case",
        bad_parquet(GOOD_ROWS.rename_columns(["User_ID", EVENT, PRODUCT, TIMESTAMP])),
        ["bad.parquet lacks", "user_id;", "exactly as written"],
    ),
    Stop(
        "a timestamp that is a number",
        bad_parquet(with_column(TIMESTAMP, pa.array([1_758_362_400]))),
        ["bad.parquet has bigint in the column timestamp", "unless the setting epoch_unit says what it counts"],
    ),
    Stop(
        "a key that is a structure",
        bad_parquet(with_column(USER, pa.array([{"name": "good"}]))),
        ["bad.parquet has struct<name:string> in the column user_id"],
    ),
    Stop(
        "a key of booleans",
        bad_parquet(with_column(EVENT, pa.array([True]))),
        ["bad.parquet has boolean in the column event_id", "text, or a number that is an id"],
    ),
    Stop(
        "not Parquet", bad("bad.parquet", CSV_HEADER.encode()), ["bad.parquet is not a Parquet file. Check the input"]
    ),
    Stop("an empty file as Parquet", bad("bad.parquet", b""), ["bad.parquet is not a Parquet file"]),
    Stop("Parquet that was cut", cut_parquet, ["bad.parquet is not a Parquet file"]),
    Stop("Parquet that fails only when it is read", garbled_parquet, ["bad.parquet cannot be read to its end"]),
    Stop("CSV without a column", bad("bad.csv", b"user_id,event_id\n"), ["bad.csv lacks", "product_code"], "csv"),
    Stop("not CSV", bad_parquet(GOOD_ROWS), ["bad.parquet is not a CSV file"], "csv"),
    Stop("not gzip", bad("bad.csv.gz", CSV_HEADER.encode()), ["bad.csv.gz is not compressed as its name says"], "csv"),
    Stop(
        "gzip that fails only when it is read",
        cut_gzip("bad.csv.gz", CSV_HEADER + MANY_LINES),
        ["bad.csv.gz cannot be read to its end", "Compress the file and deliver it again"],
        "csv",
    ),
    Stop("not JSON", bad("bad.json", CSV_HEADER.encode()), ["bad.json is not a file of JSON objects"], "json"),
    Stop("one JSON list", bad("bad.json", b'[{"user_id": "u"}]'), ["bad.json is not a file of JSON objects"], "json"),
    Stop(
        "JSON over many lines",
        bad("bad.json", json.dumps([GOOD], indent=1).encode()),
        ["bad.json is not a file of JSON objects"],
        "json",
    ),
    Stop(
        "JSON lines that were cut",
        cut_gzip("bad.json.gz", "".join(json.dumps({USER: line}) + "\n" for line in MANY_LINES.splitlines())),
        ["bad.json.gz cannot be read to its end", "Compress the file and deliver it again"],
        "json",
    ),
    *[
        Stop(
            f"{input_format} compressed as {suffix}",
            bad(f"bad.{input_format}{suffix}", packed(as_text(input_format, "lost", DAY))),
            [f"bad.{input_format}{suffix} is compressed in a way that cannot be read", ", ".join(CODECS)],
            input_format,
        )
        for input_format in TEXT_FORMATS
        for suffix, packed in COMPRESSED_OTHERWISE.items()
    ],
    *[
        Stop(
            f"CSV in {codec} that was cut",
            bad(f"bad.csv{suffix}", cut(compress((CSV_HEADER + MANY_LINES).encode(), codec))),
            [f"bad.csv{suffix}"],
            "csv",
        )
        for suffix, codec in CODECS.items()
    ],
]
STOP_DAYS: Final = {stop.name: date(2025, 10, 1) + timedelta(days=number) for number, stop in enumerate(STOPS)}


def write_stop(lake: Lake, stop: Stop) -> date:
    day = STOP_DAYS[stop.name]
    folder = lake.folder(day)
    match stop.input_format:
        case "parquet":
            pq.write_table(GOOD_ROWS, folder / "good.parquet")
        case "csv":
            (folder / "good.csv").write_text(f"{CSV_HEADER}good,a,{day} 10:00,idea\n")
        case "json":
            (folder / "good.json").write_text(json.dumps({USER: "good", **GOOD}) + "\n")
        case _:
            assert_never(stop.input_format)
    stop.done(folder)
    return day


def check_message(stop: Stop, message: str) -> None:
    for part in stop.errors:
        assert part.format(day=STOP_DAYS[stop.name]) in message
    assert "good." not in message


@pytest.mark.usefixtures("verdicts")
@pytest.mark.parametrize("stop", STOPS, ids=lambda stop: stop.name)
def test_a_bad_batch_fails_with_its_cause_and_does_not_change_the_tables(lake: Lake, stop: Stop) -> None:
    day, versions = write_stop(lake, stop), lake.versions()
    with pytest.raises(BatchError) as error:
        lake.land(day, stop.input_format)
    check_message(stop, str(error.value))
    assert lake.versions() == versions


@pytest.mark.usefixtures("verdicts")
def test_an_unreadable_file_stops_a_batch_even_if_spark_is_set_to_skip_corrupt_files(
    lake: Lake, spark: SparkSession
) -> None:
    day, setting = date(2025, 9, 28), "spark.sql.files.ignoreCorruptFiles"
    cut_gzip("bad.csv.gz", CSV_HEADER + MANY_LINES)(lake.folder(day))
    spark.conf.set(setting, "true")
    try:
        with pytest.raises(BatchError, match="cannot be read to its end"):
            lake.land(day, "csv")
    finally:
        spark.conf.unset(setting)


def spark_error(cause: str) -> PySparkException:
    """The exception that Spark raises if it fails to read a file."""
    return PySparkException(
        "Job aborted due to stage failure: org.apache.spark.SparkException: [FAILED_READ_FILE.NO_HINT] Encountered "
        "error while reading file s3a://in/date=2025-09-20/a.parquet. SQLSTATE: KD001\n"
        f"\tat org.apache.spark.sql.errors.QueryExecutionErrors$.cannotReadFilesError\nCaused by: {cause}\n\tat x.y.z\n"
    )


@pytest.mark.parametrize(
    "cause",
    [
        "java.net.SocketTimeoutException: Read timed out",
        "java.net.UnknownHostException: in.s3.amazonaws.com",
        "org.apache.hadoop.net.ConnectTimeoutException: connect timed out",
        "org.apache.hadoop.fs.s3a.AWSClientIOException: read on s3a://in/date=2025-09-20/a.parquet: Timeout",
        "java.io.IOException: Input/output error",
        "software.amazon.awssdk.services.s3.model.S3Exception: Please reduce your request rate (Status Code: 503)",
        "software.amazon.awssdk.services.s3.model.S3Exception: At least one precondition failed (Status Code: 412)",
        "com.google.api.client.googleapis.json.GoogleJsonResponseException: 503 Service Unavailable",
        "software.amazon.awssdk.core.exception.ApiCallTimeoutException: Client execution did not complete",
        "software.amazon.awssdk.core.exception.SdkClientException: Unable to execute HTTP request",
        "org.apache.hadoop.fs.s3a.AWSServiceThrottledException: open s3a://in/a: SlowDown",
        "org.apache.hadoop.fs.s3a.RemoteFileChangedException: open s3a://in/a: 412",
        "org.apache.hadoop.fs.s3a.HttpChannelEOFException: read s3a://in/a",
    ],
)
def test_a_storage_failure_while_spark_reads_is_reported_as_a_storage_error(cause: str) -> None:
    with pytest.raises(StorageError, match=r"s3a://in/date=2025-09-20/a\.parquet"), broken_files_named():
        raise spark_error(cause)


@pytest.mark.parametrize(
    "cause",
    [
        "java.io.EOFException: Reached the end of stream with 12 bytes left to read",
        "java.lang.RuntimeException: s3a://in/date=2025-09-20/a.parquet is not a Parquet file",
        "java.net.URISyntaxException: Relative path in absolute URI",
        "software.amazon.awssdk.services.s3.model.NoSuchKeyException: no such key (Status Code: 404)",
    ],
)
def test_a_file_that_spark_cannot_read_is_reported_as_bad_input(cause: str) -> None:
    with pytest.raises(BatchError, match=r"s3a://in/date=2025-09-20/a\.parquet"), broken_files_named():
        raise spark_error(cause)


@pytest.mark.parametrize("done", [no_folder, garbled_parquet])
def test_a_first_batch_that_fails_creates_no_tables(
    spark: SparkSession, tmp_path: Path, done: Callable[[Path], object]
) -> None:
    lake = Lake(spark, tmp_path)
    done(lake.folder(DAY))
    with pytest.raises(BatchError):
        lake.land(DAY)
    assert not Path(lake.warehouse.root).exists()
