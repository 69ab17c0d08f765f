"""A session whose executors are on the workers of a standalone cluster."""

from collections.abc import Iterator

import pytest
from pyspark.sql import SparkSession

from sessions_dagster.spark.session import SparkSettings, spark_session
from sessions_dagster_tests.cluster.standalone import Cluster, standalone
from sessions_dagster_tests.conftest import FOR_MANY_SMALL_QUERIES


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A master and two workers."""
    with standalone(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture(scope="session")
def spark(cluster: Cluster) -> Iterator[SparkSession]:
    """A session on the cluster; only settings make it one."""
    conf = {**FOR_MANY_SMALL_QUERIES, "spark.driver.host": "127.0.0.1", "spark.executor.memory": "1g"}
    settings = SparkSettings(master=cluster.master, shuffle_partitions=4, extra_conf=conf, shared_folders=True)
    with spark_session(settings) as session:
        yield session
