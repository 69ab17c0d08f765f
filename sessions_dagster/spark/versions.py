"""Which versions of Spark, Delta, Scala and Java go together, and whether the installed ones do.

A wrong pair starts, and fails later with a `NoSuchMethodError` or a `ClassNotFoundException` that names neither
version. So it is checked before Spark starts, from the names of JARs. What the versions do differently is in `compat`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

import pyspark

from sessions_dagster.errors import SparkStartError

_SPARK_CORE: Final = re.compile(r"spark-core_(?P<scala>\d+\.\d+)-(?P<spark>\d+\.\d+)\.")
_DELTA_JAR: Final = re.compile(
    r"(?:.*_)?delta-spark(?:_(?P<spark>\d+\.\d+))?_(?P<scala>2\.\d+)-(?P<delta>\d+\.\d+\.\d+)\.jar"
)
_RELEASE: Final = re.compile(r"(\d+)\.(\d+)\.(\d+)")


@dataclass(frozen=True)
class Lane:
    """A line of Spark, and what goes with it.

    Attributes:
        spark: The line, such as `4.2`.
        delta: The line of Delta, such as `4.4`.
        unusable: Releases of that line that do not work with it.
        scala: The Scala that its JARs are built for.
        newest_java: The newest Java that it runs on. Before 3.4.3, Hadoop asks Java for something that Java 23 refuses.
    """

    spark: str
    delta: str
    unusable: tuple[str, ...]
    scala: str
    newest_java: int

    @property
    def requirement(self) -> str:
        """The releases of delta-spark, as pip takes them."""
        major, minor = self.delta.split(".")
        return ",".join([f">={self.delta},<{major}.{int(minor) + 1}", *(f"!={release}" for release in self.unusable)])

    def jar(self, delta: str) -> str:
        """The name of the JAR of a release of Delta. Before 4 it does not say for which Spark it is."""
        return f"delta-spark_{'' if self.spark < '4' else f'{self.spark}_'}{self.scala}-{delta}.jar"


# Before 3.3.3 Delta is for older releases of Spark 3.5, which are not tested. The JARs of Delta 4.4.1 did not resolve.
_LANES: Final = (
    Lane("3.5", "3.3", ("3.3.0", "3.3.1", "3.3.2"), "2.12", 21),
    Lane("4.0", "4.4", ("4.4.1",), "2.13", 22),
    Lane("4.1", "4.4", ("4.4.1",), "2.13", 22),
    Lane("4.2", "4.4", ("4.4.1",), "2.13", 25),
)

_WITHOUT_CONNECT_AND_S3: Final = "3.5"

LANES: Final[Mapping[str, Lane]] = {lane.spark: lane for lane in _LANES}
"""What goes together, by the line of Spark. Each lane is tested (`make lanes`)."""


def lane_of(spark: str) -> Lane:
    """The lane of a version of Spark.

    Raises:
        SparkStartError: If there is none.
    """
    lane = LANES.get(_line(spark))
    if lane is None:
        raise SparkStartError(
            f"Spark {spark} is not one of those that this project is tested with: {', '.join(LANES)}. "
            f"Install one of them: pip install {' '.join(_requirements(_LANES[-1]))}"
        )
    return lane


def installed_lane() -> Lane:
    """The lane of the installed pyspark.

    Raises:
        SparkStartError: If there is none.
    """
    return lane_of(pyspark.__version__)


def check_versions(spark: str, delta: str, spark_home: Path, delta_jars: str | None) -> None:
    """Check that the installed Spark, Delta and Scala go together.

    Args:
        spark: The version of pyspark.
        delta: The version of delta-spark, the Python package.
        spark_home: Where the JARs of Spark are.
        delta_jars: Comma-separated JARs that are used instead of those that belong to the package, if any. Only those
            are looked at that are called as Maven calls them.

    Raises:
        SparkStartError: If they do not. The message names both versions, and what to install.
    """
    lane = lane_of(spark)
    if _line(delta) != lane.delta or delta in lane.unusable:
        raise SparkStartError(
            f"Spark {spark} and Delta {delta} (the Python package delta-spark) do not go together here. "
            f"Install what does: pip install {' '.join(_requirements(lane))}"
        )
    for jar in spark_home.glob("jars/spark-core_*.jar"):
        found = _SPARK_CORE.match(jar.name)
        if found and (found["spark"], found["scala"]) != (lane.spark, lane.scala):
            raise SparkStartError(
                f"The Python package is pyspark {spark}, but the Spark in {spark_home} (SPARK_HOME) is "
                f"{found['spark']} with Scala {found['scala']}. Unset SPARK_HOME, or install the pyspark of that Spark."
            )
    for location in (delta_jars or "").split(","):
        _check_delta_jar(location.rsplit("/", 1)[-1], spark, delta, lane)


def _check_delta_jar(name: str, spark: str, delta: str, lane: Lane) -> None:
    found = _DELTA_JAR.fullmatch(name)
    if found is None:
        return
    if (found["spark"] or lane.spark, found["scala"], found["delta"]) != (lane.spark, lane.scala, delta):
        raise SparkStartError(
            f"The JAR {name} does not belong to Spark {spark} with Scala {lane.scala} and delta-spark {delta}. The "
            f"setting of Delta's JARs (spark.delta_jars, SESSIONS_DELTA_JARS) needs {lane.jar(delta)}, and "
            f"delta-storage-{delta}.jar with it."
        )


def check_connect(spark: str) -> None:
    """Check that a version of Spark can be used over Spark Connect.

    Raises:
        SparkStartError: If it cannot.
    """
    _check_is_4(spark, "Spark Connect is", "whose Spark Connect has no checkpoints")


def check_s3(spark: str) -> None:
    """Check that a version of Spark can be used with folders on S3.

    Raises:
        SparkStartError: If it cannot.
    """
    _check_is_4(spark, "Folders on S3 (s3a://) are", "whose connector cannot keep two writers apart")


def _check_is_4(spark: str, what: str, why: str) -> None:
    if _line(spark) == _WITHOUT_CONNECT_AND_S3:
        raise SparkStartError(
            f"{what} used with Spark 4 only, and pyspark is {spark}, {why}. Install another one (pip install "
            f"{' '.join(_requirements(_LANES[-1]))}), or do without."
        )


def installed_delta() -> str:
    """The version of the Python package delta-spark."""
    return version("delta-spark")


def _line(release: str) -> str:
    found = _RELEASE.match(release)
    return f"{found[1]}.{found[2]}" if found else release


def _requirements(lane: Lane) -> tuple[str, str]:
    return f"'pyspark=={lane.spark}.*'", f"'delta-spark{lane.requirement}'"
