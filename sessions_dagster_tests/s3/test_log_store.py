"""The log store: a commit on S3 is there as a whole and once, or it is refused."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest
from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from sessions_dagster.errors import SettingsError
from sessions_dagster.model.schemas import SESSIONS_SCHEMA
from sessions_dagster.s3 import LOG_STORE
from sessions_dagster.storage.delta_tables import ensure_table
from sessions_dagster.storage.filesystem import read_text
from sessions_dagster.storage.warehouse import Warehouse
from sessions_dagster_tests.object_store import StrictServer
from sessions_dagster_tests.s3.proxy import Fault, Proxy, Request, proxy_of

Write = Callable[..., None]

MORE_THAN_A_PART = "x" * 6_000_000
PART_SIZE = "fs.s3a.multipart.size"


@pytest.fixture
def write(spark: SparkSession) -> Write:
    """Writes lines to a URI by the log store."""
    jvm: Any = spark._jvm
    conf = spark._jsparkSession.sessionState().newHadoopConf()
    gateway: Any = spark.sparkContext._gateway
    given = gateway.new_array(jvm.Object, 1)
    given[0] = conf
    store = jvm.java.lang.Thread.currentThread().getContextClassLoader().loadClass(LOG_STORE)
    store = store.getConstructors()[0].newInstance(given)

    def write(uri: str, *lines: str, overwrite: bool = False, conf: Any = conf) -> None:
        actions = jvm.java.util.ArrayList()
        for line in lines:
            actions.add(line)
        store.write(jvm.org.apache.hadoop.fs.Path(uri), actions.iterator(), overwrite, conf)

    return write


def is_refused(error: Py4JJavaError) -> bool:
    name: str = error.java_exception.getClass().getName()
    return name == "java.nio.file.FileAlreadyExistsException"


def commit_of(bucket: str, version: int = 0) -> str:
    return f"{bucket}/t/_delta_log/{version:020}.json"


def test_of_many_writers_of_a_version_one_commits(write: Write, bucket: str) -> None:
    def committed(version: int, writer: int) -> bool:
        try:
            write(commit_of(bucket, version), f"{writer}")
        except Py4JJavaError as error:
            return not is_refused(error)
        return True

    for version in range(20):
        with ThreadPoolExecutor(4) as writers:
            outcomes = list(writers.map(lambda writer, version=version: committed(version, writer), range(4)))
        assert outcomes.count(True) == 1
        assert read_text(commit_of(bucket, version)) == f"{outcomes.index(True)}\n"


def test_a_commit_is_not_replaced(write: Write, bucket: str) -> None:
    write(commit_of(bucket), "first", "commit")
    with pytest.raises(Py4JJavaError) as error:
        write(commit_of(bucket), "second")
    assert is_refused(error.value)
    assert read_text(commit_of(bucket)) == "first\ncommit\n"


def test_what_may_be_replaced_is_replaced(write: Write, bucket: str) -> None:
    for text in ("first", "second"):
        write(f"{bucket}/t/_delta_log/_last_checkpoint", text, overwrite=True)
    assert read_text(f"{bucket}/t/_delta_log/_last_checkpoint") == "second\n"


def test_a_commit_of_several_parts_is_not_replaced(spark: SparkSession, write: Write, bucket: str) -> None:
    spark._jsc.hadoopConfiguration().set(PART_SIZE, "5M")
    write(commit_of(bucket), MORE_THAN_A_PART, "first")
    with pytest.raises(Py4JJavaError) as error:
        write(commit_of(bucket), MORE_THAN_A_PART, "second")
    assert is_refused(error.value)
    assert read_text(commit_of(bucket)).endswith("first\n")


def path_of(uri: str) -> str:
    return f"/{urlsplit(uri).netloc}{urlsplit(uri).path}"


def test_a_commit_whose_answer_is_lost_is_a_commit(write: Write, proxy: Proxy, bucket: str) -> None:
    proxy.meets(Fault.NO_ANSWER, path_of(commit_of(bucket)), method="PUT", times=1)
    write(commit_of(bucket), "mine")
    assert proxy.requests.count(Request("PUT", path_of(commit_of(bucket)))) == 2
    assert read_text(commit_of(bucket)) == "mine\n"


@pytest.mark.parametrize("fault", [Fault.SLOW_DOWN, Fault.INTERNAL_ERROR])
def test_a_commit_is_tried_again_if_the_store_is_busy(write: Write, proxy: Proxy, bucket: str, fault: Fault) -> None:
    proxy.meets(fault, path_of(commit_of(bucket)), method="PUT", times=1)
    write(commit_of(bucket), "mine")
    assert read_text(commit_of(bucket)) == "mine\n"


def test_a_commit_that_failed_is_not_there(write: Write, proxy: Proxy, bucket: str) -> None:
    proxy.meets(Fault.INTERNAL_ERROR, path_of(commit_of(bucket)), method="PUT")
    with pytest.raises(Py4JJavaError) as error:
        write(commit_of(bucket), "mine")
    assert not is_refused(error.value)
    with pytest.raises(FileNotFoundError):
        read_text(commit_of(bucket))


def test_a_store_is_asked_once_whether_it_refuses_what_is_there(write: Write, proxy: Proxy, bucket: str) -> None:
    for version in range(3):
        write(commit_of(bucket, version), "mine")
    assert len([request for request in proxy.requests if request.path.endswith("/_put_if_absent")]) == 2
    assert len([request for request in proxy.requests if request.method == "PUT"]) == 2 + 3


def test_nothing_is_written_to_a_store_that_ignores_conditions(spark: SparkSession, proxy: Proxy, bucket: str) -> None:
    warehouse = Warehouse(f"{bucket}/lake")
    proxy.meets(Fault.SAYS_DONE, "_delta_log", method="PUT")
    with pytest.raises(SettingsError, match="does not know conditional puts"), warehouse.writing(spark):
        ensure_table(spark, warehouse, warehouse.sessions, SESSIONS_SCHEMA)
    assert warehouse.open(warehouse.sessions) is None


def test_a_bucket_of_the_same_name_at_another_store_is_asked_by_itself(
    spark: SparkSession, write: Write, server: StrictServer, proxy: Proxy, bucket: str
) -> None:
    write(commit_of(bucket), "mine")
    with proxy_of(server.address) as other:
        other.meets(Fault.SAYS_DONE, "_delta_log", method="PUT")
        conf = spark._jsparkSession.sessionState().newHadoopConf()
        conf.set("fs.s3a.endpoint", f"http://{other.address}")
        conf.setBoolean("fs.s3a.impl.disable.cache", True)
        with pytest.raises(Py4JJavaError, match="CONDITIONAL_PUT_IGNORED"):
            write(commit_of(bucket, 1), "mine", conf=conf)
