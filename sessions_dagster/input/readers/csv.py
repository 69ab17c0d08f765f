"""CSV files of a batch."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, count, islice
from typing import Final

import pyarrow as pa
from pyspark import cloudpickle
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.functions import arrow_udf

from sessions_dagster.input.files import BatchFile
from sessions_dagster.input.formats import EpochUnit
from sessions_dagster.input.readers import csv_records
from sessions_dagster.input.readers.csv_header import CsvHeader, has_rows, read_header
from sessions_dagster.input.readers.rows import AS_JSON, delivered, for_each, has_marks_of_bytes
from sessions_dagster.input.readers.text import (
    BLOCK,
    LINE,
    SOURCE,
    FileLines,
    check_compression,
    check_that_all_are_read,
    has_text,
    lines_by_file,
    text_lines,
)
from sessions_dagster.input.readers.timestamps import parse_timestamp_or_number
from sessions_dagster.model.columns import EVENT_IDENTITY, TIMESTAMP

_BROKEN: Final = "__broken"
_NUMBER: Final = "__number"
_RECORD: Final = "__record"
_VALUES: Final = "__values"
_RAW_TEXT: Final = "__raw_text"

_ODD_LINES: Final = "odd_lines"
_COMMAS: Final = "commas"

_LEAST_LIMIT_OF_COLUMNS: Final = 20_480
"""Spark's own limit. It is raised for lines with more commas: one of them would be an error of the whole batch."""

_LINES_AT_ONCE: Final = 10_000
_ASSEMBLED: Final = pa.struct([(_RECORD, pa.string()), (_BROKEN, pa.bool_())])


def read_csv(
    spark: SparkSession, files: Sequence[BatchFile], carried_columns: Mapping[str, str], epoch_unit: EpochUnit | None
) -> list[DataFrame]:
    """The rows of CSV files, as `read_batch` takes and gives them: one DataFrame per kind of file.

    The files are RFC 4180, in UTF-8, with a header line.
    """
    for_each(check_compression, files)
    headers = dict(zip(files, for_each(read_header, files), strict=True))
    found = _look_at_lines(spark, headers)
    check_that_all_are_read(files, found, lambda file: headers[file].lines, has_rows)
    kinds: dict[tuple[CsvHeader, bool], list[BatchFile]] = {}
    for file, header in headers.items():
        kinds.setdefault((header, _odd_lines(file, found) > 0), []).append(file)
    most_commas = max((lines.numbers[_COMMAS] for lines in found.values()), default=0)
    frames = []
    for (header, is_odd), alike in kinds.items():
        lines = text_lines(spark, alike, header.line_end)
        odd_lines = {found[file.uri].source: _odd_lines(file, found) for file in alike} if is_odd else {}
        records = _assembled(lines, header, odd_lines) if is_odd else _lines_as_records(lines)
        frames.append(_csv_rows(_without_header(records, header), header, most_commas, carried_columns, epoch_unit))
    return frames


def _look_at_lines(spark: SparkSession, headers: Mapping[BatchFile, CsvHeader]) -> dict[str, FileLines]:
    """What has to be known of the lines of each file before its records can be found."""
    numbers = {
        _ODD_LINES: F.count_if(F.col(LINE).contains('"') & (_count_of('"') % 2 == 1)),
        _COMMAS: F.coalesce(F.max(F.when(F.length(LINE) > _LEAST_LIMIT_OF_COLUMNS, _count_of(","))), F.lit(0)),
    }
    found: dict[str, FileLines] = {}
    for line_end in {header.line_end for header in headers.values()}:
        files = [file for file, header in headers.items() if header.text and header.line_end == line_end]
        if files:
            found |= lines_by_file(text_lines(spark, files, line_end), numbers)
    return found


def _odd_lines(file: BatchFile, found: Mapping[str, FileLines]) -> int:
    return found[file.uri].numbers[_ODD_LINES] if file.uri in found else 0


def _count_of(mark: str) -> Column:
    """How often a mark occurs in a line."""
    return F.length(LINE) - F.length(F.replace(F.col(LINE), F.lit(mark)))


def _lines_as_records(lines: DataFrame) -> DataFrame:
    return lines.select(SOURCE, F.col(LINE).alias(_RECORD), F.lit(False).alias(_BROKEN))


def _assembled(lines: DataFrame, header: CsvHeader, odd_lines: Mapping[str, int]) -> DataFrame:
    """The records of files that have lines with an odd number of quotes.

    Args:
        lines: Lines as `text_lines` gives them.
        header: The header of all these files.
        odd_lines: How many such lines each file has.

    Returns:
        `__source_file`, `__record` (string) and `__broken` (boolean), see `csv_records.assemble`.
    """
    _prepare_workers(lines.sparkSession)
    fields, line_end = len(header.names), header.line_end

    def assemble(batches: Iterator[tuple[pa.Array, pa.Array]]) -> Iterator[pa.Array]:
        lines = (
            line for sources, texts in batches for line in zip(sources.to_pylist(), texts.to_pylist(), strict=True)
        )
        assembled = csv_records.assemble_files(lines, fields, line_end, odd_lines)
        while some := list(islice(assembled, _LINES_AT_ONCE)):
            yield pa.array([each and {_RECORD: each[0], _BROKEN: each[1]} for each in some], _ASSEMBLED)

    # A large file is read in several tasks. Within each of them, numbers follow the order of the lines.
    numbered = lines.select(
        SOURCE, F.make_valid_utf8(LINE).alias(LINE), BLOCK, F.monotonically_increasing_id().alias(_NUMBER)
    )
    in_order = numbered.repartition(SOURCE).sortWithinPartitions(SOURCE, BLOCK, _NUMBER)
    type_ = f"{_RECORD} string, {_BROKEN} boolean"
    # It depends on the order, so nothing may move it.
    record = arrow_udf(assemble, type_).asNondeterministic()  # type: ignore[call-overload]
    return (
        in_order.select(SOURCE, record(SOURCE, LINE).alias(_VALUES))
        .where(F.col(_VALUES).isNotNull())
        .select(SOURCE, f"{_VALUES}.*")
    )


def _prepare_workers(spark: SparkSession) -> None:
    """Let Python workers run what is in `csv_records`: they need Python and pyarrow, and not this package."""
    cloudpickle.register_pickle_by_value(csv_records)  # type: ignore[no-untyped-call]
    # On this machine they would be the first Python of the path, and not that of this environment.
    if (spark.sparkContext.master or "").startswith("local") and "PYSPARK_PYTHON" not in os.environ:
        spark.sparkContext.pythonExec = sys.executable


def _without_header(records: DataFrame, header: CsvHeader) -> DataFrame:
    """Records without the header, wherever it stands: some files are put together from several ones."""
    trimmed = records.withColumn(_RECORD, F.expr(rf"trim(TRAILING '\r' FROM {_RECORD})"))
    return trimmed.where(has_text(F.col(_RECORD)) & (F.col(_RECORD) != header.text))


def _csv_rows(
    records: DataFrame,
    header: CsvHeader,
    most_commas: int,
    carried_columns: Mapping[str, str],
    epoch_unit: EpochUnit | None,
) -> DataFrame:
    # The names of the sender may be anything, and even the same one twice.
    columns = [f"c{number}" for number in range(len(header.names))]
    values = F.from_csv(
        F.when(~F.col(_BROKEN), F.col(_RECORD)),
        ", ".join(f"{name} string" for name in (*columns, _RAW_TEXT)),
        {
            "escape": '"',
            "multiLine": "true",
            "lineSep": "\n",
            "columnNameOfCorruptRecord": _RAW_TEXT,
            "maxColumns": str(max(_LEAST_LIMIT_OF_COLUMNS, most_commas + 2)),
        },
    )
    parsed = records.withColumn(_VALUES, values).select(SOURCE, _RECORD, _BROKEN, f"{_VALUES}.*")
    is_broken = F.col(_BROKEN) | F.col(_RAW_TEXT).isNotNull()
    named = [F.col(column).alias(name) for column, name in zip(columns, _distinct(header.names), strict=True)]
    wanted = [name for name in (*EVENT_IDENTITY, *carried_columns) if name in header.names]
    rows = parsed.select(
        SOURCE,
        is_broken.alias(_BROKEN),
        F.when(is_broken, F.make_valid_utf8(_RECORD)).otherwise(F.to_json(F.struct(*named), AS_JSON)).alias(_RECORD),
        *[F.col(columns[header.names.index(name)]).alias(name) for name in wanted],
    )
    return delivered(
        rows,
        carried_columns,
        timestamp=parse_timestamp_or_number(F.col(TIMESTAMP), epoch_unit),
        timestamp_text=F.col(TIMESTAMP),
        record=F.col(_RECORD),
        unreadable=F.col(_BROKEN) | has_marks_of_bytes(),
        source_file=F.col(SOURCE),
    )


def _distinct(names: Sequence[str]) -> list[str]:
    """The names of the columns in a record; one that is empty or there before gets a number."""
    found: dict[str, None] = {}
    for number, name in enumerate(names):
        candidates = chain([name] if name else [], (f"{name}_c{more}" for more in count(number)))
        found[next(candidate for candidate in candidates if candidate not in found)] = None
    return list(found)
