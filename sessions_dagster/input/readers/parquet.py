"""Parquet files of a batch."""

from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.errors import AnalysisException, ArithmeticException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import (
    BinaryType,
    BooleanType,
    IntegerType,
    LongType,
    NullType,
    NumericType,
    StringType,
    TimestampNTZType,
    TimestampType,
)

from sessions_dagster.errors import BatchError
from sessions_dagster.input.files import BatchFile
from sessions_dagster.input.formats import EpochUnit
from sessions_dagster.input.readers.numbers import whole_number
from sessions_dagster.input.readers.rows import (
    AS_JSON,
    NESTED_TYPES,
    any_of,
    check_columns,
    delivered,
    grouped,
    is_invalid_utf8,
    unusable,
    whole_files,
)
from sessions_dagster.input.readers.timestamps import from_epoch, parse_timestamp_or_number
from sessions_dagster.model.columns import EVENT_IDENTITY, KEY_COLUMNS, TIMESTAMP


def read_parquet(
    spark: SparkSession, files: Sequence[BatchFile], carried_columns: Mapping[str, str], epoch_unit: EpochUnit | None
) -> list[DataFrame]:
    """The rows of Parquet files, as `read_batch` takes and gives them: one DataFrame per kind of file."""
    # Spark would read all files with the schema of one of them.
    return [_parquet_rows(spark, alike, carried_columns, epoch_unit) for alike in grouped(files, _parquet_columns)]


def _parquet_columns(file: BatchFile) -> frozenset[tuple[object, ...]]:
    """The kind of a file: what its footer says of the columns, except for their order."""
    try:
        with file.open() as opened:
            schema = pq.ParquetFile(opened).schema
            check_columns(file, schema.to_arrow_schema().names)
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise BatchError(f"{file.uri} is not a Parquet file that can be read ({error}). Deliver it again.") from error
    columns = [schema.column(number) for number in range(len(schema))]
    return frozenset(
        (each.path, each.physical_type, str(each.logical_type), each.length, each.max_repetition_level)
        for each in columns
    )


def _parquet_rows(
    spark: SparkSession, files: Sequence[BatchFile], carried_columns: Mapping[str, str], epoch_unit: EpochUnit | None
) -> DataFrame:
    try:
        reader, paths = whole_files(spark, files)
        rows = reader.parquet(*paths)
    except (AnalysisException, ArithmeticException) as error:
        raise BatchError(f"{files[0].uri} has columns that Spark cannot read: {error}") from error
    for name in KEY_COLUMNS:
        if isinstance(rows.schema[name].dataType, (BooleanType, *NESTED_TYPES)):
            raise unusable(files[0], name, rows.schema[name].dataType, "text, or a number that is an id")
    times = {
        name: _from_nanoseconds(name) for name in _nanosecond_columns(files[0], rows, [TIMESTAMP, *carried_columns])
    }
    numbers = {
        name: whole_number(F.col(name), rows.schema[name].dataType)
        for name in (*KEY_COLUMNS, *carried_columns)
        if name in rows.columns and name not in times and isinstance(rows.schema[name].dataType, NumericType)
    }
    timestamp, text = _timestamp_and_text(files[0], rows, times, epoch_unit)
    # The text of Parquet is bytes, and nobody checks them on the way. Other readers could not read a table with bytes
    # that are not UTF-8.
    texts = [name for name in EVENT_IDENTITY if isinstance(rows.schema[name].dataType, StringType | BinaryType)]
    return delivered(
        rows,
        carried_columns,
        converted=times,
        whole_numbers=numbers,
        timestamp=timestamp,
        timestamp_text=text,
        record=F.make_valid_utf8(F.to_json(F.struct("*"), AS_JSON)),
        source_file=F.col("_metadata.file_path"),
        unreadable=any_of([F.lit(False), *map(is_invalid_utf8, texts)]),
    )


def _timestamp_and_text(
    file: BatchFile, rows: DataFrame, times: Mapping[str, Column], epoch_unit: EpochUnit | None
) -> tuple[Column, Column]:
    column, type_ = F.col(TIMESTAMP), rows.schema[TIMESTAMP].dataType
    match type_:
        case _ if TIMESTAMP in times:
            timestamp = times[TIMESTAMP]
        case TimestampType() | TimestampNTZType():
            timestamp = column.cast(TimestampType())
        case StringType():
            return parse_timestamp_or_number(column, epoch_unit), column
        case NullType():
            timestamp = F.lit(None).cast(TimestampType())
        case IntegerType() if pa.types.is_null(_arrow_types(file)[TIMESTAMP]):
            timestamp = F.lit(None).cast(TimestampType())
        case NumericType() if epoch_unit is not None:
            return from_epoch(whole_number(column, type_), epoch_unit), column.cast(StringType())
        case NumericType():
            raise unusable(
                file,
                TIMESTAMP,
                type_,
                "a timestamp or text that holds one, unless the setting epoch_unit says what it counts",
            )
        case _:
            raise unusable(file, TIMESTAMP, type_, "a timestamp, or text that holds one")
    return timestamp, timestamp.cast(StringType())


def _nanosecond_columns(file: BatchFile, rows: DataFrame, names: Iterable[str]) -> list[str]:
    """Those of some columns that are timestamps in nanoseconds, which Spark reads as plain numbers."""
    numbers = [name for name in names if name in rows.columns and isinstance(rows.schema[name].dataType, LongType)]
    return [name for name in numbers if pa.types.is_timestamp(_arrow_types(file)[name])]


def _from_nanoseconds(name: str) -> Column:
    # Division rounds towards zero, which before 1970 would be upwards.
    return F.timestamp_micros(F.expr(f"`{name}` div 1000 - int(`{name}` % 1000 < 0)"))


def _arrow_types(file: BatchFile) -> dict[str, pa.DataType]:
    """What the footer says of the columns.

    Of those that Spark reads as plain numbers it tells apart timestamps in nanoseconds, and columns without any value
    as other writers than Spark write them.
    """
    with file.open() as opened:
        schema = pq.ParquetFile(opened).schema.to_arrow_schema()
    return dict(zip(schema.names, schema.types, strict=True))
