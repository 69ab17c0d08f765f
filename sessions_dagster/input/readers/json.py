"""JSON files of a batch: one object per line."""

import codecs
import re
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
    FileLines,
    cannot_be_read,
    check_compression,
    check_that_all_are_read,
    has_text,
    lines_by_file,
    text_lines,
)
from sessions_dagster.input.readers.timestamps import parse_timestamp_or_number
from sessions_dagster.model.columns import EVENT_IDENTITY, KEY_COLUMNS, TIMESTAMP
from sessions_dagster.spark.compat import make_valid_utf8

_HEAD_BYTES: Final = 64 * 1024

_OTHER_FORMATS: Final = re.compile(rb"PAR1|\xff\xfe|\xfe\xff|\0\0\xfe\xff|[{\[]\0.\0|(?:\0\0)?\0[{\[]\0", re.DOTALL)
"""What Parquet begins with, and text in UTF-16 or UTF-32, with a byte order mark or without."""

_ARRAY: Final = re.compile(rb"\[\s*(?:\Z|\{(?!.*\]\s*\Z))", re.DOTALL)
"""The first line of an array that goes on in the next line."""

_BEGUN: Final = "begun_objects"
_WHOLE: Final = "whole_objects"
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
    arrays = dict(zip(files, for_each(_begins_an_array, files), strict=True))
    line = F.expr(f"trim(BOTH ' \t' FROM {LINE})")
    # A brace alone begins an object that goes on in the next line.
    is_begun = line.startswith("{") & (line != "{")
    numbers = {_BEGUN: F.count_if(is_begun), _WHOLE: F.count_if(is_begun & line.endswith("}"))}
    found = lines_by_file(_lines(spark, files), numbers)
    check_that_all_are_read(files, found, lambda _: 0, _has_json_lines)
    for file in files:
        if file.uri in found:
            _check_objects(file, found[file.uri], begins_an_array=arrays[file])
    return [_json_rows(_lines(spark, files), carried_columns, epoch_unit)]


def _lines(spark: SparkSession, files: Sequence[BatchFile]) -> DataFrame:
    # Files that were put together from several ones have byte order marks in the middle.
    return text_lines(spark, files).withColumn(LINE, F.expr(f"trim(LEADING '\ufeff' FROM {LINE})"))


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
        record=make_valid_utf8(F.col(LINE)),
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


def _begins_an_array(file: BatchFile) -> bool:
    """Whether the first line of a file is the beginning of an array over several lines.

    Raises:
        BatchError: If the file cannot be read, is Parquet, or is text in UTF-16 or UTF-32.
        StorageError: If the storage fails.
    """
    try:
        with file.open_stream() as opened:
            head = opened.read(_HEAD_BYTES)
    except (OSError, EOFError) as error:
        raise cannot_be_read(file, error) from error
    if _OTHER_FORMATS.match(head):
        raise _no_objects(file)
    first = next(iter(head.removeprefix(codecs.BOM_UTF8).split(None, 1)), b"")
    line = head[head.index(first) :].splitlines()[0] if first else b""
    return _ARRAY.match(line) is not None


def _check_objects(file: BatchFile, lines: FileLines, *, begins_an_array: bool) -> None:
    """Refuse a file that has lines, but no objects. Broken lines are the fault of these rows only."""
    # The last line of an array may be an object like any other.
    is_array = begins_an_array and lines.numbers[_WHOLE] <= 1
    # A long line counts as one with text, whatever is in it.
    if lines.lines and (is_array or not lines.numbers[_BEGUN]) and _has_json_lines(file):
        raise _no_objects(file)


def _no_objects(file: BatchFile) -> BatchError:
    return BatchError(f"{file.uri} is not a file of JSON objects, one per line. Check the input format, or redeliver.")


def _has_json_lines(file: BatchFile) -> bool:
    try:
        with file.open_stream() as opened:
            start = opened.read(_HEAD_BYTES).removeprefix(codecs.BOM_UTF8)
            return bool(start.strip()) or any(part.strip() for part in iter(lambda: opened.read(_HEAD_BYTES), b""))
    except (OSError, EOFError):
        return True
