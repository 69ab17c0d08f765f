"""Comparing `sessionized_events` and `sessions` with one pass over `raw_events`. Nothing is written."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date
from typing import Final, NamedTuple

from deltalake import DeltaTable
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from sessions_dagster.model.columns import (
    DATES,
    DELIVERED_BY,
    EVENT,
    EVENT_DATE,
    EVENT_IDENTITY,
    EVENTS,
    LAST_DATE,
    MINUTES,
    PRODUCT,
    SESSION_DATE,
    SESSION_END,
    SESSION_ID,
    SESSION_KEY,
    SESSION_START,
    TIMESTAMP,
    USER,
    USER_ACTIONS,
)
from sessions_dagster.model.counts import number_of
from sessions_dagster.model.rules import SessionRules
from sessions_dagster.model.schemas import SESSIONS_SCHEMA, sessionized_events_schema
from sessions_dagster.spark.tuning import tuned
from sessions_dagster.storage.delta_log import table_facts
from sessions_dagster.storage.warehouse import Warehouse
from sessions_dagster.transforms.checkpoint import checkpoint
from sessions_dagster.transforms.differences import (
    EXPECTED,
    FOUND,
    KIND_OF_DIFFERENCE,
    ROWS,
    DifferenceKind,
    all_of,
    differences,
    unequal_rows,
)
from sessions_dagster.transforms.one_pass import one_pass
from sessions_dagster.transforms.session_rows import session_rows

logger = logging.getLogger(__name__)

MAX_SHOWN: Final = 10
"""How many differences a report has."""

RAW_EVENTS: Final = "raw_events"
SESSIONIZED_EVENTS: Final = "sessionized_events"
SESSIONS: Final = "sessions"

_TABLE: Final = "table"
_COMPARED_WITH: Final = "compared_with"
_DATE: Final = "date"
_FIRST: Final = "first"
_LAST: Final = "last"

_SESSION: Final = (*SESSION_KEY, SESSION_START)
_OF_SESSION: Final = (SESSION_END, SESSION_ID, MINUTES, EVENTS, USER_ACTIONS, SESSION_DATE, LAST_DATE, DATES)
_OF_EVENT: Final = (SESSION_START, SESSION_END, SESSION_ID, DELIVERED_BY, EVENT_DATE)


class DateRange(NamedTuple):
    """Some dates, the first and the last one included."""

    first: date
    last: date


class Comparison(NamedTuple):
    """A table, and the table that it is compared with."""

    table: str
    compared_with: str


EVENTS_WITH_RAW: Final = Comparison(SESSIONIZED_EVENTS, RAW_EVENTS)
SESSIONS_WITH_RAW: Final = Comparison(SESSIONS, RAW_EVENTS)
SESSIONS_WITH_EVENTS: Final = Comparison(SESSIONS, SESSIONIZED_EVENTS)


@dataclass(frozen=True)
class Difference:
    """A row in which a table is not what another one says that it has to be.

    Attributes:
        kind: Whether the row is missing, extra or different.
        table: The table.
        compared_with: The table that says so.
        day: The date of the event, or that of the start of the session (UTC).
        user_id, product_code: Whose it is.
        event_id: The event; None if it is about a session.
        timestamp: The time of the event, or the start of the session (text, UTC).
        rows: How many rows it is about.
        expected, found: The values in words; None if there is no such row.
    """

    kind: str
    table: str
    compared_with: str
    day: date
    user_id: str
    product_code: str
    event_id: str | None
    timestamp: str
    rows: int
    expected: str | None
    found: str | None


Counts = Mapping[Comparison, Mapping[DifferenceKind, int]]
"""How many rows differ, by what was compared and by kind. Kinds without a row are not there."""


@dataclass(frozen=True)
class Differences:
    """The outcome of a comparison.

    Attributes:
        counts: How many rows differ.
        first: The first of them by table and time, at most `MAX_SHOWN`.
    """

    counts: Counts
    first: Sequence[Difference]

    def of(self, *tables: str) -> int:
        """How many rows of some tables differ."""
        return sum(sum(kinds.values()) for compared, kinds in self.counts.items() if compared.table in tables)


def carried_columns_of(events: DeltaTable, rules: SessionRules) -> list[str]:
    """The names of the carried columns of `sessionized_events`."""
    of_contract = set(sessionized_events_schema(rules, {}).names)
    return [field.name for field in events.schema().fields if field.name not in of_contract]


def one_pass_over(
    spark: SparkSession, warehouse: Warehouse, raw_events: DeltaTable, rules: SessionRules, carried: Sequence[str]
) -> DataFrame:
    """What `sessionized_events` has to be by all rows of `raw_events`. A carried column that these lack is NULL."""
    rows = warehouse.read(spark, warehouse.raw_events, raw_events.version())
    return one_pass(with_columns_of(rows, carried), rules, carried)


def with_columns_of(rows: DataFrame, names: Sequence[str]) -> DataFrame:
    """Rows with those of some columns added that they lack, as NULL: they have been carried only since."""
    missing = {name: F.lit(None) for name in names if name not in rows.columns}
    return rows.withColumns(missing) if missing else rows


def compare_tables(
    expected: DataFrame,
    found: Mapping[str, DataFrame],
    rules: SessionRules,
    carried: Sequence[str],
    days: DateRange | None,
    comparisons: Sequence[Comparison],
) -> Differences:
    """Compare the tables with what they have to be.

    Args:
        expected: Rows of `sessionized_events` as one pass gives them.
        found: The rows of the tables, by their names.
        rules: The session rules.
        carried: The names of the carried columns.
        days: Rows of these event dates, and sessions that lie over one of them, are compared; None: all.
        comparisons: What is compared.
    """
    columns = (*_OF_EVENT, *carried)
    pairs: dict[Comparison, Callable[[], DataFrame]] = {
        EVENTS_WITH_RAW: lambda: differences(
            _events_of(expected, days), _events_of(found[SESSIONIZED_EVENTS], days), EVENT_IDENTITY, columns
        ),
        SESSIONS_WITH_RAW: lambda: _session_differences(session_rows(expected, rules), found[SESSIONS], days),
        SESSIONS_WITH_EVENTS: lambda: _session_differences(
            session_rows(found[SESSIONIZED_EVENTS], rules), found[SESSIONS], days
        ),
    }
    # One query for all of them: Spark computes what they have in common once.
    each, _ = checkpoint(all_of([_labelled(pairs[comparison](), comparison) for comparison in comparisons]))
    counts: dict[Comparison, dict[DifferenceKind, int]] = {comparison: {} for comparison in comparisons}
    for row in each.groupBy(_TABLE, _COMPARED_WITH, KIND_OF_DIFFERENCE).agg(F.sum(ROWS).alias(ROWS)).collect():
        counts[Comparison(row[_TABLE], row[_COMPARED_WITH])][DifferenceKind(row[KIND_OF_DIFFERENCE])] = row[ROWS]
    order = (_TABLE, _COMPARED_WITH, TIMESTAMP, USER, PRODUCT, EVENT, KIND_OF_DIFFERENCE)
    first = [Difference(*row) for row in each.orderBy(*order).limit(MAX_SHOWN).collect()]
    return Differences(counts, first)


def extended_range(expected: DataFrame, found: DataFrame, days: DateRange) -> DateRange:
    """A range of dates, extended until no session that has to change lies over one of its ends.

    Args:
        expected: Rows of `sessionized_events` as one pass gives them.
        found: The rows of the table.
        days: The range.
    """
    unequal = unequal_rows(expected, found, [*EVENT_IDENTITY, EVENT_DATE, SESSION_START, SESSION_END])
    in_sessions = unequal.where(F.col(SESSION_START).isNotNull())
    first, last = F.to_date(SESSION_START).alias(_FIRST), F.to_date(SESSION_END).alias(_LAST)
    extents = [DateRange(*row) for row in in_sessions.select(first, last).distinct().collect()]
    while True:
        over = [each for each in extents if each.first <= days.last and each.last >= days.first]
        extended = DateRange(min(each.first for each in [days, *over]), max(each.last for each in [days, *over]))
        if extended == days:
            return days
        days = extended


def work_on(spark: SparkSession, *tables: DeltaTable | None) -> AbstractContextManager[None]:
    """A context in which Spark is tuned for work on whole tables."""
    rows = sum(table_facts(table).rows_written for table in tables if table is not None)
    logger.info("comparing the tables with one pass over raw_events: %s", number_of(rows, "row"))
    return tuned(spark, rows)


def _events_of(rows: DataFrame, days: DateRange | None) -> DataFrame:
    # The bits of tables with different lateness have different types.
    alike = rows.withColumn(DELIVERED_BY, F.col(DELIVERED_BY).cast("int"))
    return alike if days is None else alike.where(_in_range(F.col(EVENT_DATE), F.col(EVENT_DATE), days))


def _session_differences(expected: DataFrame, found: DataFrame, days: DateRange | None) -> DataFrame:
    expected, found = _sessions_of(expected, days), _sessions_of(found, days)
    compared = differences(expected, found, _SESSION, _OF_SESSION)
    return compared.withColumnRenamed(SESSION_START, TIMESTAMP).withColumn(EVENT, F.lit(None).cast("string"))


def _sessions_of(rows: DataFrame, days: DateRange | None) -> DataFrame:
    rows = rows.select(*SESSIONS_SCHEMA.names)
    return rows if days is None else rows.where(_in_range(F.to_date(SESSION_START), F.to_date(SESSION_END), days))


def _in_range(first: Column, last: Column, days: DateRange) -> Column:
    return (first <= F.lit(days.last)) & (last >= F.lit(days.first))


def _labelled(compared: DataFrame, comparison: Comparison) -> DataFrame:
    return compared.select(
        KIND_OF_DIFFERENCE,
        F.lit(comparison.table).alias(_TABLE),
        F.lit(comparison.compared_with).alias(_COMPARED_WITH),
        F.to_date(TIMESTAMP).alias(_DATE),
        USER,
        PRODUCT,
        EVENT,
        F.col(TIMESTAMP).cast("string").alias(TIMESTAMP),
        ROWS,
        EXPECTED,
        FOUND,
    )
