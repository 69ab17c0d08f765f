"""Checking the tables: the quality rules of `sessionized_events` and `sessions`, and the batches that never landed.

The rules themselves are in `quality`. Here each table is read at one version, with the rules it was built with.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError
from pyspark.sql import SparkSession

from sessions_dagster.model.counts import number_of
from sessions_dagster.model.dates import counted, days_between
from sessions_dagster.model.rules import SessionRules
from sessions_dagster.quality.events import Finding, check_dates, missing_batches
from sessions_dagster.quality.sessions import SessionsFinding, compare_sessions
from sessions_dagster.spark.tuning import tuned
from sessions_dagster.storage.commit_metadata import version_followed
from sessions_dagster.storage.delta_log import partition_dates, rows_around
from sessions_dagster.storage.landed_batches import landed_days
from sessions_dagster.storage.sessionized_events import rules_of_table
from sessions_dagster.storage.warehouse import Warehouse

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EventsCheck:
    """What was found of some event dates of `sessionized_events`.

    Attributes:
        version: The version of the table that was checked.
        findings: One for each rule and event date.
        missing_batches: By event date, the batches of its window that never landed (see `missing_by_date`).
    """

    version: int
    findings: Sequence[Finding]
    missing_batches: Mapping[date, Sequence[date]]


@dataclass(frozen=True)
class SessionsCheck:
    """What was found of the sessions that start on some dates.

    Attributes:
        version: The version of `sessions` that was checked.
        findings: One for each date.
    """

    version: int
    findings: Sequence[SessionsFinding]


def check_events(spark: SparkSession, warehouse: Warehouse, first: date, last: date, first_batch: date) -> EventsCheck:
    """Check the rows of some event dates of `sessionized_events`, with one query over all of them.

    Args:
        spark: A session with Delta, in UTC.
        warehouse: Where the tables are.
        first: The first event date.
        last: The last one, included.
        first_batch: The first batch there can be; an earlier one is never missing.

    Raises:
        TableNotFoundError: If there is no such table.
        DamagedTableError: If a file of the table cannot be read.
        RulesMismatchError: If the table was not created by this project.
        SizeError: If a Spark property of `spark.tuning.Sizes` is not a size.
    """
    table = table_to_check(warehouse, warehouse.sessionized_events)
    rules, version = rules_of_table(table), table.version()
    days = days_between(first, last)
    rows = rows_around(days, rules, table)
    logger.info("checking %s of sessionized_events: %s", counted(days, "day", "days"), number_of(rows, "row"))
    with warehouse.reading(spark), tuned(spark, rows):
        findings = check_dates(warehouse.read(spark, warehouse.sessionized_events, version), first, last, rules)
    return EventsCheck(version, findings, missing_by_date(warehouse, days, first_batch, rules))


def missing_by_date(
    warehouse: Warehouse, days: Sequence[date], first_batch: date, rules: SessionRules
) -> dict[date, list[date]]:
    """The batches of the window of each event date that never landed.

    A batch that landed without a row has landed. The tables do not know that if an older version landed it, or if its
    rows were removed since.

    Args:
        warehouse: Where the tables are.
        days: The event dates.
        first_batch: The first batch there can be; an earlier one is never missing.
        rules: The session rules; their lateness is the length of the window.
    """
    with_rows = _batch_days(warehouse, warehouse.raw_events) | _batch_days(warehouse, warehouse.rejected_events)
    without_rows = {batch for day in days for batch in missing_batches(day, first_batch, with_rows, rules)}
    landed = with_rows | landed_days(warehouse, without_rows)
    return {day: missing_batches(day, first_batch, landed, rules) for day in days}


def check_sessions(spark: SparkSession, warehouse: Warehouse, first: date, last: date) -> SessionsCheck:
    """Compare the sessions that start on some dates with the version of `sessionized_events` that they reflect.

    Args:
        spark: A session with Delta, in UTC.
        warehouse: Where the tables are.
        first: The first date.
        last: The last one, included.

    Raises:
        TableNotFoundError: If one of the two tables is missing.
        DamagedTableError: If a file of one of them cannot be read.
        RulesMismatchError: If `sessionized_events` was not created by this project.
        SizeError: If a Spark property of `spark.tuning.Sizes` is not a size.
    """
    events = table_to_check(warehouse, warehouse.sessionized_events)
    sessions = table_to_check(warehouse, warehouse.sessions)
    # If the events have changed since, that is for the next run of `sessions`; its rows are not wrong for it.
    followed = version_followed(sessions, events)
    events_version = events.version() if followed is None else followed
    rules = rules_of_table(events)
    days = days_between(first, last)
    rows = rows_around(days, rules, events)
    logger.info("comparing the sessions of %s with %s", counted(days, "day", "days"), number_of(rows, "event"))
    with warehouse.reading(spark), tuned(spark, rows):
        findings = compare_sessions(
            warehouse.read(spark, warehouse.sessions, sessions.version()),
            warehouse.read(spark, warehouse.sessionized_events, events_version),
            first,
            last,
            rules,
        )
    return SessionsCheck(sessions.version(), findings)


def table_to_check(warehouse: Warehouse, table_uri: str) -> DeltaTable:
    """A table of the warehouse.

    Raises:
        TableNotFoundError: If it is missing. The message says how to make it.
    """
    table = warehouse.open(table_uri)
    if table is None:
        name = table_uri.rsplit("/", 1)[-1]
        raise TableNotFoundError(f"There is no table {table_uri} to check yet. Materialize {name} first.")
    return table


def _batch_days(warehouse: Warehouse, table_uri: str) -> set[date]:
    table = warehouse.open(table_uri)
    return set() if table is None else set(partition_dates(table))
