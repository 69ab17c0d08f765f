"""The table `sessions`: one row per session, kept in step with `sessionized_events` by the dates that changed there.

A session that has, or had, a row on a changed date lies over that date. So the sessions over these dates are made anew
from the events, and all others stay as they are.
"""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from deltalake import DeltaTable
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from sessions_dagster.core.contract import (
    DATES,
    EVENT_DATE,
    EVENTS,
    LAST_DATE,
    MINUTES,
    SESSION_DATE,
    SESSION_END,
    SESSION_ID,
    SESSION_KEY,
    SESSION_START,
    SESSIONS_SCHEMA,
    USER_ACTIONS,
    SessionRules,
)
from sessions_dagster.core.correction import extent_of_sessions, overlaps_dates
from sessions_dagster.core.days import ONE_DAY
from sessions_dagster.core.session_table import rules_of_table
from sessions_dagster.core.sessionize import is_user_action, session_id
from sessions_dagster.core.settings import compiled_if_worth, rows_around
from sessions_dagster.core.tables import ensure_table
from sessions_dagster.lake.log import event_dates, following_metadata, partitions, partitions_touched, version_followed
from sessions_dagster.lake.places import Warehouse

_US_PER_MINUTE: Final = 60_000_000


@dataclass(frozen=True)
class SessionsReport:
    """What following `sessionized_events` did.

    Attributes:
        version: Version of `sessions` after the run.
        events_version: The version of `sessionized_events` that it reflects now.
        committed: False when nothing had changed and so nothing was written.
        changed_dates: The event dates that had changed.
        made: Sessions made anew.
        seconds: Wall time.
    """

    version: int
    events_version: int
    committed: bool
    changed_dates: tuple[date, ...]
    made: int
    seconds: float


def follow_events(spark: SparkSession, warehouse: Warehouse) -> SessionsReport:
    """Make `sessions` reflect `sessionized_events` as it is now, in one commit, or none if it does.

    Only one run may write at a time: on a local warehouse a lock sees to that, elsewhere the scheduler must.

    Args:
        spark: A session with Delta, in UTC.
        warehouse: Where the tables are; `sessionized_events` must be there.

    Raises:
        TableNotFoundError: If there is no `sessionized_events` yet.
        RulesMismatchError: If it was not created by this project.
    """
    began = time.monotonic()
    with warehouse.writing():
        events_table = DeltaTable(warehouse.sessionized_events)
        rules, events_version = rules_of_table(events_table), events_table.version()
        ensure_table(spark, warehouse.sessions, SESSIONS_SCHEMA, partition_by=SESSION_DATE, properties={})
        table = DeltaTable(warehouse.sessions)
        changed = _changed_dates(events_table, table)
        made = 0
        if changed:
            looked_at = rows_around(changed, warehouse.sessionized_events, warehouse.sessions)
            with compiled_if_worth(spark, looked_at):
                events_then = spark.read.format("delta").option("versionAsOf", events_version)
                events = events_then.load(warehouse.sessionized_events)
                over_dates = _events_over(events, changed, event_dates(events_table), rules)
                anew = session_rows(over_dates, rules).localCheckpoint(eager=True)
                made = anew.count()
                held = spark.read.format("delta").load(warehouse.sessions)
                _replace(held, anew, changed, events_table, warehouse.sessions)
        return SessionsReport(
            version=DeltaTable(warehouse.sessions).version(),
            events_version=events_version,
            committed=bool(changed),
            changed_dates=tuple(changed),
            made=made,
            seconds=time.monotonic() - began,
        )


def session_rows(events: DataFrame, rules: SessionRules) -> DataFrame:
    """Sessions from their events.

    Args:
        events: Rows of `sessionized_events`: all of those of each session.
        rules: The session rules.

    Returns:
        Rows of `sessions`, one per session.
    """
    sessions = events.where(F.col(SESSION_START).isNotNull()).groupBy(*SESSION_KEY, SESSION_START)
    counted = sessions.agg(
        F.max(SESSION_END).alias(SESSION_END),
        F.count("*").alias(EVENTS),
        F.count_if(is_user_action(rules)).alias(USER_ACTIONS),
    )
    first, last = F.to_date(SESSION_START), F.to_date(SESSION_END)
    complete = counted.withColumns(
        {
            SESSION_ID: session_id(),
            MINUTES: (F.unix_micros(SESSION_END) - F.unix_micros(SESSION_START)) / _US_PER_MINUTE,
            SESSION_DATE: first,
            LAST_DATE: last,
            DATES: F.datediff(last, first) + 1,
        }
    )
    return complete.select(*SESSIONS_SCHEMA.names)


def _changed_dates(events_table: DeltaTable, table: DeltaTable) -> list[date]:
    """The dates that changed since the version that `sessions` reflects; all there are where that is not known."""
    since = version_followed(table, events_table)
    touched = None if since is None else partitions_touched(events_table, since)
    dates = partitions(events_table) | partitions(table) if touched is None else touched
    return sorted(day for day in dates if day is not None)


def _events_over(events: DataFrame, days: Sequence[date], held: Collection[date], rules: SessionRules) -> DataFrame:
    """All events of the sessions that lie over some days, whatever dates they are on."""
    # Where its last user action is on the day before, a session lies over a day by its timeout alone.
    days_before = -(-rules.timeout // ONE_DAY)
    near = {day - back * ONE_DAY for day in days for back in range(days_before + 1)}
    over_days = overlaps_dates(days, F.to_date(SESSION_START), F.to_date(SESSION_END))
    (extent,) = extent_of_sessions(events.where(_is_on(near & {*held}) & over_days)).collect()
    return events.where(_is_on({*extent["dates"]} & {*held}) & over_days)


def _replace(held: DataFrame, anew: DataFrame, days: Sequence[date], events_table: DeltaTable, table_uri: str) -> None:
    """Put sessions in the place of those that lie over some days."""
    over_days = overlaps_dates(days, F.col(SESSION_DATE), F.col(LAST_DATE))
    begun = anew.select(SESSION_DATE).union(held.where(over_days).select(SESSION_DATE)).distinct().collect()
    rewritten = sorted({*days, *(row[SESSION_DATE] for row in begun)})
    # A date before the changed ones has sessions that do not reach them, too.
    kept = held.where(F.col(SESSION_DATE).isin(*rewritten) & ~over_days)
    literals = ", ".join(f"DATE'{day.isoformat()}'" for day in rewritten)
    (
        kept.unionByName(anew)
        .repartition(SESSION_DATE)
        .write.format("delta")
        .mode("overwrite")
        .option("replaceWhere", f"{SESSION_DATE} IN ({literals})")
        .option("userMetadata", following_metadata(events_table))
        .save(table_uri)
    )


def _is_on(days: Collection[date]) -> Column:
    return F.col(EVENT_DATE).isin(*days)
