"""Refreshing `sessions`: the dates that changed in `sessionized_events` are rebuilt, in one atomic commit.

A session that has, or had, a row on a changed date lies over that date. So the sessions over the changed dates are
rebuilt from their events, and all others stay as they are.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sessions_dagster.model.columns import EVENT_DATE, LAST_DATE, SESSION_DATE, SESSION_END, SESSION_START
from sessions_dagster.model.counts import number_of
from sessions_dagster.model.date_columns import among, overlaps_dates
from sessions_dagster.model.dates import counted, days_between
from sessions_dagster.model.rules import SessionRules
from sessions_dagster.model.schemas import SESSIONS_SCHEMA
from sessions_dagster.spark.tuning import tuned
from sessions_dagster.storage.commit_metadata import following_metadata, version_followed
from sessions_dagster.storage.delta_log import partition_dates, partitions, partitions_touched, rows_around
from sessions_dagster.storage.delta_tables import ensure_table, replace_all, replace_partitions
from sessions_dagster.storage.log_statistics import statistics_of
from sessions_dagster.storage.sessionized_events import rules_of_table
from sessions_dagster.storage.warehouse import Warehouse, update
from sessions_dagster.transforms.checkpoint import checkpoint
from sessions_dagster.transforms.session_rows import extent_of_events, is_session_over, session_rows

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SessionsReport:
    """What refreshing `sessions` did.

    Attributes:
        version: The version of `sessions` after the run.
        events_version: The version of `sessionized_events` that it reflects now.
        committed: False if nothing had changed and so nothing was written.
        changed_dates: The event dates that had changed.
        rebuilt: The number of sessions that were rebuilt.
        seconds: Wall time.
    """

    version: int
    events_version: int
    committed: bool
    changed_dates: tuple[date, ...]
    rebuilt: int
    seconds: float


def refresh_sessions(spark: SparkSession, warehouse: Warehouse) -> SessionsReport:
    """Make `sessions` reflect `sessionized_events` as it is now, in one commit, or none if it does.

    Of two runs at the same time one waits on a local warehouse, and on S3 the later commit is refused.

    Args:
        spark: A session with Delta, in UTC.
        warehouse: Where the tables are.

    Raises:
        TableNotFoundError: If there is no `sessionized_events` yet. The message says how to make it.
        RulesMismatchError: If it was not created by this project.
        SizeError: If a Spark property of `spark.tuning.Sizes` is not a size.
    """
    began = time.monotonic()
    with warehouse.writing(spark):
        events_table = events_to_follow(warehouse)
        rules = rules_of_table(events_table)
        table = ensure_table(
            spark,
            warehouse,
            warehouse.sessions,
            SESSIONS_SCHEMA,
            partition_by=SESSION_DATE,
            properties=statistics_of(warehouse.sessions),
        )
        if version_followed(table, events_table) is None:
            # Another run may have committed to both in between, such as one that forgets users.
            update(events_table, warehouse.sessionized_events)
            rules = rules_of_table(events_table)
        changed = _changed_dates(events_table, table)
        rebuilt = 0
        if changed:
            rows = rows_around(changed, rules, events_table, table)
            logger.info("rebuilding the sessions of %s: %s", counted(changed, "date", "dates"), number_of(rows, "row"))
            with tuned(spark, rows):
                rebuilt = _rebuild(spark, warehouse, changed, events_table, table, rules)
        return SessionsReport(
            version=table.version(),
            events_version=events_table.version(),
            committed=bool(changed),
            changed_dates=tuple(changed),
            rebuilt=rebuilt,
            seconds=time.monotonic() - began,
        )


def remake_sessions(spark: SparkSession, warehouse: Warehouse, days: tuple[date, date] | None) -> int:
    """Write sessions anew from all events, in one commit, whatever `sessions` has now.

    Those over dates that have changed since `sessions` followed last are written in any case.

    Args:
        spark: A session with Delta, in UTC.
        warehouse: Where the tables are.
        days: The first and the last date of those over which a session has to lie to be written; None: all are.

    Returns:
        The version of `sessions` that has them.

    Raises:
        TableNotFoundError: If one of the two tables is missing.
        RulesMismatchError: If `sessionized_events` was not created by this project.
    """
    with warehouse.writing(spark):
        # In this order: whoever removes events and sessions meanwhile makes this commit be refused.
        table, events_table = warehouse.open_existing(warehouse.sessions), events_to_follow(warehouse)
        events = warehouse.read(spark, warehouse.sessionized_events, events_table.version())
        sessions = session_rows(events, rules_of_table(events_table))
        metadata = following_metadata(events_table)
        if days is None:
            replace_all(table, warehouse.sessions, sessions.repartition(SESSION_DATE), metadata)
            return table.version()
        dates = sorted({*days_between(*days), *_changed_dates(events_table, table)})
        existing = warehouse.read(spark, warehouse.sessions, table.version()).select(*sessions.columns)
        is_over = overlaps_dates(dates, F.to_date(SESSION_START), F.to_date(SESSION_END))
        begun = sessions.union(existing).where(is_over).select(SESSION_DATE).distinct().collect()
        in_range = {*partition_dates(table)} & {*dates}
        rewritten = sorted(in_range | {row[SESSION_DATE] for row in begun})
        if not rewritten:
            return table.version()
        # Whole partitions, of which nothing is kept: a row that somebody has changed may be anything.
        rows = sessions.where(among(SESSION_DATE, rewritten)).repartition(SESSION_DATE)
        replace_partitions(table, warehouse.sessions, SESSION_DATE, rewritten, rows, metadata)
        return table.version()


def events_to_follow(warehouse: Warehouse) -> DeltaTable:
    """The table `sessionized_events`.

    Raises:
        TableNotFoundError: If there is none yet. The message says how to make it.
    """
    table = warehouse.open(warehouse.sessionized_events)
    if table is None:
        raise TableNotFoundError(
            f"There is no table {warehouse.sessionized_events} yet, so there are no sessions to refresh. Materialize "
            "raw_events and sessionized_events first."
        )
    return table


def _changed_dates(events_table: DeltaTable, table: DeltaTable) -> list[date]:
    """The dates that changed since the version that `sessions` reflects; all dates if that is not known."""
    since = version_followed(table, events_table)
    touched = None if since is None else partitions_touched(events_table, since)
    dates = partitions(events_table) | partitions(table) if touched is None else touched
    return sorted(day for day in dates if day is not None)


def _rebuild(
    spark: SparkSession,
    warehouse: Warehouse,
    days: Sequence[date],
    events_table: DeltaTable,
    table: DeltaTable,
    rules: SessionRules,
) -> int:
    """Replace the sessions that lie over some dates; the number of sessions that are there now."""
    rows = warehouse.read(spark, warehouse.sessionized_events, events_table.version())
    events = _events_over(rows, days, set(partition_dates(events_table)), rules)
    sessions, metrics = checkpoint(session_rows(events, rules), F.count("*").alias("count"))
    existing = spark.read.format("delta").load(warehouse.sessions)
    over_days = overlaps_dates(days, F.col(SESSION_DATE), F.col(LAST_DATE))
    begun = sessions.select(SESSION_DATE).union(existing.where(over_days).select(SESSION_DATE)).distinct().collect()
    rewritten = sorted({*days, *(row[SESSION_DATE] for row in begun)})
    # A date before the changed ones also has sessions that do not reach them.
    kept = existing.where(F.col(SESSION_DATE).isin(*rewritten) & ~over_days)
    rows = kept.unionByName(sessions).repartition(SESSION_DATE)
    replace_partitions(table, warehouse.sessions, SESSION_DATE, rewritten, rows, following_metadata(events_table))
    return int(metrics["count"])


def _events_over(events: DataFrame, days: Sequence[date], existing_dates: set[date], rules: SessionRules) -> DataFrame:
    """All events of the sessions that lie over some dates, whatever dates the events are on."""
    # If its last user action is on the date before, a session lies over a date by its timeout alone.
    near = {day - timedelta(days=back) for day in days for back in range(rules.timeout_days + 1)}
    over_days = is_session_over(days)
    seeds = events.where(F.col(EVENT_DATE).isin(*(near & existing_dates)) & over_days)
    (extent,) = extent_of_events(seeds).collect()
    return events.where(F.col(EVENT_DATE).isin(*({*extent["dates"]} & existing_dates)) & over_days)
