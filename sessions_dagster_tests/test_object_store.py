"""Batches on an object store: the code for folders also works there, where a folder is a key prefix without a time."""

import gzip
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import PurePosixPath

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dagster._core.definitions.sensor_definition import SensorExecutionData
from moto.core import set_initial_no_auth_action_count
from pyspark.sql import SparkSession

from sessions_dagster.config import SessionsConfig
from sessions_dagster.defs import build_defs
from sessions_dagster.defs.sensors import SENSOR_NAME
from sessions_dagster.errors import BatchError, StorageError, is_retryable
from sessions_dagster.input.folders import (
    SUCCESS_MARKER,
    Completeness,
    InputRoot,
    NotReady,
    batch_content,
    batch_contents,
    batch_folders,
    delivery,
    why_not_ready,
)
from sessions_dagster.input.formats import InputFormat
from sessions_dagster.input.readers import read_batch
from sessions_dagster.model.columns import EVENT_IDENTITY
from sessions_dagster.storage.filesystem import read_text, write_text
from sessions_dagster_tests.object_store import Bucket, key_without_rights, s3_server

DAY = date(2025, 9, 20)
FIRST_DAY = date(2025, 9, 1)
NOW = datetime(2025, 9, 25, tzinfo=UTC)
FOLDER = f"input/date={DAY}"
MORE_THAN_A_PAGE = 1001
"""More than the thousand keys of one page of a listing."""

SETTLED = Completeness(timedelta(minutes=1), require_success_marker=False)
MARKED = Completeness(timedelta(minutes=1), require_success_marker=True)


@pytest.fixture(scope="module")
def server() -> Iterator[None]:
    with s3_server():
        yield


@pytest.fixture
def bucket(server: None) -> Bucket:
    return Bucket()


def root_in(bucket: Bucket) -> InputRoot:
    return InputRoot(f"{bucket.uri}/input")


def readiness(bucket: Bucket, rule: Completeness, now: datetime) -> NotReady | None:
    folders = batch_folders(root_in(bucket), FIRST_DAY, now)
    return why_not_ready(batch_content(root_in(bucket), DAY), folders.days[DAY], rule, now)


def test_a_key_prefix_named_by_day_is_a_batch_without_a_time(bucket: Bucket) -> None:
    bucket.put(f"{FOLDER}/events.parquet")
    folders = batch_folders(root_in(bucket), FIRST_DAY, NOW)
    assert (folders.days, folders.ignored) == ({DAY: None}, {})


def test_other_keys_are_ignored_as_junk(bucket: Bucket) -> None:
    bucket.put("input/stuff/events.parquet")
    bucket.put(FOLDER)
    folders = batch_folders(root_in(bucket), FIRST_DAY, NOW)
    assert (folders.days, folders.ignored) == ({}, {NotReady.JUNK: [f"date={DAY}", "stuff"]})


def test_an_empty_folder_is_not_ready(bucket: Bucket) -> None:
    bucket.put(f"{FOLDER}/", b"")
    assert readiness(bucket, SETTLED, NOW) == NotReady.EMPTY
    bucket.put(f"{FOLDER}/events.parquet")
    assert batch_content(root_in(bucket), DAY).data_files == 1


@pytest.mark.parametrize("root", ["s3://no-such-bucket/input", "s3://no-such-bucket"])
def test_a_missing_bucket_is_a_missing_input_root(bucket: Bucket, root: str) -> None:
    with pytest.raises(FileNotFoundError):
        batch_folders(InputRoot(root), FIRST_DAY, NOW)


def test_a_bucket_without_keys_below_the_root_is_a_missing_input_root(bucket: Bucket) -> None:
    with pytest.raises(FileNotFoundError):
        batch_folders(root_in(bucket), FIRST_DAY, NOW)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda bucket: bucket.put(f"{FOLDER}/more.parquet"), id="a file more"),
        pytest.param(lambda bucket: bucket.remove(f"{FOLDER}/b.parquet"), id="a file less"),
        pytest.param(lambda bucket: bucket.put(f"{FOLDER}/b.parquet", b"longer than before"), id="another size"),
        pytest.param(lambda bucket: bucket.put(f"{FOLDER}/hour=1/b.parquet"), id="a file in a sub-folder"),
    ],
)
def test_a_change_of_the_data_changes_the_fingerprint(bucket: Bucket, change: Callable[[Bucket], None]) -> None:
    for name in ("a.parquet", "b.parquet"):
        bucket.put(f"{FOLDER}/{name}")
    before = batch_content(root_in(bucket), DAY)
    change(bucket)
    assert batch_content(root_in(bucket), DAY).fingerprint != before.fingerprint


def test_a_folder_has_settled_once_its_newest_file_has(bucket: Bucket) -> None:
    bucket.put(f"{FOLDER}/events.parquet")
    written = batch_content(root_in(bucket), DAY).changed_at
    assert written is not None
    assert abs(datetime.now(UTC) - written) < timedelta(minutes=1)
    assert readiness(bucket, SETTLED, written + timedelta(seconds=59)) == NotReady.NOT_SETTLED
    assert readiness(bucket, SETTLED, written + timedelta(seconds=60)) is None


def test_a_required_marker_completes_a_folder(bucket: Bucket) -> None:
    bucket.put(f"{FOLDER}/events.parquet")
    assert readiness(bucket, MARKED, NOW) == NotReady.NO_MARKER
    bucket.put(f"{FOLDER}/{SUCCESS_MARKER}", b"")
    assert readiness(bucket, MARKED, NOW) is None


def test_a_folder_with_more_files_than_a_page_is_listed_completely(bucket: Bucket) -> None:
    for number in range(MORE_THAN_A_PAGE):
        bucket.put(f"{FOLDER}/{number}.parquet")
    assert batch_content(root_in(bucket), DAY).data_files == MORE_THAN_A_PAGE


def test_more_folders_than_a_page_are_listed_completely(bucket: Bucket) -> None:
    days = {date(2020, 1, 1) + timedelta(days=number) for number in range(MORE_THAN_A_PAGE)}
    for day in days:
        bucket.put(f"input/date={day}/events.parquet")
    assert batch_folders(root_in(bucket), date(2020, 1, 1), NOW).days.keys() == days


def test_many_folders_are_listed_in_parallel(bucket: Bucket) -> None:
    days = [DAY - timedelta(days=number) for number in range(20)]
    for day in days[1:]:
        bucket.put(f"input/date={day}/events.parquet")
    contents = batch_contents(root_in(bucket), days)
    assert isinstance(contents.pop(DAY), FileNotFoundError)
    assert contents == {day: batch_content(root_in(bucket), day) for day in days[1:]}


def test_files_with_any_name_can_be_opened(bucket: Bucket) -> None:
    names = ["a b.parquet", "a#b.parquet", "a%20b.parquet", "a?b.parquet", "[1-3].parquet", "Ünïcödé-数.parquet"]
    for name in names:
        bucket.put(f"{FOLDER}/{name}", name.encode())
    files = root_in(bucket).delivery(DAY).files
    assert [file.uri.removeprefix(f"s3a://{bucket.name}/{FOLDER}/") for file in files] == sorted(names)
    for file in files:
        with file.open() as opened:
            assert opened.read().decode() == PurePosixPath(file.uri).name


def test_an_input_root_can_have_any_name(bucket: Bucket) -> None:
    name = "My Data/100%/a%20b/a#b/c+d/[x]/Ünï"
    bucket.put(f"{name}/date={DAY}/a.csv", b"12345")
    (file,) = InputRoot(f"{bucket.uri}/{name}").delivery(DAY).files
    assert file.uri == f"s3a://{bucket.name}/{name}/date={DAY}/a.csv"
    with file.open() as opened:
        assert opened.read() == b"12345"


def test_a_compressed_file_is_decompressed_by_its_name(bucket: Bucket) -> None:
    bucket.put(f"{FOLDER}/a.csv.gz", gzip.compress(b"12345"))
    (file,) = root_in(bucket).delivery(DAY).files
    with file.open_stream() as opened:
        assert opened.read() == b"12345"


def test_a_text_is_written_and_replaced(bucket: Bucket) -> None:
    location = f"{bucket.uri}/My Data/a#b/note.json"
    for text in ("first", "second, Ünï"):
        write_text(location, text)
        assert read_text(location) == text


def tick(bucket: Bucket, *, settle_seconds: int = 60, require_success_marker: bool = False) -> SensorExecutionData:
    """The first tick of the sensor, evaluated as by the daemon."""
    config = SessionsConfig(
        start_date="2025-01-01",
        input_root=root_in(bucket).root,
        settle_seconds=settle_seconds,
        require_success_marker=require_success_marker,
    )
    definitions = build_defs(config)
    sensor = definitions.resolve_sensor_def(SENSOR_NAME)
    with (
        dg.DagsterInstance.ephemeral() as instance,
        dg.build_sensor_context(instance, definitions=definitions, resources=definitions.resources) as context,
    ):
        return sensor.evaluate_tick(context)


def skip_reason(data: SensorExecutionData) -> str:
    assert not data.run_requests
    return data.skip_message or ""


def test_the_sensor_requests_a_run_for_a_folder(bucket: Bucket) -> None:
    bucket.put(f"{FOLDER}/events.parquet")
    (request,) = tick(bucket, settle_seconds=0).run_requests or []
    assert request.partition_key == str(DAY)


def test_the_sensor_waits_for_a_recently_changed_folder(bucket: Bucket) -> None:
    bucket.put(f"{FOLDER}/events.parquet")
    assert f"changed a moment ago: {DAY}" in skip_reason(tick(bucket))


def test_the_sensor_waits_for_a_required_marker(bucket: Bucket) -> None:
    bucket.put(f"{FOLDER}/events.parquet")
    assert f"without {SUCCESS_MARKER}: {DAY}" in skip_reason(tick(bucket, require_success_marker=True))
    bucket.put(f"{FOLDER}/{SUCCESS_MARKER}", b"")
    assert len(tick(bucket, require_success_marker=True).run_requests or []) == 1


def test_the_sensor_reports_a_missing_input_root(bucket: Bucket) -> None:
    assert f"no input folder s3a://{bucket.name}/input yet" in skip_reason(tick(bucket))


@pytest.mark.parametrize("key", [f"{FOLDER}/_SUCCESS", "input/date=2025-09-19/events.parquet"])
def test_a_batch_without_a_file_is_refused(bucket: Bucket, key: str) -> None:
    bucket.put(key)
    with pytest.raises(BatchError, match=f"date={DAY}"):
        delivery(root_in(bucket), DAY)


def test_a_batch_without_read_permission_is_refused(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.put(f"{FOLDER}/events.parquet")
    name, secret = key_without_rights()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", name)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    with pytest.raises(BatchError, match="ACCESS_DENIED"):
        set_initial_no_auth_action_count(0)(delivery)(root_in(bucket), DAY)


@pytest.mark.slow
def test_an_unreachable_store_is_a_retryable_error() -> None:
    with s3_server() as server:
        bucket = Bucket()
        bucket.put(f"{FOLDER}/events.parquet")
        server.stop()
        with pytest.raises(StorageError) as error:
            delivery(root_in(bucket), DAY)
    assert is_retryable(error.value)


@pytest.mark.parametrize("input_format", ["parquet", "csv", "json"])
def test_a_store_that_disappears_before_a_file_is_read_is_a_retryable_error(
    spark: SparkSession, input_format: InputFormat
) -> None:
    with s3_server() as server:
        bucket = Bucket()
        bucket.put(f"{FOLDER}/events", _parquet())
        files = delivery(root_in(bucket), DAY).files
        server.stop()
        with pytest.raises(StorageError) as error:
            read_batch(spark, files, input_format, {})
    assert is_retryable(error.value)


def _parquet() -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({name: ["x"] for name in EVENT_IDENTITY}), sink)
    return bytes(sink.getvalue())
