"""What all tests share: the one Spark of a test run."""

from collections.abc import Iterator

import pytest
from pyspark.sql import SparkSession

from sessions_dagster.runtime.spark import SparkSettings, spark_session


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """A small local Spark with Delta, the same for the whole run."""
    settings = SparkSettings(
        master="local[2]",
        shuffle_partitions=2,
        # Tests are many small queries, where the JVM's second compiler costs more than it gains.
        extra_conf={"spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1"},
    )
    with spark_session(settings) as session:
        yield session
