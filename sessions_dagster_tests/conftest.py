"""What all tests share: the one Spark of a test run."""

from collections.abc import Iterator, Sequence

import pytest
from pyspark.sql import SparkSession

from sessions_dagster.spark.session import SparkSettings, spark_session
from sessions_dagster.spark.tuning import INTERPRETED

_RARELY_OPTIMIZED_CODE = (
    "-XX:ParallelGCThreads=1 -XX:Tier4InvocationThreshold=60000 -XX:Tier4MinInvocationThreshold=15000 "
    "-XX:Tier4CompileThreshold=120000 -XX:Tier4BackEdgeThreshold=400000"
)
"""By default the JVM spends a seventh of the time of all tests on optimizing code that is then seldom used."""

FOR_MANY_SMALL_QUERIES = {
    **INTERPRETED,
    "spark.driver.extraJavaOptions": _RARELY_OPTIMIZED_CODE,
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
        extra_conf=FOR_MANY_SMALL_QUERIES,
    )
    with spark_session(settings) as session:
        yield session


@pytest.fixture
def java_without_optimizer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the JVMs of processes that a test starts compile only quickly: they end before optimized code pays off."""
    monkeypatch.setenv("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")
