"""What the tests on a strict S3 server share: the server, a proxy in front of it, and a Spark that knows both."""

from collections.abc import Iterator

import pytest
from pyspark.sql import SparkSession

from sessions_dagster.spark.session import SparkSettings, spark_session
from sessions_dagster_tests.conftest import FOR_MANY_SMALL_QUERIES
from sessions_dagster_tests.object_store import StrictServer, strict_s3_server
from sessions_dagster_tests.s3.proxy import Proxy, proxy_of

GIVES_UP_SOON = {
    "spark.hadoop.fs.s3a.attempts.maximum": "2",
    "spark.hadoop.fs.s3a.retry.limit": "2",
    "spark.hadoop.fs.s3a.retry.interval": "10ms",
    "spark.hadoop.fs.s3a.retry.throttle.limit": "2",
    "spark.hadoop.fs.s3a.retry.throttle.interval": "10ms",
    "spark.hadoop.fs.s3a.connection.timeout": "5s",
}
"""By default the connector tries a request again for minutes."""


@pytest.fixture(scope="session")
def server() -> Iterator[StrictServer]:
    with strict_s3_server() as server:
        yield server


@pytest.fixture
def bucket(server: StrictServer) -> str:
    """The URI of a new, empty bucket."""
    return server.bucket()


@pytest.fixture(scope="session")
def running_proxy(server: StrictServer) -> Iterator[Proxy]:
    with proxy_of(server.address) as proxy, pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", f"http://{proxy.address}")
        yield proxy


@pytest.fixture
def proxy(running_proxy: Proxy) -> Iterator[Proxy]:
    """What Spark, delta-rs and pyarrow have in front of the server."""
    running_proxy.reset()
    yield running_proxy
    running_proxy.reset()


@pytest.fixture(scope="session")
def spark(running_proxy: Proxy) -> Iterator[SparkSession]:
    """A small local Spark on S3, the same for the whole run."""
    conf = {**FOR_MANY_SMALL_QUERIES, **GIVES_UP_SOON}
    with spark_session(SparkSettings("local[2]", shuffle_partitions=1, extra_conf=conf, on_s3=True)) as session:
        yield session
