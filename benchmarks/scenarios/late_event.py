"""How much is written for a single late event."""

from dataclasses import asdict
from datetime import date
from typing import Final

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from benchmarks.contenders import Ours
from benchmarks.footprint import writes_of
from benchmarks.measures import Findings, Measure, Target, timed
from benchmarks.scenarios.bench import Bench, Sizes, in_words
from benchmarks.workload import Workload, write_batch
from sessions_dagster.input.folders import InputRoot
from sessions_dagster.model.columns import (
    EVENT,
    EVENT_DATE,
    PRODUCT,
    SESSION_END,
    SESSION_KEY,
    SESSION_START,
    TIMESTAMP,
    USER,
)
from sessions_dagster.model.rules import SessionRules
from sessions_dagster.spark.session import SparkSettings, spark_session
from sessions_dagster.storage.warehouse import Warehouse

EVENTS_PER_DAY: Final = Sizes(full=1_000_000, small=2_000)


def measure(bench: Bench) -> Findings:
    """Apply one late event that extends a session, on a table of six days, and measure what is written."""
    workload = Workload(bench.size(EVENTS_PER_DAY))
    *before, day = workload.days(bench.scale.history_days + 1)
    input_root, folder = bench.input(workload, before), bench.tables("late-event")
    with spark_session(SparkSettings()) as spark:
        history = Ours(spark, input_root, Warehouse(str(folder / "warehouse")))
        bench.log("building the table")
        for each in before:
            history.land(each)
        history.sessionize_range(before)
        rows = history.rows().count()
        event = _event_that_extends_a_session(history.rows(), before[-1])
        write_batch(event, folder / "input", day)
        ours = Ours(spark, InputRoot(str(folder / "input")), history.warehouse)
        ours.land(day)
        seconds, report = timed(lambda: ours.sessionize(day))
        writes = writes_of(ours.warehouse.sessionized_events, report.version)
    updated = sum(report.updated.values())
    bench.log(f"{seconds:.1f} s, {updated} rows updated, {writes}")
    row = Measure(
        f"written for one late event into {in_words(rows)} rows",
        [writes.bytes / 1e6],
        Target("at most 1 MB, one date", high=1),
        condition=len(writes.dates) == 1 and updated > 0,
        unit="MB",
    )
    return Findings([row], {"rows": rows, "seconds": seconds, "writes": asdict(writes)})


def _event_that_extends_a_session(table: DataFrame, day: date) -> pa.Table:
    """Return a batch of one user action, one second before the end of the first session of a day."""
    sessions = table.where((F.col(EVENT_DATE) == day) & (F.to_date(SESSION_START) == day))
    ends = F.unix_micros(F.max(SESSION_END)).alias("ends")
    found = sessions.groupBy(*SESSION_KEY, SESSION_START).agg(ends).orderBy(SESSION_START, *SESSION_KEY).first()
    assert found is not None, "every day of the workload has sessions"
    return pa.table(
        {
            USER: [found[USER]],
            EVENT: [min(SessionRules().user_action_ids)],
            PRODUCT: [found[PRODUCT]],
            TIMESTAMP: pa.array([found["ends"] - 1_000_000], pa.timestamp("us", tz="UTC")),
        }
    )
