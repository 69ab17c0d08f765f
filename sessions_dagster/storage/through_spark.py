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
from pyspark.sql import DataFrame, Row, SparkSession
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
        return [uri.rpartition("/")[2] for uri in _uris(self._spark, self._stored(folder))]

    def _stored(self, folder: str) -> str:
        return f"{self._location}/{_LOG}/{folder}".rstrip("/")

    def _fetch(self, names: Collection[str], folder: str = "") -> None:
        for row in _contents(self._spark, self._stored(folder), names):
            file = self._log / folder / row.path.rpartition("/")[2]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(row.content)


def texts_below(spark: SparkSession, folder: str, beginnings: tuple[str, ...]) -> list[StoredText]:
    """Small files below a folder, the oldest first, except for those that are hidden for Spark.

    Args:
        spark: A session that can read the folder.
        folder: A location in the spelling of `filesystem`. If there is no such folder, there are no files.
        beginnings: What the path of a file below the folder may begin with.
    """
    marker = f"/{folder.rpartition('/')[2]}/"

    def path_of(uri: str) -> str:
        return uri.rpartition(marker)[2]

    wanted = [path for path in map(path_of, _uris(spark, folder)) if path.startswith(beginnings)]
    rows = _contents(spark, folder, [path.rpartition("/")[2] for path in wanted])
    return [
        StoredText(path_of(row.path), bytes(row.content).decode())
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


def _uris(spark: SparkSession, folder: str) -> list[str]:
    """The files below a folder; none if there is no such folder. Spark lists them and runs no job."""
    try:
        return _files_below(spark, folder, "*").inputFiles()
    except AnalysisException as error:
        if "PATH_NOT_FOUND" not in str(error):
            raise
        return []


def _contents(spark: SparkSession, folder: str, names: Collection[str]) -> list[Row]:
    """The files of some names below a folder, with `path`, `modificationTime` and `content`."""
    if not names:
        return []
    # One pattern for all of them, because to name a path for each would be a request for each.
    pattern = f"{{{','.join(names)}}}"
    return _files_below(spark, folder, pattern).select("path", "modificationTime", "content").collect()


def _files_below(spark: SparkSession, folder: str, pattern: str) -> DataFrame:
    reader = spark.read.format("binaryFile").option("recursiveFileLookup", "true").option("pathGlobFilter", pattern)
    return reader.option(PATHS_ARE_PATTERNS, "false").load(folder)


def _newest_checkpoints(names: Collection[str]) -> list[str]:
    versions = {name: found[1] for name in names if (found := _CHECKPOINT.fullmatch(name))}
    newest = sorted(set(versions.values()))[-_COMPLETE_CHECKPOINTS:]
    return [name for name, version in versions.items() if version in newest]
