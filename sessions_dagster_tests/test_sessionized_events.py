"""Statistics and session rules of the table. A run with other rules is refused and changes nothing."""

from datetime import date, datetime, timedelta
from pathlib import Path

import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from sessions_dagster.errors import RulesMismatchError
from sessions_dagster.model.columns import EVENT_DATE, TIMESTAMP
from sessions_dagster.model.rules import SessionRules
from sessions_dagster.model.schemas import sessionized_events_schema
from sessions_dagster.pipeline.apply import apply_batches
from sessions_dagster.storage.delta_tables import ensure_table
from sessions_dagster_tests.builders import World, columns_with_statistics
from sessions_dagster_tests.oracle import Event

DAY = date(2025, 9, 20)
NOON = datetime(2025, 9, 20, 12)
OTHER_RULES = [
    SessionRules(timeout=timedelta(minutes=10)),
    SessionRules(user_action_ids=frozenset({"a", "x"})),
    SessionRules(lateness_days=7),
]


@pytest.fixture(scope="module")
def world(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> World:
    """A table that was built with the default rules, and a batch that is not applied yet."""
    world = World(spark, tmp_path_factory.mktemp("rules"))
    world.land(DAY, [Event("ada", "a", "idea", NOON)])
    world.materialize(DAY)
    world.land(DAY, [Event("ada", "a", "idea", NOON), Event("ada", "x", "idea", NOON)])
    return world


def test_only_timestamp_columns_have_statistics_in_the_log(world: World) -> None:
    assert columns_with_statistics(world.warehouse.sessionized_events) == {TIMESTAMP}


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (OTHER_RULES[0], "this run has a timeout of 0:10:00, user actions a, b, c and 5 days of lateness"),
        (OTHER_RULES[2], "this run has a timeout of 0:05:00, user actions a, b, c and 7 days of lateness"),
        (OTHER_RULES[1], "this run has a timeout of 0:05:00, user actions a, x and 5 days of lateness"),
    ],
)
def test_the_error_about_other_rules_names_both_rules_and_a_remedy(
    world: World, rules: SessionRules, message: str
) -> None:
    with pytest.raises(RulesMismatchError) as error:
        apply_batches(world.spark, world.warehouse, [DAY], rules)
    assert "was built with a timeout of 0:05:00, user actions a, b, c and 5 days of lateness" in str(error.value)
    assert message in str(error.value)
    assert "run with the rules that it was built with, or make the tables anew with the others" in str(error.value)


@pytest.mark.parametrize("rules", OTHER_RULES, ids=["timeout", "user actions", "lateness"])
def test_a_run_with_other_rules_commits_nothing(world: World, rules: SessionRules) -> None:
    version = DeltaTable(world.warehouse.sessionized_events).version()
    with pytest.raises(RulesMismatchError):
        apply_batches(world.spark, world.warehouse, [DAY], rules)
    assert DeltaTable(world.warehouse.sessionized_events).version() == version


def test_a_table_without_rules_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    world = World(spark, tmp_path)
    table = world.warehouse.sessionized_events
    schema = sessionized_events_schema(world.rules, {})
    ensure_table(spark, world.warehouse, table, schema, partition_by=EVENT_DATE)
    with pytest.raises(RulesMismatchError, match=r"has no table property 'sessions\.timeout_us'") as error:
        world.materialize(DAY)
    assert "Use another warehouse root" in str(error.value)
