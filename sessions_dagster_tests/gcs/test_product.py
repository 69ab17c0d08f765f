"""The product with input and tables on gs://: the same rows as on a local disk, by settings alone."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from itertools import chain
from random import Random
from typing import Any

import dagster as dg
import pytest
from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from sessions_dagster.config import SessionsConfig
from sessions_dagster.defs import build_defs
from sessions_dagster.defs.sensors import build_sensor
from sessions_dagster.errors import BatchError, is_retryable
from sessions_dagster.input.folders import InputRoot, batch_content, batch_folders, delivery
from sessions_dagster.pipeline.check_tables import check_events, check_sessions
from sessions_dagster.storage.filesystem import is_file, read_text, write_text
from sessions_dagster.storage.landed_batches import landed_batches
from sessions_dagster.storage.maintenance import compact, vacuum
from sessions_dagster.storage.sql import quoted, run_sql
from sessions_dagster_tests.builders import World, put_batch, sessions_of
from sessions_dagster_tests.histories import DAYS, FIRST_DAY, LATENESS, deliveries
from sessions_dagster_tests.oracle import Event, sessionize
from sessions_dagster_tests.s3.proxy import Fault, Proxy

BATCH_DAYS = [FIRST_DAY + timedelta(days=offset) for offset in range(DAYS + LATENESS)]


def assert_exact(world: World) -> None:
    expected = sessionize(world.all_events())
    assert Counter(world.table()) == Counter(expected)
    assert Counter(world.sessions()) == Counter(sessions_of(expected))


def test_the_tables_equal_a_single_pass_over_all_batches(spark: SparkSession, bucket: str) -> None:
    world, random = World(spark, bucket), Random(7)
    by_batch: dict[date, list[Event]] = defaultdict(list)
    for each in chain.from_iterable(map(deliveries, range(12))):
        by_batch[each.batch].append(each.event)
    for day in BATCH_DAYS:
        world.land(day, by_batch[day])
    world.materialize(BATCH_DAYS[0], BATCH_DAYS[6])
    world.materialize(BATCH_DAYS[7], BATCH_DAYS[-1])
    world.refresh()
    assert_exact(world)
    events = world.warehouse.sessionized_events
    noted = world.warehouse.open_existing(events).version()

    for day in random.sample(BATCH_DAYS, 2):
        world.land(day, random.sample(by_batch[day], len(by_batch[day]) // 2))
        world.materialize(day)
    world.refresh()
    compact(spark, world.warehouse, events)
    vacuum(spark, world.warehouse, events, dry_run=False)
    assert_exact(world)
    of_events = check_events(spark, world.warehouse, BATCH_DAYS[0], BATCH_DAYS[-1], BATCH_DAYS[0])
    of_sessions = check_sessions(spark, world.warehouse, BATCH_DAYS[0], BATCH_DAYS[-1])
    assert not [each for each in of_events.findings if each.offenders]
    assert not [each for each in of_sessions.findings if each.offenders]
    assert landed_batches(world.warehouse, BATCH_DAYS).keys() == set(BATCH_DAYS)

    run_sql(spark, f"RESTORE {quoted(events)} TO VERSION AS OF {noted}")
    world.materialize(BATCH_DAYS[0], BATCH_DAYS[-1])
    world.refresh()
    assert_exact(world)


def test_the_sensor_requests_a_run_that_lands_the_batch(spark: SparkSession, bucket: str) -> None:
    world, day = World(spark, bucket), BATCH_DAYS[0]
    events = [each.event for seed in range(5) for each in deliveries(seed) if each.event.at.date() <= day]
    put_batch(events, world.input.batch_folder(day))
    config = SessionsConfig(
        start_date=FIRST_DAY,
        input_root=world.input.root,
        warehouse_root=world.warehouse.root,
        settle_seconds=0,
    )
    definitions = build_defs(config)
    with dg.DagsterInstance.ephemeral() as instance:

        def tick() -> Sequence[dg.RunRequest]:
            with dg.build_sensor_context(instance, definitions=definitions) as context:
                return build_sensor(config).evaluate_tick(context).run_requests or []

        (request,) = tick()
        job = definitions.resolve_job_def(str(request.job_name))
        assert job.execute_in_process(instance=instance, partition_key=request.partition_key).success
        assert Counter(world.table()) == Counter(sessionize(events))
        assert not tick()


def test_of_many_writers_of_a_version_one_commits(spark: SparkSession, bucket: str) -> None:
    jvm: Any = spark._jvm
    conf = spark._jsparkSession.sessionState().newHadoopConf()
    gateway: Any = spark.sparkContext._gateway
    given = gateway.new_array(jvm.Object, 1)
    given[0] = conf
    loader = jvm.java.lang.Thread.currentThread().getContextClassLoader()
    store = loader.loadClass("io.delta.storage.GCSLogStore").getConstructors()[0].newInstance(given)

    def committed(version: int, writer: int) -> bool:
        actions = jvm.java.util.ArrayList()
        actions.add(str(writer))
        path = jvm.org.apache.hadoop.fs.Path(f"{bucket}/t/_delta_log/{version:020}.json")
        try:
            store.write(path, actions.iterator(), False, conf)
        except Py4JJavaError as error:
            return str(error.java_exception.getClass().getName()) != "java.nio.file.FileAlreadyExistsException"
        return True

    for version in range(20):
        with ThreadPoolExecutor(4) as writers:
            outcomes = list(writers.map(lambda writer, version=version: committed(version, writer), range(4)))
        assert outcomes.count(True) == 1
        text = read_text(f"{bucket}/t/_delta_log/{version:020}.json")
        assert text == f"{outcomes.index(True)}\n"


def test_what_is_not_there_is_told_from_a_store_that_fails(bucket: str) -> None:
    assert not is_file(f"{bucket}/no/such/file")
    with pytest.raises(FileNotFoundError):
        read_text(f"{bucket}/no/such/file")
    for missing in (f"{bucket}/no/such/input", f"{bucket}-missing/input"):
        with pytest.raises(FileNotFoundError):
            batch_folders(InputRoot(missing), FIRST_DAY, datetime.now(UTC))
    with pytest.raises(BatchError, match="no/such/input"):
        delivery(InputRoot(f"{bucket}/no/such/input"), FIRST_DAY)


def test_files_with_any_name_are_listed_and_opened(bucket: str) -> None:
    root = InputRoot(f"{bucket}/My Data/100%/a#b")
    names = ["a b.csv", "a#b.csv", "a?b.csv", "[1-3].csv", "Ünï-数.csv"]
    for name in names:
        write_text(f"{root.batch_folder(FIRST_DAY)}/{name}", name)
    assert batch_content(root, FIRST_DAY).data_files == len(names)
    for file in root.delivery(FIRST_DAY).files:
        with file.open() as opened:
            assert opened.read().decode() == file.uri.rpartition("/")[2]


@pytest.mark.parametrize("fault", [Fault.SLOW_DOWN, Fault.INTERNAL_ERROR, Fault.NO_ANSWER])
@pytest.mark.parametrize("meets_it", ["input", "sessionized_events"])
def test_a_failing_store_is_no_bad_batch(
    spark: SparkSession, proxy: Proxy, bucket: str, fault: Fault, meets_it: str
) -> None:
    world, day = World(spark, bucket), BATCH_DAYS[0]
    events = [Event("ada", "a", "idea", datetime(day.year, day.month, day.day, 9, minute)) for minute in (0, 2)]
    world.land(day, events[:1])
    world.materialize(day)

    def land_and_apply() -> None:
        world.land(day, events)
        world.materialize(day)

    proxy.meets(fault, rf"/b/.*{meets_it}.*\.parquet")
    with pytest.raises(Exception) as error:  # noqa: PT011, Spark and the pipeline have errors of their own
        land_and_apply()
    assert not isinstance(error.value, BatchError), error.value
    assert is_retryable(error.value), error.value
    proxy.reset()
    land_and_apply()
    assert Counter(world.table()) == Counter(sessionize(events))
