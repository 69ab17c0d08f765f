"""The bot filter: it quarantines a user with too many events in a batch, based on that batch alone."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Final

import dagster as dg
import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from sessions_dagster.config import SessionsConfig
from sessions_dagster.defs import build_defs
from sessions_dagster.errors import SettingsError
from sessions_dagster.model.columns import BATCH_DATE, REASON, USER
from sessions_dagster.model.rejects import DEFAULT_BOT_LIMIT, RejectReason
from sessions_dagster.pipeline import classify
from sessions_dagster.pipeline.land import LandingReport
from sessions_dagster.settings import BOT_LIMIT_VARIABLE
from sessions_dagster.spark.tuning import Sizes, spark_property
from sessions_dagster_tests.builders import World, write_batch
from sessions_dagster_tests.oracle import Event, sessionize

LIMIT: Final = 3
DAY: Final = date(2025, 9, 20)
NEXT_DAY: Final = DAY + timedelta(days=1)
NOON: Final = datetime(2025, 9, 20, 12)


def _events(user: str, count: int, first: datetime = NOON) -> list[Event]:
    return [Event(user, "a", "idea", first + timedelta(minutes=number)) for number in range(count)]


AT_THE_LIMIT: Final = _events("at the limit", LIMIT)
OVER_IT: Final = _events("over it", LIMIT + 1)
DELIVERED_TWICE: Final = _events("delivered twice", LIMIT) * 2
IN_TWO_PRODUCTS: Final = [
    *_events("in two products", 2),
    *(event._replace(product="pyc") for event in _events("in two products", 2)),
]
PARTLY_TOO_LATE: Final = [*_events("partly too late", LIMIT), *_events("partly too late", 2, datetime(2025, 9, 1))]
OVER_IT_BEFORE: Final = [*OVER_IT[:-1], *_events("over it", 1, NOON - timedelta(days=2)), *_events("over it", 1)]
BATCH: Final = [*AT_THE_LIMIT, *OVER_IT_BEFORE, *DELIVERED_TWICE, *IN_TWO_PRODUCTS, *PARTLY_TOO_LATE]


class Landed:
    """A landed batch with its report and the rows of both tables."""

    def __init__(self, world: World, events: Sequence[Event], bot_limit: int | None) -> None:
        self.report: LandingReport = world.land(DAY, events, bot_limit)
        self.accepted = _slice(world.warehouse.raw_events)
        self.rejected = _slice(world.warehouse.rejected_events)

    def users(self) -> set[str]:
        return {row[USER] for row in self.accepted}


def _slice(table: str) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = DeltaTable(table).to_pyarrow_table(filters=[(BATCH_DATE, "=", DAY)]).to_pylist()
    return rows


@pytest.fixture(scope="module")
def landed(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Landed:
    return Landed(World(spark, tmp_path_factory.mktemp("bots")), BATCH, LIMIT)


def _reasons(landed: Landed, user: str) -> list[str]:
    return sorted(row[REASON] for row in landed.rejected if row[USER] == user)


def test_a_user_with_exactly_the_limit_of_events_is_accepted(landed: Landed) -> None:
    assert _reasons(landed, "at the limit") == []


def test_one_event_more_than_the_limit_rejects_every_row_of_the_user(landed: Landed) -> None:
    assert _reasons(landed, "over it") == [RejectReason.BOT] * len(OVER_IT_BEFORE)
    assert "over it" not in landed.users()


def test_an_event_that_is_delivered_twice_counts_once(landed: Landed) -> None:
    assert _reasons(landed, "delivered twice") == []


def test_the_limit_counts_the_events_of_all_products(landed: Landed) -> None:
    assert _reasons(landed, "in two products") == [RejectReason.BOT] * 4


def test_rows_that_are_rejected_anyway_do_not_count_and_keep_their_reason(landed: Landed) -> None:
    assert _reasons(landed, "partly too late") == [RejectReason.TOO_LATE] * 2
    assert "partly too late" in landed.users()


def test_the_report_counts_bots_as_rejected_and_not_as_accepted(landed: Landed) -> None:
    assert landed.report.accepted == len(landed.accepted)
    assert landed.report.rejected == {RejectReason.TOO_LATE: 2, RejectReason.BOT: len(OVER_IT_BEFORE) + 4}
    assert landed.report.late == 0


def test_users_of_the_same_group_are_counted_separately(
    spark: SparkSession, tmp_path: Path, landed: Landed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classify, "_GROUPS_OF_USERS", 1)
    assert Landed(World(spark, tmp_path), BATCH, LIMIT).users() == landed.users()


def test_without_a_limit_no_user_is_a_bot(spark: SparkSession, tmp_path: Path) -> None:
    landed = Landed(World(spark, tmp_path), BATCH, None)
    assert landed.users() == {event.user for event in BATCH}


def test_landing_again_with_a_higher_limit_accepts_the_user(spark: SparkSession, tmp_path: Path) -> None:
    world = World(spark, tmp_path)
    for limit, expected in ((LIMIT, AT_THE_LIMIT), (LIMIT + 1, AT_THE_LIMIT + OVER_IT), (LIMIT, AT_THE_LIMIT)):
        world.land(DAY, [*AT_THE_LIMIT, *OVER_IT], limit)
        world.materialize(DAY)
        assert set(world.table()) == sessionize(expected)


def test_bots_depend_neither_on_other_batches_nor_on_their_order(spark: SparkSession, tmp_path: Path) -> None:
    # Over the limit in both batches together, but only in the last one alone.
    batches = {
        DAY: _events("over it", LIMIT),
        NEXT_DAY: _events("over it", LIMIT - 1, NOON + timedelta(hours=1)),
        NEXT_DAY + timedelta(days=1): _events("over it", LIMIT + 1, NOON + timedelta(hours=2)),
    }
    expected = sessionize([*batches[DAY], *batches[NEXT_DAY]])
    for number, order in enumerate((sorted(batches), sorted(batches, reverse=True))):
        world = World(spark, tmp_path / str(number))
        for day in order:
            world.land(day, batches[day], LIMIT)
            world.materialize(day)
        assert set(world.table()) == expected, order


def test_the_asset_lands_with_the_limit_of_its_product_and_counts_bots(spark: SparkSession, tmp_path: Path) -> None:
    world = World(spark, tmp_path)
    write_batch([*AT_THE_LIMIT, *OVER_IT], Path(world.input.batch_folder(DAY)))
    config = SessionsConfig(
        start_date=DAY, input_root=world.input.root, warehouse_root=world.warehouse.root, bot_limit=LIMIT
    )
    job = build_defs(config).resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(partition_key=str(DAY), asset_selection=[dg.AssetKey("raw_events")])
    events = result.asset_materializations_for_node("raw_events")
    (event,) = [each for each in events if each.asset_key == dg.AssetKey("raw_events")]
    assert event.metadata["rejected_bot"].value == len(OVER_IT)
    assert event.metadata["dagster/partition_row_count"].value == len(AT_THE_LIMIT)


def test_the_default_limit_is_that_of_the_contract_and_0_disables_the_filter() -> None:
    assert SessionsConfig(start_date=DAY).bot_limit == DEFAULT_BOT_LIMIT == 100_000
    assert SessionsConfig(start_date=DAY, bot_limit=0).bot_limit is None
    with pytest.raises(SettingsError, match="bot_limit"):
        SessionsConfig(start_date=DAY, bot_limit=-1)


def test_the_environment_sets_the_limit() -> None:
    assert SessionsConfig.from_env({BOT_LIMIT_VARIABLE: "7"}).bot_limit == 7


@pytest.mark.parametrize("bytes_of_a_large_batch", ["1", "1000000"])
def test_a_batch_without_an_accepted_row_makes_no_commit(
    spark: SparkSession, tmp_path: Path, bytes_of_a_large_batch: str
) -> None:
    world = World(spark, tmp_path)
    too_late = _events("too late", 1, datetime(2025, 9, 1))
    with spark_property(spark, Sizes.properties()["bytes_per_file"], bytes_of_a_large_batch):
        reports = [
            world.land(DAY, too_late, LIMIT),
            world.land(DAY, too_late),
            world.land(DAY, [*OVER_IT, *too_late], LIMIT),
            world.land(DAY, AT_THE_LIMIT, LIMIT),
        ]
    assert [(report.raw_events_version, report.accepted) for report in reports] == [(0, 0), (0, 0), (0, 0), (1, LIMIT)]
