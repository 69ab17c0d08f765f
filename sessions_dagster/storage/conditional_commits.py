"""Commits to S3 are exclusive only if each is put on the condition that it is not there yet; checked and named here."""

from collections.abc import Iterator
from contextlib import contextmanager

from pyspark.sql import SparkSession

from sessions_dagster.errors import SettingsError
from sessions_dagster.s3 import (
    CONNECTOR_LACKS_CONDITIONS,
    LOG_STORE,
    LOG_STORE_JAR,
    LOG_STORE_PROPERTY,
    ONE_WRITER_LOG_STORE,
    PUTS_IGNORE_CONDITIONS,
    has_log_store,
)
from sessions_dagster.spark.tuning import is_remote


def check_log_store(spark: SparkSession) -> None:
    """Check that a session commits to S3 on the condition that nobody else has made the same version.

    Raises:
        SettingsError: If it does not.
    """
    # Delta takes it from the properties that Spark was started with. A running session can be given others, which it
    # would not look at.
    of_start = spark.conf if is_remote(spark) else spark.sparkContext.getConf()
    if has_log_store(of_start.get):
        return
    raise SettingsError(
        f"The Spark session commits to S3 without a condition, so that of two writers one could lose its commit. Start "
        f"the session with {LOG_STORE_PROPERTY}={LOG_STORE} and {LOG_STORE_JAR} in spark.jars, as a session that is "
        "started here is. Nothing was written."
    )


@contextmanager
def refused_conditions_named(root: str) -> Iterator[None]:
    """Turns what the log store says of a store without conditional puts into an error of ours.

    Args:
        root: The location of the tables.

    Raises:
        SettingsError: If the store, or Spark's connector for it, does not know the condition.
    """
    try:
        yield
    except Exception as error:
        # Which class it has depends on how Spark is reached: only the text is always the same.
        text = str(error)
        if PUTS_IGNORE_CONDITIONS in text:
            what = f"The store of {root} does not know conditional puts (If-None-Match)"
        elif CONNECTOR_LACKS_CONDITIONS in text:
            what = "Spark's connector for S3 does not know conditional puts: it is older than that of Hadoop 3.4.2"
        else:
            raise
        raise SettingsError(
            f"{what}, so of two writers one could lose its commit. No table was changed. Use another one; or, if only "
            f"one process ever writes at a time, set {LOG_STORE_PROPERTY}={ONE_WRITER_LOG_STORE} in spark.extra_conf."
        ) from error
