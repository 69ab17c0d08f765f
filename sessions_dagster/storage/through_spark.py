"""What is read of a warehouse through Spark, if only Spark has the credentials of its storage.

Spark copies the log of a table into a folder of this process, and delta-rs opens the copy as it would open the table:
there are two ways for the bytes and one reader. Nothing here needs a JVM in this process, so a session with a server of
Spark Connect will do.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from deltalake import DeltaTable
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sessions_dagster.storage.filesystem import PATHS_ARE_PATTERNS

_LOG: Final = "_delta_log"
_SIDECARS: Final = "_sidecars"
"""The folder in a log that has the rest of a checkpoint that is more than one file. Its name hides it from Spark."""

_COMMIT: Final = re.compile(r"\d{20}\.json")
_CHECKPOINT: Final = re.compile(r"(\d{20})\.checkpoint\..+")
_MAY_HAVE_SIDECARS: Final = re.compile(r"\d{20}\.checkpoint\.[0-9a-fA-F-]{36}\.(json|parquet)")

_COMPLETE_CHECKPOINTS: Final = 2
"""The newest checkpoint may still be written, in several files. Then the one before it is complete."""


@dataclass(frozen=True)
class StoredText:
    """A small file.

    Attributes:
        path: Its path below the folder that was read.
        text: Its content.
    """

    path: str
    text: str


class MirroredTable(DeltaTable):
    """A table of delta-rs whose log Spark has copied to this machine. Its data files are where they are.

    `table_uri` is the location of the table, as for any other handle.
    """

    def __init__(self, spark: SparkSession, location: str) -> None:
        """Copy the log and open it.

        Args:
            spark: A session that can read the table.
            location: Where the table is, in the spelling of `filesystem`.

        Raises:
            TableNotFoundError: If there is no table.
            AnalysisException: If Spark may not read it.
        """
        self._spark = spark
        self._location = location
        self._folder = TemporaryDirectory(prefix="sessions-log-")
        self._fetch_all()
        super().__init__(self._folder.name)

    @property
    def table_uri(self) -> str:
        """The location of the table."""
        return self._location

    @property
    def copy(self) -> str:
        """The folder of this machine that has the copy of the log."""
        return self._folder.name

    def update_incremental(self) -> None:
        """Copy the commits that are new, and load them."""
        newest = f"{self.version():020}.json"
        self._fetch([name for name in self._names() if _COMMIT.fullmatch(name) and name > newest])
        super().update_incremental()

    @property
    def _log(self) -> Path:
        return Path(self._folder.name, _LOG)

    def _fetch_all(self) -> None:
        """Copy all commits and the newest checkpoints; nothing if there is no log."""
        names = self._names()
        checkpoints = _newest_checkpoints(names)
        self._fetch([*filter(_COMMIT.fullmatch, names), *checkpoints])
        if any(_MAY_HAVE_SIDECARS.fullmatch(name) for name in checkpoints):
            self._fetch(self._names(_SIDECARS), _SIDECARS)

    def _names(self, folder: str = "") -> list[str]:
        """The names of the files in the log, or in a folder in it. Spark lists them and runs no job."""
        try:
            uris = _files_below(self._spark, f"{self._location}/{_LOG}/{folder}".rstrip("/"), "*").inputFiles()
        except AnalysisException as error:
            _check_missing(error)
            return []
        return [uri.rpartition("/")[2] for uri in uris]

    def _fetch(self, names: Collection[str], folder: str = "") -> None:
        if not names:
            return
        # One pattern for all of them, because to name a path for each would be a request for each.
        pattern = f"{{{','.join(names)}}}"
        files = _files_below(self._spark, f"{self._location}/{_LOG}/{folder}".rstrip("/"), pattern)
        (self._log / folder).mkdir(parents=True, exist_ok=True)
        for row in files.select("path", "content").collect():
            (self._log / folder / row.path.rpartition("/")[2]).write_bytes(row.content)


def texts_below(spark: SparkSession, folder: str) -> list[StoredText]:
    """All small files below a folder, the oldest first, except for those that are hidden for Spark.

    Args:
        spark: A session that can read the folder.
        folder: A location in the spelling of `filesystem`. If there is no such folder, there are no files.
    """
    try:
        rows = _files_below(spark, folder, "*").select("path", "modificationTime", "content").collect()
    except AnalysisException as error:
        _check_missing(error)
        return []
    marker = f"/{folder.rpartition('/')[2]}/"
    return [
        StoredText(row.path.rpartition(marker)[2], bytes(row.content).decode())
        for row in sorted(rows, key=lambda row: row.modificationTime)
    ]


def add_text(spark: SparkSession, folder: str, text: str) -> None:
    """Add a small file with one line of text to a folder, which is created if there is none.

    Args:
        spark: A session that can write to the folder.
        folder: A location in the spelling of `filesystem`.
        text: The line.
    """
    spark.range(1).select(F.lit(text)).coalesce(1).write.mode("append").text(folder)


def _files_below(spark: SparkSession, folder: str, pattern: str) -> DataFrame:
    reader = spark.read.format("binaryFile").option("recursiveFileLookup", "true").option("pathGlobFilter", pattern)
    return reader.option(PATHS_ARE_PATTERNS, "false").load(folder)


def _newest_checkpoints(names: Collection[str]) -> list[str]:
    versions = {name: found[1] for name in names if (found := _CHECKPOINT.fullmatch(name))}
    newest = sorted(set(versions.values()))[-_COMPLETE_CHECKPOINTS:]
    return [name for name, version in versions.items() if version in newest]


def _check_missing(error: AnalysisException) -> None:
    """Pass over an error that says that a path does not exist."""
    if "PATH_NOT_FOUND" not in str(error):
        raise error
