"""The file system of a Spark that is one process: what cannot have changed is asked for once, all else each time."""

from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from py4j.protocol import Py4JJavaError
from pyarrow.fs import FileSelector
from pyspark.sql import SparkSession

from sessions_dagster.storage.filesystem import commit_location, filesystem_of, write_text
from sessions_dagster_tests.s3.proxy import Proxy

OF_SPARK = f"part-00000-{UUID(int=7)}-c000.snappy.parquet"
VECTOR = f"deletion_vector_{UUID(int=8)}.bin"
CHECKPOINT = f"_delta_log/{0:020}.checkpoint.parquet"


def write_table(spark: SparkSession, uri: str, *counts: int) -> None:
    """Append rows to a Delta table, one commit for each count."""
    for count in counts:
        spark.range(count).coalesce(1).write.format("delta").mode("append").save(uri)


def rows_of_table(spark: SparkSession, uri: str) -> list[int]:
    return sorted(row["id"] for row in spark.read.format("delta").load(uri).collect())


def remove_all(folder: str) -> None:
    """Remove the files of a folder, as somebody else does."""
    filesystem, path = filesystem_of(folder)
    below = filesystem.get_file_info(FileSelector(path, recursive=True))
    # pyarrow makes an object of a folder that becomes empty.
    for found in sorted(below, key=lambda found: found.path, reverse=True):
        remove = filesystem.delete_file if found.is_file else filesystem.delete_dir
        remove(found.path)
    filesystem.delete_dir(path)


class Connector:
    """Spark's connector, without Delta."""

    def __init__(self, spark: SparkSession) -> None:
        self._jvm: Any = spark._jvm
        self._conf = spark._jsparkSession.sessionState().newHadoopConf()

    def _at(self, location: str) -> tuple[Any, Any]:
        path = self._jvm.org.apache.hadoop.fs.Path(location)
        return path.getFileSystem(self._conf), path

    def list_log(self, table: str) -> int:
        """How many files a log has."""
        filesystem, log = self._at(f"{table}/_delta_log")
        return len(filesystem.listStatus(log))

    def exists(self, location: str) -> bool:
        filesystem, path = self._at(location)
        there: bool = filesystem.exists(path)
        return there

    def write(self, location: str, content: str) -> None:
        filesystem, path = self._at(location)
        stream = filesystem.create(path)
        stream.writeBytes(content)
        stream.close()

    def read(self, location: str, at: int = 0) -> str:
        """The content of a file from a position on."""
        filesystem, path = self._at(location)
        stream = filesystem.open(path)
        try:
            stream.seek(at)
            return bytes(stream.readAllBytes()).decode()
        finally:
            stream.close()


@pytest.fixture
def connector(spark: SparkSession) -> Connector:
    return Connector(spark)


def requests_of(proxy: Proxy, name: str) -> list[str]:
    """The methods of the requests for a file."""
    return [request.method for request in proxy.requests if request.path.endswith(name)]


def test_files_and_commits_of_a_table_are_asked_for_once(spark: SparkSession, proxy: Proxy, bucket: str) -> None:
    write_table(spark, f"{bucket}/t", 2, 1)
    assert rows_of_table(spark, f"{bucket}/t") == [0, 0, 1]
    assert "GET" in requests_of(proxy, ".json")
    proxy.reset()
    assert rows_of_table(spark, f"{bucket}/t") == [0, 0, 1]
    assert "HEAD" not in requests_of(proxy, ".parquet")
    assert [requests_of(proxy, name) for name in (".json", ".crc")] == [[], []]
    # It was asked for something: what commits there are.
    assert [request for request in proxy.requests if "list-type=" in request.path]


@pytest.mark.parametrize("name", [OF_SPARK, VECTOR])
def test_a_data_file_is_asked_for_once(connector: Connector, proxy: Proxy, bucket: str, name: str) -> None:
    write_text(commit_location(f"{bucket}/t", 0), "commit")
    write_text(f"{bucket}/t/day=1/{name}", "content")
    assert connector.list_log(f"{bucket}/t") == 1
    for _ in range(3):
        assert connector.read(f"{bucket}/t/day=1/{name}") == "content"
    assert requests_of(proxy, name).count("HEAD") == 1
    assert requests_of(proxy, name).count("GET") >= 1


def test_a_commit_is_read_once_from_whatever_position(connector: Connector, proxy: Proxy, bucket: str) -> None:
    commit, content = commit_location(f"{bucket}/t", 0), "".join(map(str, range(300)))
    write_text(commit, content)
    connector.list_log(f"{bucket}/t")
    for at in (0, 1, 299, len(content) - 1, len(content)):
        assert connector.read(commit, at) == content[at:]
    with pytest.raises(Py4JJavaError, match="there is no position"):
        connector.read(commit, len(content) + 1)
    assert requests_of(proxy, ".json") == ["PUT", "GET"]


@pytest.mark.parametrize("name", ["events.parquet", OF_SPARK])
def test_a_file_of_a_batch_may_be_replaced_at_any_time(spark: SparkSession, bucket: str, name: str) -> None:
    filesystem, folder = filesystem_of(f"{bucket}/input")
    for count in (3, 500, 1, 500):
        pq.write_table(pa.table({"id": range(count)}), f"{folder}/{name}", filesystem=filesystem)
        assert len(spark.read.parquet(f"{bucket}/input/{name}").collect()) == count


def test_a_checkpoint_may_be_written_again(connector: Connector, bucket: str) -> None:
    checkpoint = f"{bucket}/t/{CHECKPOINT}"
    write_text(commit_location(f"{bucket}/t", 0), "commit")
    for content in ("first", "the second one", "3"):
        write_text(checkpoint, content)
        assert connector.list_log(f"{bucket}/t") == 2
        assert connector.read(checkpoint) == content
    for content in ("of its own", "once more"):
        connector.write(checkpoint, content)
        assert connector.read(checkpoint) == content


@pytest.mark.parametrize("name", [OF_SPARK, VECTOR])
@pytest.mark.parametrize("versions", [[0, 1], [0]], ids=["another commit", "a commit less"])
def test_if_the_commits_are_other_ones_so_may_be_the_data(
    connector: Connector, bucket: str, name: str, versions: list[int]
) -> None:
    for content in ("first", "the second one"):
        for version in [0, 1] if content == "first" else versions:
            # The last one differs, unless it is missing.
            write_text(commit_location(f"{bucket}/t", version), content if version else "commit")
        write_text(f"{bucket}/t/{name}", content)
        connector.list_log(f"{bucket}/t")
        assert connector.read(f"{bucket}/t/{name}") == content
        remove_all(f"{bucket}/t")


def test_a_log_that_somebody_removes_is_gone_at_once(connector: Connector, bucket: str) -> None:
    write_text(commit_location(f"{bucket}/t", 0), "commit")
    connector.list_log(f"{bucket}/t")
    assert connector.exists(f"{bucket}/t/_delta_log")
    remove_all(f"{bucket}/t")
    assert not connector.exists(f"{bucket}/t/_delta_log")


def test_a_table_in_the_place_of_another_one_is_read_as_it_is(spark: SparkSession, bucket: str) -> None:
    for rows in (2, 3, 1):
        write_table(spark, f"{bucket}/t", rows)
        assert rows_of_table(spark, f"{bucket}/t") == list(range(rows))
        remove_all(f"{bucket}/t")
        # Delta itself would go on with the table that it knows.
        jvm: Any = spark._jvm
        jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()
