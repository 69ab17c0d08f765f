"""JSON files of a batch: one object per line."""

import codecs
import json
from collections.abc import Mapping, Sequence
from typing import Final

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, StringType, StructField, StructType

from sessions_dagster.errors import BatchError
from sessions_dagster.input.files import BatchFile
from sessions_dagster.input.formats import EpochUnit
from sessions_dagster.input.readers.numbers import text_or_whole_number
from sessions_dagster.input.readers.rows import delivered, for_each, has_marks_of_bytes
from sessions_dagster.input.readers.text import (
    LINE,
    SOURCE,
    check_compression,
    check_that_all_are_read,
    has_text,
    lines_by_file,
    text_lines,
)
from sessions_dagster.input.readers.timestamps import parse_timestamp_or_number
from sessions_dagster.model.columns import EVENT_IDENTITY, KEY_COLUMNS, TIMESTAMP

_HEAD_BYTES: Final = 64 * 1024
_OBJECTS: Final = "__objects"
_OBJECT: Final = "__object"

_ANY_LENGTH: Final = {"maxStringLen": str(2**31 - 1), "maxNumLen": str(2**31 - 1)}
"""What a sender has beside the required columns may be of any length; only its nesting has Spark's limit."""

_HIGH: Final = r"\\u[dD][89abAB][0-9a-fA-F]{2}"
_LOW: Final = r"\\u[dD][c-fC-F][0-9a-fA-F]{2}"


def read_json(
    spark: SparkSession, files: Sequence[BatchFile], carried_columns: Mapping[str, str], epoch_unit: EpochUnit | None
) -> list[DataFrame]:
    """The rows of JSON files.

    Args:
        spark: As `read_batch` takes it.
        files: The files of a batch, all in UTF-8, with one object per line.
        carried_columns: As `read_batch` takes them.
        epoch_unit: As `read_batch` takes it.

    Returns:
        What `read_batch` gives, in one DataFrame per kind of file.
    """
    for_each(check_compression, files)
    for_each(_check_json_lines, files)
    found = lines_by_file(text_lines(spark, files), {})
    check_that_all_are_read(files, found, lambda _: 0, _has_json_lines)
    return [_json_rows(text_lines(spark, files), carried_columns, epoch_unit)]


def _json_rows(lines: DataFrame, carried_columns: Mapping[str, str], epoch_unit: EpochUnit | None) -> DataFrame:
    # As an array of one object: after an object Spark ignores the rest of a line, even if that is another object.
    schema = ArrayType(StructType([StructField(name, StringType()) for name in (*EVENT_IDENTITY, *carried_columns)]))
    as_array = F.concat(F.lit("["), F.col(LINE), F.lit("]"))
    objects = lines.where(has_text(F.col(LINE))).withColumn(_OBJECTS, F.from_json(as_array, schema, _ANY_LENGTH))
    rows = objects.withColumn(_OBJECT, F.get(_OBJECTS, F.lit(0))).select("*", f"{_OBJECT}.*")
    is_one_object = (F.size(_OBJECTS) == 1) & F.col(_OBJECT).isNotNull()
    broken = ~F.coalesce(is_one_object, F.lit(False)) | has_marks_of_bytes() | _has_half_a_character(F.col(LINE))
    return delivered(
        rows,
        carried_columns,
        timestamp=parse_timestamp_or_number(F.col(TIMESTAMP), epoch_unit),
        timestamp_text=F.col(TIMESTAMP),
        record=F.make_valid_utf8(LINE),
        unreadable=broken,
        source_file=F.col(SOURCE),
        whole_numbers={
            name: text_or_whole_number(F.col(name), F.col(LINE), name, _ANY_LENGTH)
            for name in (*KEY_COLUMNS, *carried_columns)
        },
    )


def _has_half_a_character(line: Column) -> Column:
    r"""Whether a line has half of a surrogate pair, such as `\ud83d` (boolean). Spark reads all of them as `?`."""
    # What follows an escaped backslash is no escape.
    escapes = F.replace(line, F.lit(r"\\"), F.lit(" "))
    halves = F.regexp_replace(escapes, _HIGH + _LOW, " ").rlike(f"{_HIGH}|{_LOW}")
    has_escapes = line.contains(r"\ud") | line.contains(r"\uD")
    return F.when(has_escapes, halves).otherwise(F.lit(False))


def _check_json_lines(file: BatchFile) -> None:
    """Refuse a file that has lines, but no line with an object. One broken line would be the fault of that row only."""
    try:
        with file.open_stream() as opened:
            head = opened.read(_HEAD_BYTES)
    except (OSError, EOFError) as error:
        raise BatchError(f"{file.uri} cannot be read ({error}). Deliver it again.") from error
    lines = head.removeprefix(codecs.BOM_UTF8).splitlines()
    whole = [line for line in (lines[:-1] if len(head) == _HEAD_BYTES else lines) if line.strip()]
    if whole and not any(map(_is_json_object, whole)):
        raise BatchError(
            f"{file.uri} is not a file of JSON objects, one per line. Check the input format, or redeliver."
        )


def _has_json_lines(file: BatchFile) -> bool:
    try:
        with file.open_stream() as opened:
            start = opened.read(_HEAD_BYTES).removeprefix(codecs.BOM_UTF8)
            return bool(start.strip()) or any(part.strip() for part in iter(lambda: opened.read(_HEAD_BYTES), b""))
    except (OSError, EOFError):
        return True


def _is_json_object(line: bytes) -> bool:
    text = line.decode(errors="replace")
    try:
        # A number may have more digits than Python is willing to read.
        return isinstance(json.loads(text, parse_int=str), dict)
    except ValueError:
        return False
    except RecursionError:
        return text.lstrip().startswith("{")
