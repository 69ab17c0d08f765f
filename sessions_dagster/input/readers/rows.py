"""What all readers have in common: the columns they give, and what they check of files and columns.

A reader gives one row per record, with the columns of `delivered`. Only whether a record can be read is judged here.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import reduce
from typing import Final, TypeVar

from pyspark.sql import Column, DataFrame, DataFrameReader, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    BooleanType,
    DataType,
    DateType,
    IntegerType,
    LongType,
    MapType,
    NumericType,
    StringType,
    StructType,
    TimestampNTZType,
    TimestampType,
)

from sessions_dagster.errors import BatchError, StorageError, is_retryable, is_storage_failure
from sessions_dagster.input.files import COMPRESSIONS, BatchFile
from sessions_dagster.input.readers.timestamps import parse_timestamp
from sessions_dagster.model.columns import EVENT_IDENTITY, KEY_COLUMNS, RECORD, SOURCE_FILE, TIMESTAMP
from sessions_dagster.model.schemas import CARRIED_TYPES
from sessions_dagster.spark.compat import VariantType, is_valid_utf8, make_valid_utf8, try_cast
from sessions_dagster.spark.failures import SPARK_ERRORS, last_cause, unread_file
from sessions_dagster.storage.filesystem import PATHS_ARE_PATTERNS, is_local, location_of

TIMESTAMP_TEXT: Final = "__timestamp_text"
"""The timestamp as it was delivered, as text."""

UNREADABLE: Final = "__unreadable"
"""Whether a record is broken."""

UNUSABLE_ID: Final = "__unusable_id"
"""Whether one of the ids is a value that cannot be an id."""

_WHOLE_FILES: Final = {
    # A file that cannot be read is an error, even if the settings of a cluster make Spark pass over it in silence.
    "ignoreCorruptFiles": "false",
    "ignoreMissingFiles": "false",
}

_LOCAL_FILES: Final = {
    # Hadoop's usual file system for local files looks for a checksum beside each of them, and cannot build the name of
    # that one if there is a colon in it.
    "fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
    "fs.file.impl.disable.cache": "true",
}

AS_JSON: Final = {
    "ignoreNullFields": "false",
    "timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX",
    "timestampNTZFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSS",
}
"""Nothing is left out of a record: by default Spark drops NULLs and everything below a millisecond."""

NOT_UTF8: Final = "\ufffd"
"""The mark that decoding puts in the place of bytes that are not UTF-8."""

NESTED_TYPES: Final = (ArrayType, MapType, StructType, VariantType)

_TIMES: Final = (TimestampType, TimestampNTZType, DateType)
_NONE: Final[Mapping[str, Column]] = {}

_Found = TypeVar("_Found")


def delivered(
    rows: DataFrame,
    carried_columns: Mapping[str, str],
    *,
    timestamp: Column,
    timestamp_text: Column,
    record: Column,
    unreadable: Column,
    source_file: Column,
    whole_numbers: Mapping[str, Column] = _NONE,
) -> DataFrame:
    """The columns that every reader gives.

    Args:
        rows: What Spark reads.
        carried_columns: The type of each carried column (see `model.schemas.CARRIED_TYPES`), by its name. If the rows
            have no such column, or a value cannot be cast, it is NULL.
        timestamp: The time of the event (timestamp); NULL if there is none that can be read.
        timestamp_text: The same as it was delivered (string).
        record: The whole row (string).
        unreadable: Whether the record is broken (boolean).
        source_file: The URI of the file (string).
        whole_numbers: The columns that are numbers or may have some, as `numbers.whole_number` or
            `numbers.text_or_whole_number` gives them, by the name of the column.

    Returns:
        `user_id, event_id, product_code` (string), `timestamp` (timestamp), `__timestamp_text`, `record` (string),
        `__unreadable`, `__unusable_id` (boolean), `source_file` (string: a URI), and the carried columns. Whole numbers
        among the ids are written as digits; what cannot be an id is kept as Spark writes it, and is marked.
    """
    ids = {name: digits for name, digits in whole_numbers.items() if name in KEY_COLUMNS}
    return rows.select(
        *[_as_text(F.col(name), whole_numbers.get(name)).alias(name) for name in KEY_COLUMNS],
        timestamp.alias(TIMESTAMP),
        timestamp_text.alias(TIMESTAMP_TEXT),
        record.alias(RECORD),
        unreadable.alias(UNREADABLE),
        any_of([F.lit(False), *[_is_unusable(name, digits) for name, digits in ids.items()]]).alias(UNUSABLE_ID),
        source_file.alias(SOURCE_FILE),
        *[
            _carried(rows, name, CARRIED_TYPES[type_], whole_numbers.get(name)).alias(name)
            for name, type_ in carried_columns.items()
        ],
    )


def _as_text(value: Column, whole_number: Column | None) -> Column:
    text = value.cast(StringType())
    return text if whole_number is None else F.coalesce(whole_number, text)


def _is_unusable(name: str, whole_number: Column) -> Column:
    return F.col(name).isNotNull() & whole_number.isNull()


def _carried(rows: DataFrame, name: str, wanted: DataType, whole_number: Column | None) -> Column:
    """The value of a carried column: of the wanted type, or NULL."""
    if name not in rows.columns:
        return F.lit(None).cast(wanted)
    value, found = F.col(name), rows.schema[name].dataType
    if isinstance(wanted, StringType):
        text = F.to_json(value, AS_JSON) if isinstance(found, NESTED_TYPES) else _as_text(value, whole_number)
        return make_valid_utf8(text)
    if isinstance(wanted, TimestampType) and isinstance(found, StringType):
        return parse_timestamp(value)
    if isinstance(wanted, IntegerType | LongType):
        value = value if whole_number is None else whole_number
        if isinstance(found, StringType):
            # As other tools write whole numbers if one of the column is missing.
            value = F.regexp_replace(value, r"\.0++(?=\s*+\z)", "")
    # A number is not taken for a time by a guess at its unit, nor a time for a number.
    castable = _TIMES if isinstance(wanted, TimestampType | DateType) else (BooleanType, NumericType)
    return try_cast(value, wanted) if isinstance(found, (StringType, *castable)) else F.lit(None).cast(wanted)


def _nobody_knows() -> str | None:
    return None


@contextmanager
def broken_files_named(find_broken: Callable[[], str | None] = _nobody_knows) -> Iterator[None]:
    """Turns Spark's failure to read a file, which shows only when its rows are read, into an error of ours.

    Args:
        find_broken: Finds the location of a file that cannot be read, None if there is none. It is asked if a task of
            Spark fails without naming a file: the readers decode some values only when they are used, and then nobody
            knows any more where these are from.

    Raises:
        BatchError: If Spark failed because it could not read a file.
        StorageError: If it could not, and the storage is to blame.
    """
    try:
        yield
    except SPARK_ERRORS as error:
        text = str(error)
        named = unread_file(error)
        file = location_of(named) if named else find_broken() if _is_failed_task(error) else None
        if file is None:
            raise
        causes = re.findall(r"Caused by: (.+)", text)
        if any(map(is_storage_failure, causes)):
            raise StorageError(f"{file} cannot be read now ({last_cause(error)}).") from error
        remedy = (
            "Its compressed data is damaged or incomplete. Compress the file and deliver it again."
            if file.endswith(COMPRESSIONS)
            else "Deliver it again; if it is whole, write it in another way, for example with another compression."
        )
        raise BatchError(f"{file} cannot be read to its end ({last_cause(error)}). {remedy}") from error


def _is_failed_task(error: Exception) -> bool:
    return "stage failure" in str(error) and not is_retryable(error)


def has_marks_of_bytes() -> Column:
    """Whether decoding has put a mark in the place of bytes that are not UTF-8 (boolean): users could become one."""
    return any_of([F.coalesce(F.col(name).contains(NOT_UTF8), F.lit(False)) for name in EVENT_IDENTITY])


def is_invalid_utf8(column: str) -> Column:
    """Whether a column (string or binary) has bytes that are not UTF-8 (boolean)."""
    return F.coalesce(~is_valid_utf8(F.col(column).cast(StringType())), F.lit(False))


def any_of(conditions: Sequence[Column]) -> Column:
    """Whether one of some conditions (boolean) holds."""
    return reduce(Column.__or__, conditions)


def grouped(files: Sequence[BatchFile], kind_of: Callable[[BatchFile], Hashable]) -> list[list[BatchFile]]:
    """The files grouped by their kind, so that `whole_files` can read each group at once.

    Args:
        files: The files of a batch.
        kind_of: The kind of a file.
    """
    groups: defaultdict[Hashable, list[BatchFile]] = defaultdict(list)
    for file, kind in zip(files, for_each(kind_of, files), strict=True):
        groups[kind, file.uri if file.pattern is None else None].append(file)
    return list(groups.values())


def whole_files(spark: SparkSession, files: Sequence[BatchFile]) -> tuple[DataFrameReader, list[str]]:
    """A reader that reads files whole or fails.

    Args:
        spark: The session.
        files: One file, or several that all have a pattern.

    Returns:
        The reader, and the paths of the files for it.
    """
    reader = spark.read.options(**_WHOLE_FILES)
    if is_local(location_of(files[0].uri)):
        # Not for those of a store: its connector keeps the options that it is first used with, and could write no more.
        reader = reader.options(**_LOCAL_FILES)
    if len(files) == 1:
        # If it is told of several files that none of them is a pattern, Spark reads them several times when it would
        # have taken several of them for one.
        return reader.option(PATHS_ARE_PATTERNS, "false"), [files[0].uri]
    return reader, [file.pattern for file in files if file.pattern is not None]


def for_each(look: Callable[[BatchFile], _Found], files: Sequence[BatchFile]) -> list[_Found]:
    """The result of a look at each file. Many files are looked at once, because each may be a request to a store."""
    with ThreadPoolExecutor() as threads:
        return list(threads.map(look, files))


def check_required_columns(file: BatchFile, names: Sequence[str]) -> None:
    """Refuse a file that lacks a required column.

    Args:
        file: The file.
        names: The names of its columns.

    Raises:
        BatchError: If it does.
    """
    missing = [name for name in EVENT_IDENTITY if name not in names]
    if missing:
        raise BatchError(
            f"{file.uri} lacks the required column {', '.join(missing)}; it has {', '.join(names) or 'none at all'}. "
            "Names are taken exactly as written. Deliver the file with these columns."
        )


def unusable(file: BatchFile, column: str, found: str, wanted: str) -> BatchError:
    """The error of a column whose type cannot be used."""
    return BatchError(
        f"{file.uri} has {found} in the column {column}, which must be {wanted}. Deliver the file with another type."
    )
