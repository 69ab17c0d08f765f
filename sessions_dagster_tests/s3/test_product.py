"""The product with input and tables on S3: the same rows as on a local disk, whatever the store does meanwhile."""

from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from random import Random

import pytest
from pyspark.sql import SparkSession

from sessions_dagster.errors import BatchError, is_retryable
from sessions_dagster.pipeline.check_tables import check_events, check_sessions
from sessions_dagster.pipeline.land import land_batch
from sessions_dagster.storage.landed_batches import landed_batches
from sessions_dagster.storage.maintenance import compact, vacuum
from sessions_dagster_tests.builders import World, put_batch, sessions_of
from sessions_dagster_tests.histories import DAYS, FIRST_DAY, LATENESS, deliveries
from sessions_dagster_tests.oracle import Event, sessionize
from sessions_dagster_tests.s3.proxy import Fault, Proxy

DAY = date(2025, 9, 20)
BATCH_DAYS = [FIRST_DAY + timedelta(days=offset) for offset in range(DAYS + LATENESS)]


def event(minute: int, event_id: str = "a") -> Event:
    return Event("ada", event_id, "idea", datetime(2025, 9, 20, 9, minute))


def test_the_tables_equal_a_single_pass_over_all_batches(spark: SparkSession, bucket: str) -> None:
    world, random = World(spark, bucket), Random(7)
    by_batch = defaultdict(list)
    for delivery in (each for seed in range(20) for each in deliveries(seed)):
        by_batch[delivery.batch].append(delivery)
    again = random.sample(BATCH_DAYS, 3)
    for day in [*BATCH_DAYS, *again]:
        world.land(day, [each.event for each in by_batch[day] if each.firm or random.random() < 0.5])
    world.materialize(BATCH_DAYS[0], BATCH_DAYS[6])
    world.materialize(BATCH_DAYS[7], BATCH_DAYS[-1])
    world.land(again[0], [each.event for each in by_batch[again[0]] if each.firm])
    world.materialize(again[0])
    world.refresh()
    compact(spark, world.warehouse, world.warehouse.sessionized_events)
    vacuum(spark, world.warehouse, world.warehouse.sessionized_events, dry_run=False)
    expected = sessionize(world.all_events())
    assert set(world.table()) == expected
    assert len(world.table()) == len(expected)
    assert set(world.sessions()) == sessions_of(expected)
    checked = check_events(spark, world.warehouse, BATCH_DAYS[0], BATCH_DAYS[-1], BATCH_DAYS[0])
    assert not [finding for finding in checked.findings if finding.offenders]
    of_sessions = check_sessions(spark, world.warehouse, BATCH_DAYS[0], BATCH_DAYS[-1])
    assert not [finding for finding in of_sessions.findings if finding.offenders]
    assert landed_batches(world.warehouse, BATCH_DAYS).keys() == set(BATCH_DAYS)


def test_a_batch_that_was_replaced_in_place_is_read_as_it_is(spark: SparkSession, bucket: str) -> None:
    world = World(spark, bucket)
    for count in (2, 30, 1):
        world.land(DAY, [event(minute) for minute in range(count)])
        world.materialize(DAY)
        assert len(world.table()) == count


@pytest.mark.parametrize("fault", [Fault.SLOW_DOWN, Fault.NOT_THE_SAME, Fault.INTERNAL_ERROR, Fault.NO_ANSWER])
@pytest.mark.parametrize("meets_it", ["input", "raw_events", "sessionized_events"])
def test_a_failing_store_is_no_bad_batch(
    spark: SparkSession, proxy: Proxy, bucket: str, fault: Fault, meets_it: str
) -> None:
    world = World(spark, bucket)
    world.land(DAY, [event(0)])

    put_batch([event(0), event(7)], world.input.batch_folder(DAY))
    proxy.meets(fault, rf"/{meets_it}/.*\.parquet$")
    with pytest.raises(Exception) as error:  # noqa: PT011, each reader has errors of its own
        run(world)
    assert not isinstance(error.value, BatchError)
    assert is_retryable(error.value)
    proxy.reset()
    run(world)
    assert set(world.table()) == sessionize([event(0), event(7)])


def run(world: World) -> None:
    """Land the batch as it is in its folder, and apply it."""
    now = datetime.now(UTC)
    land_batch(world.spark, world.input, world.warehouse, DAY, "parquet", landed_at=now, rules=world.rules)
    world.materialize(DAY)
