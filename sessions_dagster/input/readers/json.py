"""JSON files of a batch: one object per line."""

import json
from collections.abc import Mapping, Sequence
from typing import Final

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, StringType, StructField, StructType

from sessions_dagster.errors import BatchError
from sessions_dagster.input.files import BatchFile
from sessions_dagster.input.formats import EpochUnit
from sessions_dagster.input.readers.numbers import text_or_whole_number
from sessions_dagster.input.readers.rows import (
    WHOLE_FILES,
    check_compression,
    check_that_some_are_read,
    delivered,
    for_each,
    grouped,
    has_marks_of_bytes,
)
from sessions_dagster.input.readers.timestamps import parse_timestamp_or_number
from sessions_dagster.model.columns import EVENT_IDENTITY, KEY_COLUMNS, TIMESTAMP

_HEAD_BYTES: Final = 64 * 1024
_LINE: Final = "__line"
_OBJECTS: Final = "__objects"
_OBJECT: Final = "__object"


def read_json(
    spark: SparkSession, files: Sequence[BatchFile], carried_columns: Mapping[str, str], epoch_unit: EpochUnit | None
) -> list[DataFrame]:
    """The rows of JSON files, as `read_batch` takes and gives them: one DataFrame per kind of file.

    The files have one object per line, in UTF-8.
    """
    check_compression(files)
    for_each(_check_json_lines, files)
    return [_json_rows(spark, alike, carried_columns, epoch_unit) for alike in grouped(files, lambda file: file.codec)]


def _json_rows(
    spark: SparkSession, files: Sequence[BatchFile], carried_columns: Mapping[str, str], epoch_unit: EpochUnit | None
) -> DataFrame:
    lines = spark.read.options(**WHOLE_FILES).text([file.spark_path for file in files])
    # A carried column may have any name, so those of the text reader and of this function get names of their own.
    lines = lines.where(F.col("value").rlike(r"\S")).select(F.col("value").alias(_LINE), "_metadata")
    check_that_some_are_read(lines, files, _has_json_lines)
    # As an array of one object: after an object Spark ignores the rest of a line, even if that is another object.
    schema = ArrayType(StructType([StructField(name, StringType()) for name in (*EVENT_IDENTITY, *carried_columns)]))
    objects = lines.withColumn(_OBJECTS, F.from_json(F.concat(F.lit("["), F.col(_LINE), F.lit("]")), schema))
    rows = objects.withColumn(_OBJECT, F.get(_OBJECTS, F.lit(0))).select("*", f"{_OBJECT}.*")
    is_one_object = (F.size(_OBJECTS) == 1) & F.col(_OBJECT).isNotNull()
    broken = ~F.coalesce(is_one_object, F.lit(False)) | has_marks_of_bytes()
    return delivered(
        rows,
        carried_columns,
        timestamp=parse_timestamp_or_number(F.col(TIMESTAMP), epoch_unit),
        timestamp_text=F.col(TIMESTAMP),
        record=F.make_valid_utf8(_LINE),
        unreadable=broken,
        whole_numbers={
            name: text_or_whole_number(F.col(name), F.col(_LINE), name) for name in (*KEY_COLUMNS, *carried_columns)
        },
    )


def _check_json_lines(file: BatchFile) -> None:
    """Refuse a file that has lines, but no line with an object. One broken line would be the fault of that row only."""
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
