"""`DAGSTER_HOME` is lost between runs: the tables know all that the next run needs.

What the sensor does then is in its own tests.
"""

from pathlib import Path

import dagster as dg
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from sessions_dagster_tests.builders import sessions_of
from sessions_dagster_tests.oracle import sessionize
from sessions_dagster_tests.test_assets import BATCHES, DAYS, Graph

ALL = [dg.AssetKey(name) for name in ("raw_events", "sessionized_events", "sessions")]


def test_runs_that_know_nothing_of_each_other_end_in_the_table_of_one_pass(spark: SparkSession, tmp_path: Path) -> None:
    graph = Graph(spark, tmp_path)
    for day in DAYS:
        assert graph.run(day, day, ALL).success
        graph.instance = dg.DagsterInstance.ephemeral()
    expected = sessionize(event for batch in BATCHES.values() for event in batch)
    assert sorted(graph.world.table()) == sorted(expected)
    assert sorted(graph.world.sessions()) == sorted(sessions_of(expected))


def test_a_run_that_repeats_what_a_lost_instance_did_commits_nothing_but_the_landing(
    spark: SparkSession, tmp_path: Path
) -> None:
    graph = Graph(spark, tmp_path)
    assert graph.run(DAYS[0], DAYS[-1], ALL).success
    followers = (graph.world.warehouse.sessionized_events, graph.world.warehouse.sessions)
    before = [DeltaTable(uri).version() for uri in followers]
    entries = graph.world.corrections()
    graph.instance = dg.DagsterInstance.ephemeral()
    assert graph.run(DAYS[0], DAYS[-1], ALL).success
    assert [DeltaTable(uri).version() for uri in followers] == before
    assert graph.world.corrections() == entries
