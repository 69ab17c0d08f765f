"""What all tests share: the one Spark of a test run."""

from collections.abc import Iterator, Sequence

import pytest
from pyspark.sql import SparkSession

from sessions_dagster.spark.session import SparkSettings, spark_session
from sessions_dagster.spark.tuning import INTERPRETED

_FOR_MANY_SMALL_QUERIES = {
    **INTERPRETED,
    "spark.sql.adaptive.enabled": "false",
    "spark.databricks.delta.snapshotPartitions": "1",
}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Mark the tests that use the one Spark, so that others can run beside it: `make test` does."""
    for item in items:
        if "spark" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.spark)


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """A small local Spark with Delta, the same for the whole run."""
    settings = SparkSettings(
        master="local[2]",
        shuffle_partitions=1,
        extra_conf=_FOR_MANY_SMALL_QUERIES,
    )
    with spark_session(settings) as session:
        yield session
