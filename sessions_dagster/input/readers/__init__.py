"""Reading a batch: the rows of all its files as delivered, whatever their format, columns and types.

Each format has a module with a function that is listed in `_READERS`. The only judgement made here is whether a file,
or a record of it, can be read; `pipeline.classify` tells good rows from bad.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Final

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from sessions_dagster.input.files import BatchFile
from sessions_dagster.input.formats import EpochUnit, InputFormat
from sessions_dagster.input.readers.csv import read_csv
from sessions_dagster.input.readers.json import read_json
from sessions_dagster.input.readers.parquet import read_parquet
from sessions_dagster.model.columns import SOURCE_FILE
from sessions_dagster.spark.failures import SPARK_ERRORS, is_gone

_Reader = Callable[[SparkSession, Sequence[BatchFile], Mapping[str, str], EpochUnit | None], list[DataFrame]]

_READERS: Final[Mapping[InputFormat, _Reader]] = {"parquet": read_parquet, "csv": read_csv, "json": read_json}


def read_batch(
    spark: SparkSession,
    files: Sequence[BatchFile],
    input_format: InputFormat,
    carried_columns: Mapping[str, str],
    epoch_unit: EpochUnit | None = None,
) -> DataFrame:
    """The rows of a batch as delivered. Only what can be said without reading all of them is checked at once.

    Args:
        spark: A session in UTC. Names that differ in upper and lower case only need `spark.sql.caseSensitive`.
        files: The files of the batch; at least one. They may differ in their columns and types.
        input_format: `parquet`; `csv` (RFC 4180, UTF-8, with a header line); or `json` (one object per line, UTF-8).
        carried_columns: The type of each carried column, by its name.
        epoch_unit: What a `timestamp` counts that is a number since 1970; None: a number is not a timestamp.

    Returns:
        One row per record, duplicates included: `user_id`, `event_id`, `product_code` (string, nullable);
        `timestamp` (timestamp, UTC; NULL if there is none that can be read); `__timestamp_text` (string: the timestamp
        as delivered); `record` (string: the whole row as JSON, or its text if it cannot be read); `__unreadable`
        (boolean: the record is broken, or the text of one of its four columns is not UTF-8, and then it need not be
        UTF-8 here either); `__unusable_id` (boolean: one of the ids is a value that cannot be an id); `source_file`
        (string: the path of the file, or its URI in an object store); and the carried columns, NULL if they are not
        delivered.

    Raises:
        BatchError: If a file is not of the format, is compressed in a way that cannot be read, lacks a required column,
            has one twice, or has one of a type that cannot be used.
        StorageError: If the storage fails.
    """
    rows = reduce(DataFrame.union, _READERS[input_format](spark, files, carried_columns, epoch_unit))
    return rows.withColumn(SOURCE_FILE, _location(F.col(SOURCE_FILE)))


def find_broken_file(files: Sequence[BatchFile], read: Callable[[Sequence[BatchFile]], DataFrame]) -> str | None:
    """Find a file whose rows cannot be read, by reading all of them, then half of them, and so on.

    Args:
        files: The files of a batch; at least one.
        read: Gives the rows of some of them, as `read_batch` does.

    Returns:
        Where the file is; None if all of them can be read.

    Raises:
        BatchError: If `read` refuses a file.
        StorageError: If the storage fails.
    """

    def is_broken(some: Sequence[BatchFile]) -> bool:
        try:
            read(some).write.format("noop").mode("overwrite").save()
        except SPARK_ERRORS as error:
            if is_gone(error):
                raise
            return True
        return False

    suspects = files
    if not is_broken(suspects):
        return None
    while len(suspects) > 1:
        half = suspects[: len(suspects) // 2]
        suspects = half if is_broken(half) else suspects[len(half) :]
    return suspects[0].uri


def _location(uri: Column) -> Column:
    """A file in the spelling of `storage.filesystem` (string). Spark gives an encoded URI."""
    # Decoding would also turn a plus sign into a blank.
    decoded = F.url_decode(F.replace(uri, F.lit("+"), F.lit("%2B")))
    return F.regexp_replace(decoded, "^file:/+", "/")
