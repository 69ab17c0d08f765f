"""Which disk is full, in a sentence, if Spark or this process fails because one is.

Spark writes its own files, such as those of a shuffle, to another place than the tables, and does not say which of the
two is full.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, cast

from pyspark.sql import SparkSession

from sessions_dagster.errors import FullDiskError, with_causes
from sessions_dagster.spark.failures import SPARK_ERRORS_OR_GONE
from sessions_dagster.spark.tuning import is_remote

_IS_FULL: Final = re.compile(r"No space left on device|Disk quota exceeded|not enough space on the disk", re.IGNORECASE)

_FILE: Final = re.compile(rf"(/[^\n]*?) \((?:{_IS_FULL.pattern})\)", re.IGNORECASE)
"""How Java names a file that it could not make."""

_BY_SPARK: Final = re.compile(r"org\.apache\.spark\.(shuffle|storage|util\.collection|unsafe|io)\.|blockmgr-")
_BY_TABLES: Final = re.compile(
    r"org\.apache\.hadoop\.fs\.|org\.apache\.parquet\.|io\.delta\.|org\.apache\.spark\.sql\.delta"
)


@contextmanager
def full_disks_named(spark: SparkSession, root: str) -> Iterator[None]:
    """Turns the failure that a disk is full into one that says which, and what to do.

    Args:
        spark: The session that works in this context.
        root: The location of the tables.

    Raises:
        FullDiskError: If a disk is full. What was being written does not count.
    """
    try:
        yield
    except FullDiskError:
        raise
    except Exception as error:
        text = full_disk_text(error)
        if text is None:
            raise
        raise FullDiskError(
            f"The disk of {_place(text, spark, root)} is full. What was being written does not count: each table is as "
            "its last commit left it. Make room; running again is safe."
        ) from error


def full_disk_text(error: BaseException) -> str | None:
    """All that an exception says, if it says that a disk is full; None if it does not."""
    # Of some exceptions of Spark only the trace of Java's has the cause.
    texts = [f"{each}\n{getattr(each, '_stackTrace', '')}" for each in with_causes(error)]
    return next((text for text in texts if _IS_FULL.search(text)), None)


def _place(text: str, spark: SparkSession, root: str) -> str:
    tables, temporary = f"the tables ({root})", f"Spark's temporary files ({_temporary_folders(spark)})"
    file = _FILE.search(text)
    if file is not None:
        return tables if file[1].startswith(f"{root}/") else temporary
    trace = text[_first_mention(text) :]
    by_tables, by_spark = _BY_TABLES.search(trace), _BY_SPARK.search(trace)
    if by_tables is None and by_spark is None:
        return tables if "\tat " not in text else f"{tables} or of {temporary}"
    is_of_tables = by_spark is None or (by_tables is not None and by_tables.start() < by_spark.start())
    return tables if is_of_tables else temporary


def _first_mention(text: str) -> int:
    found = _IS_FULL.search(text)
    return 0 if found is None else found.start()


def _temporary_folders(spark: SparkSession) -> str:
    """Where Spark's own files are, and which setting says it."""
    setting = "SPARK_LOCAL_DIRS or spark.local.dir says where"
    if is_remote(spark):
        return f"on its server: {setting}"
    try:
        blocks = cast("Any", spark.sparkContext._jvm).org.apache.spark.SparkEnv.get().blockManager().diskBlockManager()
        folders = sorted({str(Path(folder.getPath()).parent) for folder in blocks.localDirs()})
    except SPARK_ERRORS_OR_GONE:
        return setting
    return f"{', '.join(folders)}: {setting}"
