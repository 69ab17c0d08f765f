"""CSV files of a batch."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Final

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructField, StructType

from sessions_dagster.errors import BatchError
from sessions_dagster.input.files import BatchFile
from sessions_dagster.input.formats import EpochUnit
from sessions_dagster.input.readers.rows import (
    AS_JSON,
    NOT_UTF8,
    WHOLE_FILES,
    any_of,
    check_columns,
    check_compression,
    check_that_some_are_read,
    delivered,
    grouped,
    has_marks_of_bytes,
)
from sessions_dagster.input.readers.timestamps import DATE_AND_MINUTES, parse_timestamp_or_number
from sessions_dagster.model.columns import TIMESTAMP

_RAW_TEXT: Final = "__unreadable_csv_record"


def read_csv(
    spark: SparkSession, files: Sequence[BatchFile], carried_columns: Mapping[str, str], epoch_unit: EpochUnit | None
) -> list[DataFrame]:
    """The rows of CSV files, as `read_batch` takes and gives them: one DataFrame per kind of file.

    The files are RFC 4180, in UTF-8, with a header line.
    """
    check_compression(files)
    # Spark would take the header of one file for that of all.
    groups = grouped(files, lambda file: (_csv_header(file), file.codec))
    return [_csv_rows(spark, alike, _csv_header(alike[0]), carried_columns, epoch_unit) for alike in groups]


@contextmanager
def _csv_records(file: BatchFile) -> Iterator[Iterator[list[str]]]:
    """The records of a CSV file, its header first, as Python's reader finds them."""
    # Decoding takes many lines at a time, and the header is not to blame for bytes in rows that are not UTF-8.
    with file.open_stream() as opened, io.TextIOWrapper(opened, "utf-8-sig", "replace", newline="") as text:
        yield filter(None, csv.reader(text))


def _csv_header(file: BatchFile) -> tuple[str, ...]:
    try:
        with _csv_records(file) as records:
            header = next(records, [])
    except (OSError, EOFError, csv.Error) as error:
        raise BatchError(f"{file.uri} is not a CSV file ({error}). Deliver it again.") from error
    if any(mark in name for name in header for mark in (NOT_UTF8, "\0")):
        raise BatchError(f"{file.uri} is not a CSV file in UTF-8: its first line is not text. Deliver it again.")
    check_columns(file, header)
    return tuple(header)


def _has_csv_rows(file: BatchFile) -> bool:
    try:
        with _csv_records(file) as records:
            return len(list(islice(records, 2))) == 2
    except (OSError, EOFError, csv.Error):
        return True


def _csv_rows(
    spark: SparkSession,
    files: Sequence[BatchFile],
    header: Sequence[str],
    carried_columns: Mapping[str, str],
    epoch_unit: EpochUnit | None,
) -> DataFrame:
    names = [name or f"_c{number}" for number, name in enumerate(header)]
    schema = StructType([StructField(name, StringType()) for name in (*names, _RAW_TEXT)])
    rows = (
        spark.read.options(**WHOLE_FILES)
        .schema(schema)
        .csv(
            [file.spark_path for file in files],
            header=True,
            escape='"',
            multiLine=True,
            columnNameOfCorruptRecord=_RAW_TEXT,
        )
    )
    check_that_some_are_read(rows, files, _has_csv_rows)
    columns = [F.col(f"`{name.replace('`', '``')}`") for name in names]
    swallowing = [_swallows_rows(column, number, names) for number, column in enumerate(columns)]
    broken = F.col(_RAW_TEXT).isNotNull() | any_of(swallowing) | has_marks_of_bytes()
    return delivered(
        rows,
        carried_columns,
        timestamp=parse_timestamp_or_number(F.col(TIMESTAMP), epoch_unit),
        timestamp_text=F.col(TIMESTAMP),
        record=F.coalesce(_RAW_TEXT, F.to_json(F.struct(*columns), AS_JSON)),
        unreadable=broken,
    )


def _swallows_rows(value: Column, number: int, names: Sequence[str]) -> Column:
    """Whether a CSV value contains what was meant as further rows, as after a quote that is opened and never closed.

    A line in it is such a row if it has a field for each column, and a date at the place of the timestamp. The last
    line ends where the value ends, so it has only the fields up to the value's own column. A carriage return at its end
    means that lines end in two ways in one file.

    Args:
        value: The value.
        number: The number of its column, from 0.
        names: All columns.
    """
    # Lines and fields are separated by splitting. A pattern that repeats a group once for every field takes a frame of
    # Java's stack for each repetition: a long value would end the JVM.
    lines = F.split(value, r"[\r\n]")
    between, last = F.slice(lines, 2, F.size(lines) - 2), F.element_at(lines, -1)
    timestamp = names.index(TIMESTAMP)
    swallows = F.exists(between, lambda line: _is_row(line, len(names), timestamp)) | _is_row(
        last, number + 1, timestamp
    )
    # Nearly all values have one line and need no splitting.
    return F.when(value.contains("\n") | value.contains("\r"), swallows | value.endswith("\r")).otherwise(F.lit(False))


def _is_row(line: Column, fields: int, timestamp: int) -> Column:
    """Whether a line has at least some number of fields, and in one of them what a timestamp begins with."""
    split = F.split(line, ",")
    return (F.size(split) >= fields) & F.coalesce(
        F.get(split, F.lit(timestamp)).rlike(rf'^"?\s*{DATE_AND_MINUTES}'), F.lit(False)
    )
