"""How many tasks, how large a file, from how many rows on: every number that should fit the machine and the input.

Here belongs what follows from the cores, as properties of Spark and Delta that `start_spark` sets, and the sizes that a
run goes by, each with a property of its own in the Spark session (`spark.sessions.…`). docs/operations.md has a table
of all. A number that is part of how one thing is computed stays there. Nothing here knows of events or of Dagster.
"""

import re
from dataclasses import dataclass, fields
from typing import Final, Self

from pyspark.sql import SparkSession

SHUFFLE_PARTITIONS: Final = "spark.sql.shuffle.partitions"

_LEAST_ON_A_CLUSTER: Final = 200
"""Spark's own number of shuffle partitions. Most executors may come after the session, so few cores say little."""


class SizeError(ValueError):
    """A property of the session is to be a size, and is none; the message names it."""


def default_shuffle_partitions(cores: int, *, is_local: bool) -> int:
    """Two tasks a core, so that a core that is done early finds another one. Where there are few rows, see `Sizes`."""
    return max(2 if is_local else _LEAST_ON_A_CLUSTER, 2 * cores)


def default_scan_partitions(cores: int, *, is_local: bool) -> int:
    """Four tasks a core, unless files are so large that there are more, or too small to cut.

    Files and their rows differ: with one task a core, all others wait for the slowest.
    """
    return max(4 if is_local else _LEAST_ON_A_CLUSTER, 4 * cores)


def default_listing_tasks(cores: int, *, is_local: bool) -> int:
    """As many as a shuffle has. With Spark's 10,000 a vacuum of an empty table takes minutes on two cores."""
    return default_shuffle_partitions(cores, is_local=is_local)


def default_snapshot_partitions(cores: int, *, is_local: bool) -> int:
    """One a core, but 2 to 8 on one machine, and on a cluster 8 to 50, which is Delta's own number.

    Delta rebuilds the state of a table in so many tasks after each commit. Of a small log most of 50 get next to
    nothing, and on few cores they wait for each other; of a log of a million files each of them has 20,000.
    """
    least, most = (2, 8) if is_local else (8, 50)
    return min(most, max(least, cores))


def properties_for(cores: int, *, is_local: bool) -> dict[str, str]:
    """What follows from the cores.

    Args:
        cores: How many Spark has.
        is_local: Whether they are those of this machine. Those of a cluster may become more.

    Returns:
        Properties by name, all of which can be set while a session runs.
    """
    rules = {
        SHUFFLE_PARTITIONS: default_shuffle_partitions,
        "spark.sql.files.minPartitionNum": default_scan_partitions,
        "spark.sql.sources.parallelPartitionDiscovery.parallelism": default_listing_tasks,
        "spark.databricks.delta.snapshotPartitions": default_snapshot_partitions,
    }
    return {name: str(rule(cores, is_local=is_local)) for name, rule in rules.items()}


@dataclass(frozen=True)
class Sizes:
    """The sizes that a run goes by. They change how long it takes and how it lays out files, and no row.

    Each can be given to Spark as a property, `broadcast_rows` as `spark.sessions.broadcastRows`.

    Attributes:
        broadcast_rows: Up to so many rows of a correction are sent to every executor; beyond that Spark is left to
            shuffle the table. A broadcast takes memory on the driver and on each executor, and spares three shuffles of
            six dates: at 5 million events a day, which make half a million rows, a day took 48 s instead of 74 s.
        large_key_rows: A key with more rows than this, of a new day or of all others, is cut into pieces. A task takes
            so many in about a second. With fewer, keys are cut that hold nobody up, and what is cut has to be put
            together again.
        rows_per_file: No more than one task is for so many rows, where batches are applied and where rejected rows are
            written. Each writes a file on each of its dates; so many rows are 1 to 2 MB. Every later scan opens every
            file; fewer files have fewer tasks.
        bytes_per_file: The same for a landing, in bytes of the files that arrived.
        rows_worth_compiling: For fewer rows than this Spark takes longer to compile its plans than to run them as they
            are: on the demo's data a cold process took 10 s of 55 s longer.
        rows_per_task: Where batches are applied, a shuffle has so many partitions that none has more of their rows, on
            average. More need more memory: with 2.5 million each, 10 million events on 2 cores fit into a heap of 2 GB.
            Fewer make more tasks, and more files.
    """

    broadcast_rows: int = 1_000_000
    large_key_rows: int = 250_000
    rows_per_file: int = 100_000
    bytes_per_file: int = 1024 * 1024
    rows_worth_compiling: int = 100_000
    rows_per_task: int = 2_500_000

    @classmethod
    def of(cls, spark: SparkSession) -> Self:
        """The sizes of a session: those that its properties give, and the defaults for all others.

        Raises:
            SizeError: If one of the properties is no whole number greater than 0.
        """
        given = {name: (size, spark.conf.get(size, None)) for name, size in cls.properties().items()}
        return cls(**{name: _size(size, said) for name, (size, said) in given.items() if said is not None})

    @classmethod
    def properties(cls) -> dict[str, str]:
        """The property of each size, by the name of its attribute."""
        return {field.name: f"spark.sessions.{_camel_case(field.name)}" for field in fields(cls)}

    def partitions(self, rows: int, usual: int) -> int:
        """How many partitions so many rows should be in, where they usually are in so many.

        Fewer than usual where each would have less than is worth a file, more where one would have too many for a task.
        """
        worth_a_file, at_least = -(-rows // self.rows_per_file), -(-rows // self.rows_per_task)
        return max(1, at_least, min(usual, worth_a_file))


def _size(name: str, said: str) -> int:
    if re.fullmatch("[0-9]*[1-9][0-9]*", said.strip()) is None:
        raise SizeError(
            f"The Spark property {name} is {said!r}; it must be a whole number greater than 0, like 500000."
        )
    return int(said)


def _camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)
