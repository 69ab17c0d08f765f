"""Tuning: every number that should fit the machine and the input, and the properties that hold for one step of a run.

Here belong the properties of Spark and Delta that follow from the number of cores, which `session` sets when Spark
starts, and the sizes that a run uses, each with a property of its own in the Spark session (`spark.sessions.…`; a table
of all is in docs/operations.md). A number that is part of how one thing is computed stays there.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from typing import Final, Self

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sessions_dagster.errors import SizeError

SHUFFLE_PARTITIONS: Final = "spark.sql.shuffle.partitions"
ADAPTIVE: Final = "spark.sql.adaptive.enabled"
CASE_SENSITIVE: Final = "spark.sql.caseSensitive"

TASK_SLOTS: Final = "spark.sessions.taskSlots"
"""The property in which a session of Spark Connect keeps how many tasks its server runs at once."""

_MANY_ROWS: Final = 1_000_000

INTERPRETED: Final[Mapping[str, str]] = {
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
}
"""The properties of a session that interprets its plans instead of compiling them."""

_LEAST_ON_A_CLUSTER: Final = 200
"""Spark's own number of shuffle partitions. Most executors may start after the session, so few cores say little."""


def default_shuffle_partitions(cores: int, *, is_local: bool) -> int:
    """Two tasks per core, so that a core that is done early finds another task. For few rows see `Sizes`."""
    return max(2 if is_local else _LEAST_ON_A_CLUSTER, 2 * cores)


def default_scan_partitions(cores: int, *, is_local: bool) -> int:
    """Four tasks per core, unless files are so large that there are more, or too small to be split.

    Files differ in size: with one task per core, all cores wait for the slowest task.
    """
    return max(4 if is_local else _LEAST_ON_A_CLUSTER, 4 * cores)


def default_listing_tasks(cores: int, *, is_local: bool) -> int:
    """As many as a shuffle has. With Spark's default of 10,000 a vacuum of an empty table takes minutes on 2 cores."""
    return default_shuffle_partitions(cores, is_local=is_local)


def default_snapshot_partitions(cores: int, *, is_local: bool) -> int:
    """One per core: at least 2 and at most 8 on one machine, and 8 to 50 (Delta's own default) on a cluster.

    Delta rebuilds the state of a table in that many tasks after each commit. With a small log most of 50 tasks have
    next to nothing to do, and on few cores they wait for each other; with a million files each of them has 20,000.
    """
    least, most = (2, 8) if is_local else (8, 50)
    return min(most, max(least, cores))


def properties_for(cores: int, *, is_local: bool) -> dict[str, str]:
    """The properties of Spark and Delta that follow from the number of cores.

    Args:
        cores: How many cores Spark has.
        is_local: Whether they are those of this machine. A cluster may get more of them.

    Returns:
        Properties by name, all of which can be set while a session runs.
    """
    defaults = {
        SHUFFLE_PARTITIONS: default_shuffle_partitions,
        "spark.sql.files.minPartitionNum": default_scan_partitions,
        "spark.sql.sources.parallelPartitionDiscovery.parallelism": default_listing_tasks,
        "spark.databricks.delta.snapshotPartitions": default_snapshot_partitions,
    }
    return {name: str(rule(cores, is_local=is_local)) for name, rule in defaults.items()}


@dataclass(frozen=True)
class Sizes:
    """The sizes that a run uses. They change how long it takes and how it lays out files, and never a row.

    Each can be given to Spark as a property, for example `broadcast_rows` as `spark.sessions.broadcastRows`.

    Attributes:
        broadcast_rows: Up to this many rows of a correction are sent to every executor; with more, Spark may shuffle
            the table instead. A broadcast takes memory on the driver and on each executor, and saves shuffles of six
            dates: at 5 million events a day, with half a million rows to send, a day took 48 s instead of 74 s.
        rows_per_file: Rows of a correction and rejected rows are written by at most one task per this many rows. Each
            task writes a file on each of its dates, and every later scan opens every file: with two tasks instead of
            one for a daily correction of 1 M events, runs took 7% longer after nine days.
        bytes_per_file: The same for a landing, in bytes of the files that arrived.
        rows_worth_compiling: For fewer rows than this, Spark takes longer to compile its plans than to interpret them:
            on the data of the demo a cold process took 10 s of 55 s longer.
    """

    broadcast_rows: int = 1_000_000
    rows_per_file: int = 250_000
    bytes_per_file: int = 1024 * 1024
    rows_worth_compiling: int = 100_000

    @classmethod
    def of(cls, spark: SparkSession) -> Self:
        """The sizes of a session: those that its properties give, and the defaults for all others.

        Raises:
            SizeError: If one of the properties is not a whole number greater than 0.
        """
        given = {name: (key, spark.conf.get(key, None)) for name, key in cls.properties().items()}
        return cls(**{name: _size(key, value) for name, (key, value) in given.items() if value is not None})

    @classmethod
    def properties(cls) -> dict[str, str]:
        """The property of each size, by the name of its attribute."""
        return {field.name: f"spark.sessions.{_camel_case(field.name)}" for field in fields(cls)}


def is_remote(spark: SparkSession) -> bool:
    """Whether a session is one of Spark Connect, whose driver is in another process."""
    return type(spark).__module__.startswith("pyspark.sql.connect.")


def task_slots(spark: SparkSession) -> int:
    """How many tasks Spark runs at once."""
    if not is_remote(spark):
        return spark.sparkContext.defaultParallelism
    said = spark.conf.get(TASK_SLOTS, None)
    if said is None:
        # A range has as many partitions as that by default, and Spark Connect has no other way to ask.
        partition = F.spark_partition_id().alias("partition")
        said = str(spark.range(_MANY_ROWS).select(partition).distinct().count())
        spark.conf.set(TASK_SLOTS, said)
    return int(said)


@contextmanager
def spark_property(spark: SparkSession, name: str, value: str) -> Iterator[None]:
    """Gives a property of the session a value, and afterwards the value that it had before, if any."""
    before = spark.conf.get(name, None)
    spark.conf.set(name, value)
    try:
        yield
    finally:
        if before is None:
            spark.conf.unset(name)
        else:
            spark.conf.set(name, before)


@contextmanager
def interpreted_if_few(spark: SparkSession, rows: int) -> Iterator[None]:
    """Has Spark interpret its plans if they are about few rows, which is faster than to compile them first.

    Args:
        spark: The session.
        rows: About how many rows the work has to look at.

    Raises:
        SizeError: If a property of `Sizes` is not a size.
    """
    with ExitStack() as properties:
        if rows < Sizes.of(spark).rows_worth_compiling:
            for name, value in INTERPRETED.items():
                properties.enter_context(spark_property(spark, name, value))
        yield


@contextmanager
def tuned(spark: SparkSession, rows: int) -> Iterator[None]:
    """Sets the properties that fit a step that reads tables, and afterwards those that the session had before.

    Args:
        spark: The session.
        rows: About how many rows the step has to look at.

    Raises:
        SizeError: If a property of `Sizes` is not a size.
    """
    # Adaptive execution plans a query again after each stage, and Delta then lists all files of a table with deletion
    # vectors each time: without it a daily run is 8% faster.
    with interpreted_if_few(spark, rows), spark_property(spark, ADAPTIVE, "false"):
        yield


def broadcast_if_small(rows: DataFrame, count: int) -> DataFrame:
    """Make Spark send rows to every executor for a join, unless there are more than `Sizes.broadcast_rows`.

    Args:
        rows: Any rows.
        count: About how many there are. Spark knows no size of a checkpoint, and would shuffle the table to be safe.
    """
    return F.broadcast(rows) if count <= Sizes.of(rows.sparkSession).broadcast_rows else rows


def _size(name: str, value: str) -> int:
    if re.fullmatch("[0-9]*[1-9][0-9]*", value.strip()) is None:
        raise SizeError(
            f"The Spark property {name} is {value!r}; it must be a whole number greater than 0, like 500000."
        )
    return int(value)


def _camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)
