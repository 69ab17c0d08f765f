"""Starts and stops a Spark that reads and writes Delta tables on this machine.

Here belongs what any Delta project needs of a session: its JARs, time zone, memory, partitions, quiet console.
Nothing here knows of events or of Dagster.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pyspark
from delta import configure_spark_with_delta_pip
from pyspark.errors import PySparkRuntimeError
from pyspark.sql import SparkSession

DELTA_JARS_VARIABLE: Final = "SESSIONS_DELTA_JARS"

_NOT_NEEDED_OF_DELTA: Final = (
    "io.delta:delta-kernel-*",
    "io.unitycatalog:*",
    "io.airlift:*",
    "org.*:*",
    "com.*:*",
    "commons-*:*",
    "javax.*:*",
)
"""What Delta's POM asks for beside delta-storage: Spark has it already, in newer versions, or it serves Unity Catalog."""

_LOG_SETTINGS: Final = Path(__file__).with_name("log4j2.properties")


class SparkStartError(RuntimeError):
    """Spark did not start; the message says what is wrong and what to do."""


@dataclass(frozen=True)
class SparkSettings:
    """How to start Spark.

    Attributes:
        master: Spark's master URL.
        driver_memory: Heap of the driver's JVM, which in local mode is the whole of Spark (Spark's notation: `2g`).
        shuffle_partitions: Partitions of a shuffle. None: see `default_shuffle_partitions`.
        extra_conf: Further Spark properties; they win over every property set here.
        delta_jars: Comma-separated local JARs (delta-spark and delta-storage) to use instead of resolving them.
            By default the environment variable SESSIONS_DELTA_JARS, and the Maven resolution where that is not set.
        app_name: The name of the application.
    """

    master: str = "local[*]"
    driver_memory: str = "2g"
    shuffle_partitions: int | None = None
    extra_conf: Mapping[str, str] = field(default_factory=dict)
    delta_jars: str | None = field(default_factory=lambda: os.environ.get(DELTA_JARS_VARIABLE) or None)
    app_name: str = "sessions-dagster"


def local_cores(master: str) -> int | None:
    """The number of cores of a local master (`local`, `local[2]`, `local[*]`, `local[2,3]`), None for any other."""
    match = re.fullmatch(r"local(?:\[(\d+|\*)(?:,\s*\d+)?\])?", master)
    if match is None:
        return None
    cores = match.group(1) or "1"
    return (os.cpu_count() or 1) if cores == "*" else int(cores)


def default_shuffle_partitions(cores: int) -> int:
    """Two tasks a core, so that a core that is done early finds another one; adaptive execution merges small ones."""
    return max(2, 2 * cores)


def delta_coordinate() -> str:
    """The Maven coordinate of Delta's JAR for the installed pyspark and delta-spark, as delta-spark itself derives it."""
    builder = configure_spark_with_delta_pip(SparkSession.Builder())
    coordinate: str = builder._options["spark.jars.packages"]  # the builder has no reader of its own
    return coordinate


def spark_conf(settings: SparkSettings) -> dict[str, str]:
    """The Spark properties for some settings.

    Args:
        settings: How to start Spark.

    Returns:
        Properties by name. On a master that is not local, the sizes are left to the cluster's own configuration.
    """
    conf = {
        "spark.app.name": settings.app_name,
        "spark.master": settings.master,
        "spark.driver.memory": settings.driver_memory,
        "spark.driver.extraJavaOptions": f'-Duser.timezone=UTC "-Dlog4j2.configurationFile={_LOG_SETTINGS}"',
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        # Parquet's nanoseconds arrive as a long; Spark refuses the file otherwise.
        "spark.sql.legacy.parquet.nanosAsLong": "true",
    }
    cores = local_cores(settings.master)
    if cores is not None:
        conf["spark.sql.shuffle.partitions"] = str(default_shuffle_partitions(cores))
        conf["spark.databricks.delta.snapshotPartitions"] = str(min(8, max(2, cores)))
    if settings.shuffle_partitions is not None:
        conf["spark.sql.shuffle.partitions"] = str(settings.shuffle_partitions)
    return conf | _delta_jars_conf(settings) | dict(settings.extra_conf)


def start_spark(settings: SparkSettings) -> SparkSession:
    """Starts Spark.

    Args:
        settings: How to start it.

    Returns:
        The session, to be stopped by the caller.

    Raises:
        SparkStartError: If Spark does not start.
    """
    try:
        return SparkSession.builder.config(map={**spark_conf(settings)}).getOrCreate()
    except PySparkRuntimeError as error:
        raise SparkStartError(_why_not_started(settings)) from error


@contextmanager
def spark_session(settings: SparkSettings) -> Iterator[SparkSession]:
    """The session of this process: the one that is there, or else a new one, which ends with the context.

    Args:
        settings: How to start Spark; not looked at where a session is there already.

    Yields:
        The session.

    Raises:
        SparkStartError: If Spark does not start.
    """
    running = _running_session()
    if running is not None:
        yield running
        return
    started = start_spark(settings)
    try:
        yield started
    finally:
        started.stop()


def _running_session() -> SparkSession | None:
    try:
        return SparkSession.active()
    except PySparkRuntimeError:
        return None


def _ivy_home(settings: SparkSettings) -> Path:
    return Path(settings.extra_conf.get("spark.jars.ivy", Path.home() / ".ivy2.5.2"))


def _resolved_jars(settings: SparkSettings) -> list[Path]:
    """Where Spark's Ivy puts Delta's JARs once it has resolved them; its file names are group_artifact-version.jar."""
    group, artifact, version = delta_coordinate().split(":")
    folder = _ivy_home(settings) / "jars"
    return [folder / f"{group}_{name}-{version}.jar" for name in (artifact, "delta-storage")]


def _delta_jars_conf(settings: SparkSettings) -> dict[str, str]:
    if settings.delta_jars is not None:
        return {"spark.jars": settings.delta_jars}
    jars = _resolved_jars(settings)
    if all(jar.is_file() for jar in jars):
        # Ivy takes seconds at each start to find out that nothing changed.
        return {"spark.jars": ",".join(map(str, jars))}
    return {
        "spark.jars.packages": delta_coordinate(),
        "spark.jars.excludes": ",".join(_NOT_NEEDED_OF_DELTA),
        "spark.jars.ivy": str(_ivy_home(settings)),
    }


def _why_not_started(settings: SparkSettings) -> str:
    if settings.delta_jars is None and not all(jar.is_file() for jar in _resolved_jars(settings)):
        return (
            f"Delta's JAR {delta_coordinate()} for Spark {pyspark.__version__} could not be resolved (Ivy's report is above). "
            f"Without a way to a Maven repository, give local JARs: {DELTA_JARS_VARIABLE}=<delta-spark JAR>,<delta-storage JAR>."
        )
    return (
        f"Spark {pyspark.__version__} did not start with master {settings.master} and driver memory {settings.driver_memory}; "
        "what its JVM said is above."
    )
