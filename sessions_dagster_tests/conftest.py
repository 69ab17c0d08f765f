"""What all tests share: the one Spark of a test run."""

from collections.abc import Iterator

import pytest
from pyspark.sql import SparkSession

from sessions_dagster.runtime.spark import SparkSettings, spark_session


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """A small local Spark with Delta, the same for the whole run."""
    with spark_session(SparkSettings(master="local[2]", driver_memory="2g", shuffle_partitions=2)) as session:
        yield session
