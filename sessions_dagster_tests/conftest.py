"""What all tests share: the one Spark of a test run.

With `--spark-connect` it is a session of a server of Spark Connect, which is started for the test run.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from pyspark.sql import SparkSession

from sessions_dagster.spark.server import TOKEN_VARIABLE
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


SERVER = """
import sys
from sessions_dagster.spark.server import serve
from sessions_dagster.spark.session import SparkSettings
serve(SparkSettings(**eval(sys.argv[1])), 0, lambda line: print(line, flush=True))
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--spark-connect", action="store_true", help="run the tests with Spark on a Spark Connect server")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Mark the tests that use the one Spark, so that others can run beside it: `make test` does."""
    for item in items:
        if "spark" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.spark)


@pytest.fixture(scope="session")
def spark(pytestconfig: pytest.Config) -> Iterator[SparkSession]:
    """A small local Spark with Delta, the same for the whole run."""
    settings: dict[str, Any] = {"master": "local[2]", "shuffle_partitions": 1, "extra_conf": FOR_MANY_SMALL_QUERIES}
    if not pytestconfig.getoption("--spark-connect"):
        with spark_session(SparkSettings(**settings)) as session:
            yield session
        return
    with server(settings) as address, spark_session(SparkSettings(master=address)) as session:
        yield session


@contextmanager
def server(settings: Mapping[str, Any]) -> Iterator[str]:
    """A server of Spark Connect for some settings, and its address."""
    os.environ.setdefault(TOKEN_VARIABLE, "of-tests")
    process = subprocess.Popen([sys.executable, "-c", SERVER, repr(settings)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        found = re.search(r"sc://\S+", process.stdout.readline())
        assert found, "the server has not started, see above"
        yield found[0]
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture
def java_without_optimizer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the JVMs of processes that a test starts compile only quickly: they end before optimized code pays off."""
    monkeypatch.setenv("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")
