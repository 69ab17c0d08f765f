"""The JARs that a Spark gets when it starts: those of Delta, and for S3 the connector and the log store.

They are files where they are known, and otherwise packages that Ivy resolves from Maven.
"""

import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from delta import configure_spark_with_delta_pip
from pyspark.sql import SparkSession

from sessions_dagster import s3
from sessions_dagster.spark.master import local_cores

if TYPE_CHECKING:
    from sessions_dagster.spark.session import SparkSettings

_NOT_NEEDED: Final = (
    "io.delta:delta-kernel-*",
    "io.unitycatalog:*",
    "io.airlift:*",
    "org.antlr:*",
    "org.apache.hadoop:hadoop-client-*",
    "org.apache.logging.log4j:*",
    "org.apache.parquet:*",
    "org.locationtech.jts:*",
    "org.roaringbitmap:*",
    "org.wildfly.*:*",
    "com.*:*",
    "commons-*:*",
    "javax.*:*",
)
"""Dependencies in the POMs of Delta and of the connector for S3 that are not needed: Spark has a newer version, or only
what is not used here uses them."""

_CLASS_PATH: Final = "spark.driver.extraClassPath"


def delta_coordinate() -> str:
    """The Maven coordinate of Delta's JAR for the installed pyspark and delta-spark, as delta-spark derives it."""
    builder = configure_spark_with_delta_pip(SparkSession.Builder())
    coordinate: str = builder._options["spark.jars.packages"]  # the builder has no reader of its own
    return coordinate


def jars_conf(settings: "SparkSettings") -> dict[str, str]:
    """The properties that bring the JARs: as files where they are known, and otherwise to be resolved by Ivy."""
    jars, packages = [], []
    of_delta = _resolved_jars(settings)
    if settings.delta_jars is not None:
        jars.append(settings.delta_jars)
    elif of_delta is not None:
        # Otherwise Ivy would take some seconds at each start to find out that nothing has changed.
        jars += map(str, of_delta)
    else:
        packages.append(delta_coordinate())
    conf = {}
    if settings.on_s3:
        jars.append(str(s3.LOG_STORE_JAR))
        if not brings_connector(settings):
            of_s3 = s3.resolved_connector(_ivy_home(settings))
            if of_s3 is None:
                packages.append(s3.connector_coordinate())
            elif local_cores(settings.master) is None:
                jars += map(str, of_s3)
            else:
                # As `spark.jars` Spark would copy them at each start, and the SDK alone is 690 MB.
                conf[_CLASS_PATH] = os.pathsep.join(
                    filter(None, [*map(str, of_s3), settings.extra_conf.get(_CLASS_PATH)])
                )
    other_packages = settings.extra_conf.get("spark.jars.packages")
    if jars:
        conf["spark.jars"] = _listed(*jars, settings.extra_conf.get("spark.jars"))
    if packages:
        conf["spark.jars.packages"] = _listed(*packages, other_packages)
        conf["spark.jars.ivy"] = str(_ivy_home(settings))
        if other_packages is None:
            conf["spark.jars.excludes"] = _listed(*_NOT_NEEDED)
    return conf


def brings_connector(settings: "SparkSettings") -> bool:
    """Whether the properties of the settings or the installed Spark bring a connector for S3 themselves."""
    brought = (settings.extra_conf.get(name, "") for name in ("spark.jars", "spark.jars.packages", _CLASS_PATH))
    return any("hadoop-aws" in text for text in brought) or any(s3.jars_of_spark().glob("hadoop-aws-*.jar"))


def _ivy_home(settings: "SparkSettings") -> Path:
    return Path(settings.extra_conf.get("spark.jars.ivy", Path.home() / ".ivy2.5.2"))


def _resolved_jars(settings: "SparkSettings") -> list[Path] | None:
    """Delta's JARs, if Ivy resolved them at an earlier start (`group_artifact-version.jar`); otherwise None."""
    group, artifact, version = delta_coordinate().split(":")
    folder = _ivy_home(settings) / "jars"
    jars = [folder / f"{group}_{name}-{version}.jar" for name in (artifact, "delta-storage")]
    return jars if all(zipfile.is_zipfile(jar) for jar in jars) else None


def _listed(*values: str | None) -> str:
    return ",".join(value for value in values if value is not None)
