"""CSV files of a batch."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce
from itertools import chain, count, islice
from typing import Final

import pyarrow as pa
from pyspark import cloudpickle
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructField, StructType

from sessions_dagster.input.files import BatchFile
from sessions_dagster.input.formats import EpochUnit
from sessions_dagster.input.readers import csv_records
from sessions_dagster.input.readers.csv_header import CsvHeader, has_rows, read_header
from sessions_dagster.input.readers.csv_layout import NUMBER, CsvLines, Layout, layouts, look_at_lines, numbered
from sessions_dagster.input.readers.rows import (
    AS_JSON,
    delivered,
    for_each,
    grouped,
    has_marks_of_bytes,
    whole_files,
)
from sessions_dagster.input.readers.text import (
    BLOCK,
    LINE,
    SOURCE,
    check_compression,
    check_that_all_are_read,
    has_text,
    text_lines,
)
from sessions_dagster.input.readers.timestamps import parse_timestamp_or_number
from sessions_dagster.model.columns import EVENT_IDENTITY, TIMESTAMP
from sessions_dagster.spark.compat import make_valid_utf8, map_in_arrow
from sessions_dagster.spark.tuning import is_remote

_BROKEN: Final = "__broken"
_RECORD: Final = "__record"
_PARSED: Final = "__parsed"
_RAW_TEXT: Final = "__raw_text"

_LEAST_LIMIT_OF_COLUMNS: Final = 20_480
"""Spark's own limit. It is raised for lines with more commas: one of them would be an error of the whole batch."""

_ANY_PYTHON: Final = "python3"
"""What Spark starts as a Python worker by default."""

_RECORDS_AT_ONCE: Final = 10_000
_ASSEMBLED: Final = pa.schema([(SOURCE, pa.string()), (_RECORD, pa.string()), (_BROKEN, pa.bool_())])


def read_csv(
    spark: SparkSession, files: Sequence[BatchFile], carried_columns: Mapping[str, str], epoch_unit: EpochUnit | None
) -> list[DataFrame]:
    """The rows of CSV files.

    Args:
        spark: As `read_batch` takes it.
        files: The files of a batch, all RFC 4180, in UTF-8, with a header line.
        carried_columns: As `read_batch` takes them.
        epoch_unit: As `read_batch` takes it.

    Returns:
        What `read_batch` gives, in one DataFrame.
    """
    for_each(check_compression, files)
    headers = dict(zip(files, for_each(read_header, files), strict=True))
    found = look_at_lines(spark, headers)
    check_that_all_are_read(files, found, lambda file: headers[file].lines, has_rows)
    lines = layouts(spark, headers, found)
    kinds: dict[tuple[CsvHeader, Layout], dict[BatchFile, CsvLines]] = {}
    for file, header in headers.items():
        kinds.setdefault((header, lines[file].layout), {})[file] = lines[file]
    texts = [
        _texts(_values(spark, alike, header, layout), header, carried_columns)
        for (header, layout), alike in kinds.items()
    ]
    return [_rows(reduce(DataFrame.union, texts), carried_columns, epoch_unit)]


def _values(spark: SparkSession, files: Mapping[BatchFile, CsvLines], header: CsvHeader, layout: Layout) -> DataFrame:
    """The values of all records of files with one header and one layout.

    Returns:
        A column (string) for each one of the header, named as in `_columns`; `__source_file` (string); and `__raw_text`
        (string): the whole record if it is broken, else NULL.
    """
    options = {
        "escape": '"',
        "multiLine": "true",
        "columnNameOfCorruptRecord": _RAW_TEXT,
        "maxColumns": str(max(_LEAST_LIMIT_OF_COLUMNS, *[lines.commas + 2 for lines in files.values()])),
    }
    schema = ", ".join(f"{name} string" for name in (*_columns(header), _RAW_TEXT))
    if layout is Layout.RFC_4180:
        options["lineSep"] = header.line_end
        groups = [whole_files(spark, alike) for alike in grouped(list(files), lambda _: None)]
        read = [reader.options(**options).schema(schema).csv(paths) for reader, paths in groups]
        rows = reduce(DataFrame.union, [some.select("*", F.col("_metadata.file_path").alias(SOURCE)) for some in read])
        if header.line_end == "\n":
            last = _columns(header)[-1]
            # Spark has NULL for a value without text, and did not see that this one has none.
            value = F.nullif(_without_returns(last), F.lit(""))
            rows = rows.withColumns({last: value, _RAW_TEXT: _without_returns(_RAW_TEXT)})
        return rows.where(F.col(_RAW_TEXT).isNull() | has_text(F.col(_RAW_TEXT)))
    lines = text_lines(spark, list(files), header.line_end)
    records = _assembled(lines, header, files) if layout is Layout.OPEN_QUOTES else _lines_as_records(lines)
    parsed = F.from_csv(F.when(~F.col(_BROKEN), F.col(_RECORD)), schema, {**options, "lineSep": "\n"})
    return (
        records.withColumn(_RECORD, _without_returns(_RECORD))
        .where(has_text(F.col(_RECORD)) & (make_valid_utf8(F.col(_RECORD)) != F.lit(header.text)))
        .withColumn(_PARSED, parsed)
        .select(SOURCE, _RECORD, _BROKEN, f"{_PARSED}.*")
        .withColumn(_RAW_TEXT, F.when(F.col(_BROKEN), F.col(_RECORD)).otherwise(F.col(_RAW_TEXT)))
    )


def _without_returns(column: str) -> Column:
    """A text without the carriage returns at its end, which belong to the end of the line."""
    return F.expr(rf"trim(TRAILING '\r' FROM {column})")


def _columns(header: CsvHeader) -> list[str]:
    """Names for the columns of a file: those of the sender may be anything, and even the same one twice."""
    return [f"c{number}" for number in range(len(header.names))]


def _lines_as_records(lines: DataFrame) -> DataFrame:
    return lines.select(SOURCE, F.col(LINE).alias(_RECORD), F.lit(False).alias(_BROKEN))


def _assembled(lines: DataFrame, header: CsvHeader, files: Mapping[BatchFile, CsvLines]) -> DataFrame:
    """The records of files in which some quotes are never closed.

    Args:
        lines: Lines as `text_lines` gives them.
        header: The header of all files.
        files: The files.

    Returns:
        `__source_file`, `__record` (string) and `__broken` (boolean), see `csv_records.assemble`.
    """
    _prepare_workers(lines.sparkSession)
    fields, line_end = len(header.names), header.line_end
    odd_lines = {file.source: file.odd_lines for file in files.values()}

    def assemble(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        lines = (line for batch in batches for line in zip(*(each.to_pylist() for each in batch.columns), strict=True))
        assembled = csv_records.assemble_files(lines, fields, line_end, odd_lines)
        while some := list(islice(assembled, _RECORDS_AT_ONCE)):
            yield pa.record_batch(list(map(list, zip(*some, strict=True))), schema=_ASSEMBLED)

    valid = lines.withColumn(LINE, make_valid_utf8(F.col(LINE)))
    in_order = numbered(valid).repartition(SOURCE).sortWithinPartitions(SOURCE, BLOCK, NUMBER)
    return map_in_arrow(in_order.select(SOURCE, LINE), assemble, _ASSEMBLED)


def _prepare_workers(spark: SparkSession) -> None:
    """Let Python workers run what is in `csv_records`: they need Python and pyarrow, and not this package.

    Over Spark Connect, the server decides which Python they have (the variable PYSPARK_PYTHON of its process).
    """
    cloudpickle.register_pickle_by_value(csv_records)  # type: ignore[no-untyped-call]
    if is_remote(spark):
        return
    context = spark.sparkContext
    # If nobody has said which Python, workers on this machine have the one of this environment, and not of the path.
    if (context.master or "").startswith("local") and context.pythonExec == _ANY_PYTHON:
        context.pythonExec = sys.executable


def _texts(values: DataFrame, header: CsvHeader, carried_columns: Mapping[str, str]) -> DataFrame:
    """What all kinds of files have: the columns that are needed, as text, and NULL if a file does not have them.

    Returns:
        `__source_file` (string), `__broken` (boolean), `__record` (string: the whole record as JSON, or its text if it
        is broken), the four columns and the carried ones (string).
    """
    # As SQL, because a call of Spark for each column of each kind of file takes most of the time if there are many. The
    # names of the sender are no part of it: Spark replaces `${...}` everywhere in SQL, also by the environment.
    columns = dict(zip(reversed(header.names), reversed(_columns(header)), strict=True))
    named = StructType([StructField(name, StringType()) for name in _distinct(header.names)])
    as_json = F.to_json(F.expr(f"struct({', '.join(_columns(header))})").cast(named), AS_JSON)
    return values.select(
        SOURCE,
        F.col(_RAW_TEXT).isNotNull().alias(_BROKEN),
        F.coalesce(make_valid_utf8(F.col(_RAW_TEXT)), as_json).alias(_RECORD),
        *[
            F.expr(columns.get(name, "CAST(NULL AS STRING)")).alias(name)
            for name in (*EVENT_IDENTITY, *carried_columns)
        ],
    )


def _rows(texts: DataFrame, carried_columns: Mapping[str, str], epoch_unit: EpochUnit | None) -> DataFrame:
    return delivered(
        texts.where(~_is_header()),
        carried_columns,
        timestamp=parse_timestamp_or_number(F.col(TIMESTAMP), epoch_unit),
        timestamp_text=F.col(TIMESTAMP),
        record=F.col(_RECORD),
        unreadable=F.col(_BROKEN) | has_marks_of_bytes(),
        source_file=F.col(SOURCE),
    )


def _is_header() -> Column:
    """Whether a record is a header, wherever it stands: some files are put together from several ones (boolean)."""
    # The first name has a byte order mark if one of those files had one.
    names = {name: F.expr(f"trim(LEADING '\ufeff' FROM `{name}`)") for name in EVENT_IDENTITY}
    return reduce(Column.__and__, [found.eqNullSafe(name) for name, found in names.items()])


def _distinct(names: Sequence[str]) -> list[str]:
    """The names of the columns in a record; one that is empty or there before gets a number."""
    found: dict[str, None] = {}
    for number, name in enumerate(names):
        candidates = chain([name] if name else [], (f"{name}_c{more}" for more in count(number)))
        found[next(candidate for candidate in candidates if candidate not in found)] = None
    return list(found)
