"""Reading a batch: the rows of all its files as delivered, whatever their format, columns and types.

The only judgement made here is whether a file, or a record of it, can be read. `landing` tells good rows from bad.
"""

import csv
import io
import json
import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date
from functools import reduce
from itertools import islice
from typing import Final, Literal, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException, ArithmeticException, PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    DataType,
    IntegerType,
    LongType,
    MapType,
    NullType,
    StringType,
    StructField,
    StructType,
    TimestampNTZType,
    TimestampType,
    VariantType,
)

from sessions_dagster.core.contract import EVENT_IDENTITY, KEY_COLUMNS, RECORD, SOURCE_FILE, TIMESTAMP
from sessions_dagster.lake.places import COMPRESSIONS, BatchFile, InputRoot, StorageError, place_of

Looked = TypeVar("Looked")

InputFormat = Literal["parquet", "csv", "json"]

TIMESTAMP_TEXT: Final = "timestamp_text"
UNREADABLE: Final = "unreadable"

_RAW_TEXT: Final = "_unreadable_csv_record"
_HEAD_BYTES: Final = 64 * 1024
_NOT_UTF8: Final = "\ufffd"

# Spark has no class for them: what it tells of is that a file cannot be read, and of the classes of Java that say why.
_STORAGE_FAULTS: Final = re.compile(
    r"java\.net\.\w*(Socket|Connect|Host)\w*Exception|ConnectTimeoutException|s3a\.AWS\w+Exception|Input/output error"
)

_WHOLE_FILES: Final = {"ignoreCorruptFiles": "false", "ignoreMissingFiles": "false"}
"""What cannot be read is an error, also where the settings of a cluster have Spark pass it over in silence."""

_DATE_AND_MINUTES: Final = r"\d{4}-\d{1,2}-\d{1,2}[ T]\d{1,2}:\d{1,2}"
_AS_JSON: Final = {
    "ignoreNullFields": "false",
    "timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX",
    "timestampNTZFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSS",
}
"""Nothing is left out of a record: by default Spark drops NULLs and everything below a millisecond."""


class BatchError(ValueError):
    """A batch cannot be landed. The message says which folder or file, what is wrong with it, and what to do."""


def batch_files(input_root: InputRoot, day: date) -> list[BatchFile]:
    """The data files of a batch.

    Raises:
        BatchError: If the folder is missing, cannot be listed as it is, or has no data file.
        StorageError: If the storage fails.
    """
    folder = input_root.batch_folder(day)
    try:
        files = input_root.batch_files(day)
    except FileNotFoundError as error:
        raise BatchError(
            f"There is no batch folder {folder}. Deliver the batch, or check SESSIONS_INPUT_ROOT ({input_root.root})."
        ) from error
    except (OSError, pa.ArrowInvalid) as error:
        raise BatchError(f"The batch folder {folder} cannot be listed: {error}") from error
    if not files:
        raise BatchError(
            f"The batch folder {folder} has no data file. Deliver the batch; one without events is a file without rows."
        )
    return files


def read_batch(spark: SparkSession, files: Sequence[BatchFile], input_format: InputFormat) -> DataFrame:
    """The rows of a batch as delivered. Only what can be said without reading all of them is checked at once.

    Args:
        spark: A session in UTC, with `spark.sql.legacy.parquet.nanosAsLong`.
        files: The files of the batch. They may differ in their columns and types.
        input_format: `parquet`; `csv` (RFC 4180, UTF-8, with a header line); or `json` (one object per line, UTF-8).

    Returns:
        One row per record, duplicates included: `user_id`, `event_id`, `product_code` (string, nullable);
        `timestamp` (timestamp, UTC; NULL where there is none or it is not one); `timestamp_text` (string: the timestamp
        as delivered); `record` (string: the whole row as JSON, or the text itself where it is not readable);
        `unreadable` (boolean: the record is broken, or text in it that counts is not UTF-8, and may then be so here as
        well, but for `record`); `source_file` (string: a URI).

    Raises:
        BatchError: If a file is not of the format, is compressed in a way that cannot be read, has not the required
            columns, has one twice, or one of a type that cannot be used.
        StorageError: If the storage fails.
    """
    if input_format != "parquet":
        _check_compression(files)
    return reduce(DataFrame.union, _READERS[input_format](spark, files))


@contextmanager
def broken_files_named() -> Iterator[None]:
    """Turns Spark's failure to read a file, which shows only when its rows are read, into an error of ours.

    Raises:
        BatchError: If Spark failed because it could not read a file.
        StorageError: If it could not, and the storage is to blame.
    """
    try:
        yield
    except (PySparkException, Py4JJavaError) as error:
        named = re.search(r"\[FAILED_READ_FILE[^\]]*\].*? file (\S+?)\.?\s", str(error))
        if named is None:
            raise
        file = place_of(named[1])
        causes = re.findall(r"Caused by: (.+)", str(error)) or ["see above"]
        if any(map(_STORAGE_FAULTS.search, causes)):
            raise StorageError(f"{file} cannot be read now ({causes[-1]}).") from error
        raise BatchError(f"{file} cannot be read to its end ({causes[-1]}). Deliver it again.") from error


def parse_timestamp(text: Column) -> Column:
    """A timestamp (UTC) from text: a date and a time of day with at least minutes, and perhaps a zone.

    Without a zone it is UTC. Digits after the microseconds are cut off. NULL where the text is no such thing: Spark's
    own cast would take `12:00:00` for today and `2025` for New Year.
    """
    # Spark wants the seconds where a zone follows, Java and others leave them out where they are zero.
    with_seconds = F.regexp_replace(text, rf"^(\s*{_DATE_AND_MINUTES})(?=\s*[A-Za-z+-])", "$1:00")
    return F.when(
        text.rlike(rf"^\s*{_DATE_AND_MINUTES}"),
        F.coalesce(text.try_cast(TimestampType()), with_seconds.try_cast(TimestampType())),
    )


def _read_parquet(spark: SparkSession, files: Sequence[BatchFile]) -> list[DataFrame]:
    # Spark would read all files with the schema of one of them.
    return [_parquet_rows(spark, alike) for alike in _grouped(files, _parquet_columns)]


def _parquet_columns(file: BatchFile) -> frozenset[tuple[object, ...]]:
    """What the footer says of the columns, their order aside."""
    try:
        with file.open() as opened:
            schema = pq.ParquetFile(opened).schema
            _check_columns(file, schema.to_arrow_schema().names)
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise BatchError(f"{file.uri} is not a Parquet file that can be read ({error}). Deliver it again.") from error
    columns = [schema.column(number) for number in range(len(schema))]
    return frozenset(
        (each.path, each.physical_type, str(each.logical_type), each.length, each.max_repetition_level)
        for each in columns
    )


def _parquet_rows(spark: SparkSession, files: Sequence[BatchFile]) -> DataFrame:
    try:
        rows = spark.read.options(**_WHOLE_FILES).parquet(*[file.spark_path for file in files])
    except (AnalysisException, ArithmeticException) as error:
        raise BatchError(f"{files[0].uri} has columns that Spark cannot read: {error}") from error
    for name in KEY_COLUMNS:
        if isinstance(rows.schema[name].dataType, ArrayType | MapType | StructType | VariantType):
            raise _unusable(files[0], name, rows.schema[name].dataType, "text or another simple type")
    timestamp, text = _timestamp_and_text(files[0], rows)
    # Parquet has bytes for text, and nobody looks at them on the way: others cannot read a table of ours with such.
    texts = [name for name in EVENT_IDENTITY if isinstance(rows.schema[name].dataType, StringType | BinaryType)]
    return _delivered(
        rows,
        timestamp=timestamp,
        timestamp_text=text,
        record=F.make_valid_utf8(F.to_json(F.struct("*"), _AS_JSON)),
        unreadable=_any([F.lit(False), *map(_is_invalid_utf8, texts)]),
    )


def _timestamp_and_text(file: BatchFile, rows: DataFrame) -> tuple[Column, Column]:
    column, type_ = F.col(TIMESTAMP), rows.schema[TIMESTAMP].dataType
    match type_:
        case TimestampType() | TimestampNTZType():
            timestamp = column.cast(TimestampType())
        case StringType():
            return parse_timestamp(column), column
        case NullType():
            timestamp = F.lit(None).cast(TimestampType())
        case IntegerType() if pa.types.is_null(_arrow_type(file, TIMESTAMP)):
            timestamp = F.lit(None).cast(TimestampType())
        case LongType() if pa.types.is_timestamp(_arrow_type(file, TIMESTAMP)):
            # Division goes towards zero; before 1970 that would be up.
            timestamp = F.timestamp_micros(F.expr(f"{TIMESTAMP} div 1000 - int({TIMESTAMP} % 1000 < 0)"))
        case _:
            raise _unusable(file, TIMESTAMP, type_, "a timestamp, or text that holds one")
    return timestamp, timestamp.cast(StringType())


def _arrow_type(file: BatchFile, column: str) -> pa.DataType:
    """What the footer says of a column that Spark reads as plain numbers.

    These can be a timestamp in nanoseconds, or what others than Spark write where there is not a single value.
    """
    with file.open() as opened:
        return pq.ParquetFile(opened).schema.to_arrow_schema().field(column).type


def _read_csv(spark: SparkSession, files: Sequence[BatchFile]) -> list[DataFrame]:
    # Spark would take the header of one file for that of all.
    groups = _grouped(files, lambda file: (_csv_header(file), file.codec))
    return [_csv_rows(spark, alike, _csv_header(alike[0])) for alike in groups]


@contextmanager
def _csv_records(file: BatchFile) -> Iterator[Iterator[list[str]]]:
    """The records of a CSV file, its header first, as Python's reader finds them."""
    # Decoding takes many lines at a time, and the header is not to blame for bytes in rows that are no UTF-8.
    with file.open_stream() as opened, io.TextIOWrapper(opened, "utf-8-sig", "replace", newline="") as text:
        yield filter(None, csv.reader(text))


def _csv_header(file: BatchFile) -> tuple[str, ...]:
    try:
        with _csv_records(file) as records:
            header = next(records, [])
    except (OSError, EOFError, csv.Error) as error:
        raise BatchError(f"{file.uri} is not a CSV file ({error}). Deliver it again.") from error
    if any(mark in name for name in header for mark in (_NOT_UTF8, "\0")):
        raise BatchError(f"{file.uri} is not a CSV file in UTF-8: its first line is no text. Deliver it again.")
    _check_columns(file, header)
    return tuple(header)


def _has_csv_rows(file: BatchFile) -> bool:
    try:
        with _csv_records(file) as records:
            return len(list(islice(records, 2))) == 2
    except (OSError, EOFError, csv.Error):
        return True


def _csv_rows(spark: SparkSession, files: Sequence[BatchFile], header: Sequence[str]) -> DataFrame:
    names = [name or f"_c{number}" for number, name in enumerate(header)]
    schema = StructType([StructField(name, StringType()) for name in (*names, _RAW_TEXT)])
    rows = (
        spark.read.options(**_WHOLE_FILES)
        .schema(schema)
        .csv(
            [file.spark_path for file in files],
            header=True,
            escape='"',
            multiLine=True,
            columnNameOfCorruptRecord=_RAW_TEXT,
        )
    )
    _check_that_some_are_read(rows, files, _has_csv_rows)
    columns = [F.col(f"`{name.replace('`', '``')}`") for name in names]
    swallowing = [_swallows_rows(column, number, names) for number, column in enumerate(columns)]
    broken = F.col(_RAW_TEXT).isNotNull() | _any(swallowing) | _is_not_utf8()
    return _delivered(
        rows,
        timestamp=parse_timestamp(F.col(TIMESTAMP)),
        timestamp_text=F.col(TIMESTAMP),
        record=F.coalesce(_RAW_TEXT, F.to_json(F.struct(*columns), _AS_JSON)),
        unreadable=broken,
    )


def _swallows_rows(value: Column, number: int, names: Sequence[str]) -> Column:
    """Whether a CSV value holds what was meant as further rows, as after a quote that is opened and never closed.

    A line in it is such a row if it has a field for each column, and a date where the timestamp is. The last line ends
    where the value does, so it has the fields up to the value's own column only. A carriage return at its end means
    that lines end in two ways in one file.

    Args:
        value: The value.
        number: The number of its column, from 0.
        names: All columns.
    """
    # Lines and fields are told apart by splitting. A pattern that repeats a group, as one for so many fields has to,
    # takes a frame of Java's stack for each repetition: a long value would end the JVM.
    lines = F.split(value, r"[\r\n]")
    between, last = F.slice(lines, 2, F.size(lines) - 2), F.element_at(lines, -1)
    timestamp = names.index(TIMESTAMP)
    swallows = F.exists(between, lambda line: _is_row(line, len(names), timestamp)) | _is_row(
        last, number + 1, timestamp
    )
    # Nearly all values are of one line, and are spared the splitting.
    return F.when(value.contains("\n") | value.contains("\r"), swallows | value.endswith("\r")).otherwise(F.lit(False))


def _is_row(line: Column, fields: int, timestamp: int) -> Column:
    """Whether a line has at least so many fields, and in one of them what a timestamp begins with."""
    split = F.split(line, ",")
    return (F.size(split) >= fields) & F.coalesce(
        F.get(split, F.lit(timestamp)).rlike(rf'^"?\s*{_DATE_AND_MINUTES}'), F.lit(False)
    )


def _read_json(spark: SparkSession, files: Sequence[BatchFile]) -> list[DataFrame]:
    _each(_check_json_lines, files)
    return [_json_rows(spark, alike) for alike in _grouped(files, lambda file: file.codec)]


def _json_rows(spark: SparkSession, files: Sequence[BatchFile]) -> DataFrame:
    lines = spark.read.options(**_WHOLE_FILES).text([file.spark_path for file in files])
    lines = lines.where(F.col("value").rlike(r"\S"))
    _check_that_some_are_read(lines, files, _has_json_lines)
    # As an array of one: after an object Spark ignores the rest of a line, be it another object.
    schema = ArrayType(StructType([StructField(name, StringType()) for name in EVENT_IDENTITY]))
    objects = F.from_json(F.concat(F.lit("["), F.col("value"), F.lit("]")), schema)
    rows = lines.select("value", "_metadata", objects.alias("objects")).select(
        "value", "_metadata", F.size("objects").alias("count"), F.get("objects", F.lit(0)).alias("object")
    )
    rows = rows.select("*", "object.*")
    broken = F.coalesce(F.col("count") != 1, F.lit(True)) | F.col("object").isNull() | _is_not_utf8()
    return _delivered(
        rows,
        timestamp=parse_timestamp(F.col(TIMESTAMP)),
        timestamp_text=F.col(TIMESTAMP),
        record=F.make_valid_utf8("value"),
        unreadable=broken,
    )


def _check_json_lines(file: BatchFile) -> None:
    """One broken line is the row's fault. Where no line is an object, it is the file's."""
    try:
        with file.open_stream() as opened:
            head = opened.read(_HEAD_BYTES)
    except (OSError, EOFError) as error:
        raise BatchError(f"{file.uri} cannot be read ({error}). Deliver it again.") from error
    lines = head.splitlines()[:-1] if len(head) == _HEAD_BYTES else head.splitlines()
    lines = [line for line in lines if line.strip()]
    if lines and not any(map(_is_json_object, lines)):
        raise BatchError(
            f"{file.uri} is not a file of JSON objects, one per line. Check the input format, or redeliver."
        )


def _has_json_lines(file: BatchFile) -> bool:
    try:
        with file.open_stream() as opened:
            return any(part.strip() for part in iter(lambda: opened.read(_HEAD_BYTES), b""))
    except (OSError, EOFError):
        return True


def _is_json_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _check_compression(files: Sequence[BatchFile]) -> None:
    """Some compressions Spark reads as nothing at all, or ends its JVM, so this is found out before it looks."""
    for file in files:
        if file.is_compressed_otherwise:
            raise BatchError(
                f"{file.uri} is compressed in a way that cannot be read, as its name says ({file.suffix}). Deliver it "
                f"in another one ({', '.join(COMPRESSIONS)}) or without."
            )


def _check_that_some_are_read(
    rows: DataFrame, files: Sequence[BatchFile], has_records: Callable[[BatchFile], bool]
) -> None:
    """Where Spark finds not a row in files of one kind, there has to be none, or a batch would be lost in silence.

    Args:
        rows: What Spark reads.
        files: The files; of one compression, as what is not read of one is not read of another.
        has_records: Whether a file has records, or cannot be read to the first one, found out without Spark.
    """
    if rows.isEmpty():
        lost = next((file for file in files if has_records(file)), None)
        if lost is not None:
            raise BatchError(
                f"{lost.uri} has records, but Spark reads not one of them. Deliver it again, as plain text in UTF-8."
            )


def _delivered(
    rows: DataFrame, *, timestamp: Column, timestamp_text: Column, record: Column, unreadable: Column
) -> DataFrame:
    return rows.select(
        *[F.col(name).cast(StringType()).alias(name) for name in KEY_COLUMNS],
        timestamp.alias(TIMESTAMP),
        timestamp_text.alias(TIMESTAMP_TEXT),
        record.alias(RECORD),
        unreadable.alias(UNREADABLE),
        F.col("_metadata.file_path").alias(SOURCE_FILE),
    )


def _is_not_utf8() -> Column:
    """Decoding has put a mark where bytes were no UTF-8; with such marks two users could become one."""
    return _any([F.coalesce(F.col(name).contains(_NOT_UTF8), F.lit(False)) for name in KEY_COLUMNS])


def _is_invalid_utf8(column: str) -> Column:
    return F.coalesce(~F.is_valid_utf8(F.col(column).cast(StringType())), F.lit(False))


def _any(conditions: Sequence[Column]) -> Column:
    return reduce(Column.__or__, conditions)


def _grouped(files: Sequence[BatchFile], kind_of: Callable[[BatchFile], Hashable]) -> list[list[BatchFile]]:
    """The files that are alike, together."""
    groups: defaultdict[Hashable, list[BatchFile]] = defaultdict(list)
    for file, kind in zip(files, _each(kind_of, files), strict=True):
        groups[kind].append(file)
    return list(groups.values())


def _each(look: Callable[[BatchFile], Looked], files: Sequence[BatchFile]) -> list[Looked]:
    """What a look at each file tells. Many at a time, as each may be a request to an object store."""
    with ThreadPoolExecutor() as threads:
        return list(threads.map(look, files))


def _check_columns(file: BatchFile, names: Sequence[str]) -> None:
    missing = [name for name in EVENT_IDENTITY if name not in names]
    if missing:
        raise BatchError(
            f"{file.uri} lacks the required column {', '.join(missing)}; it has {', '.join(names) or 'none at all'}. "
            "Names are taken exactly as written. Deliver the file with these columns."
        )
    folded = [name.casefold() for name in names if name]
    repeated = sorted({name for name in folded if folded.count(name) > 1})
    if repeated:
        raise BatchError(
            f"{file.uri} has more than one column {', '.join(repeated)}, upper and lower case being the same. "
            "Deliver the file with one of each."
        )


def _unusable(file: BatchFile, column: str, type_: DataType, wanted: str) -> BatchError:
    return BatchError(
        f"{file.uri} has {type_.simpleString()} in the column {column}, which has to be {wanted}. "
        "Deliver the file with another type."
    )


_READERS: Final[Mapping[InputFormat, Callable[[SparkSession, Sequence[BatchFile]], list[DataFrame]]]] = {
    "parquet": _read_parquet,
    "csv": _read_csv,
    "json": _read_json,
}
