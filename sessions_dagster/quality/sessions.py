"""The quality rule of `sessions`: it has exactly the sessions of `sessionized_events`, checked in one pass over both.

It is written without `transforms.session_rows` on purpose, because that is what it judges.
"""

from dataclasses import dataclass
from datetime import date
from typing import Final

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from sessions_dagster.model.columns import (
    DATES,
    EVENT,
    EVENT_DATE,
    EVENTS,
    LAST_DATE,
    MINUTES,
    PRODUCT,
    SESSION_DATE,
    SESSION_END,
    SESSION_ID,
    SESSION_START,
    USER,
    USER_ACTIONS,
)
from sessions_dagster.model.dates import days_between
from sessions_dagster.model.rules import SessionRules
from sessions_dagster.quality.events import MAX_EXAMPLES
from sessions_dagster.spark.compat import least_by

_SESSION: Final = (USER, PRODUCT, SESSION_START)
_COMPARED: Final = (SESSION_END, SESSION_ID, MINUTES, EVENTS, USER_ACTIONS, SESSION_DATE, LAST_DATE, DATES)
_DAY: Final = "day"
_TIMES: Final = "times"
_PROBLEM: Final = "problem"


@dataclass(frozen=True)
class WrongSession:
    """A session that the two tables do not agree about. Times are text, UTC."""

    user_id: str
    product_code: str
    session_start_ts: str
    problem: str


@dataclass(frozen=True)
class SessionsFinding:
    """What a comparison of the two tables found about the sessions that start on a date.

    Attributes:
        day: The date.
        checked: The number of sessions that at least one of the two tables has.
        offenders: How many of them are not the same in both.
        examples: The first of them in time, at most `MAX_EXAMPLES`.
    """

    day: date
    checked: int
    offenders: int
    examples: tuple[WrongSession, ...]


def compare_sessions(
    sessions: DataFrame, events: DataFrame, first: date, last: date, rules: SessionRules
) -> list[SessionsFinding]:
    """Compare the sessions that start on `first` .. `last` with their events.

    Args:
        sessions: The table `sessions`, at a fixed version; the Spark session is in UTC.
        events: `sessionized_events`, at a fixed version.
        first: The first date.
        last: The last one, included.
        rules: The session rules that the tables were built with.

    Returns:
        One finding for each date.
    """
    found = sessions.where(F.col(SESSION_DATE).between(F.lit(first), F.lit(last)))
    expected = _sessions_of(_events_of_sessions(events, first, last), rules)
    judged = _judged(found, expected).groupBy(F.to_date(SESSION_START).alias(_DAY))
    example = F.struct(*[F.col(name).cast("string").alias(name) for name in (*_SESSION, _PROBLEM)])
    in_order = F.when(F.col(_PROBLEM).isNotNull(), F.struct(SESSION_START, USER, PRODUCT))
    by_day = judged.agg(
        F.count("*").alias("checked"),
        F.count(_PROBLEM).alias("offenders"),
        least_by(example, in_order, MAX_EXAMPLES).alias("examples"),
    )
    rows = {row[_DAY]: row for row in by_day.collect()}
    return [_finding(day, rows.get(day)) for day in days_between(first, last)]


def _events_of_sessions(events: DataFrame, first: date, last: date) -> DataFrame:
    """The events of the sessions that start on some dates. None of them is dated later than the end of its session."""
    of_sessions = events.where(F.to_date(SESSION_START).between(F.lit(first), F.lit(last)))
    begun = of_sessions.where(F.col(EVENT_DATE).between(F.lit(first), F.lit(last)))
    (row,) = begun.agg(F.to_date(F.max(SESSION_END)).alias("end")).collect()
    return of_sessions.where(F.col(EVENT_DATE).between(F.lit(first), F.lit(row["end"] or last)))


def _sessions_of(events: DataFrame, rules: SessionRules) -> DataFrame:
    """The sessions as `sessions` should have them; only their `session_id` is taken from the events."""
    is_action = F.col(EVENT).isin(*rules.user_action_ids)
    micros = F.unix_micros(F.max(SESSION_END)) - F.unix_micros(SESSION_START)
    days = F.datediff(F.max(SESSION_END), F.col(SESSION_START))
    return events.groupBy(*_SESSION).agg(
        F.max(SESSION_END).alias(SESSION_END),
        F.max(SESSION_ID).alias(SESSION_ID),
        (micros / 60_000_000).alias(MINUTES),
        F.count("*").alias(EVENTS),
        F.sum(is_action.cast("int")).alias(USER_ACTIONS),
        F.to_date(F.max(SESSION_START)).alias(SESSION_DATE),
        F.to_date(F.max(SESSION_END)).alias(LAST_DATE),
        (days + 1).alias(DATES),
    )


def _judged(found: DataFrame, expected: DataFrame) -> DataFrame:
    """Every session of either side, and what is wrong with it; NULL if nothing is."""
    once = found.groupBy(*_SESSION).agg(
        F.count("*").alias(_TIMES), *[F.max(name).alias(f"found_{name}") for name in _COMPARED]
    )
    both = once.join(expected, [*_SESSION], "full")
    differences = [
        F.when(
            ~F.col(f"found_{name}").eqNullSafe(F.col(name)),
            F.concat(F.lit(f"{name} is "), _text(f"found_{name}"), F.lit(", but should be "), _text(name)),
        )
        for name in _COMPARED
    ]
    problem = (
        F.when(F.col(_TIMES).isNull(), F.lit("missing"))
        .when(F.col(EVENTS).isNull(), F.lit("no event is in such a session"))
        .when(F.col(_TIMES) > 1, F.lit("there more than once"))
    )
    return both.select(*_SESSION, F.coalesce(problem, *differences).alias(_PROBLEM))


def _text(name: str) -> Column:
    return F.coalesce(F.col(name).cast("string"), F.lit("NULL"))


def _finding(day: date, row: Row | None) -> SessionsFinding:
    if row is None:
        return SessionsFinding(day, 0, 0, ())
    examples = tuple(WrongSession(*example) for example in row["examples"] or ())
    return SessionsFinding(day, row["checked"], row["offenders"], examples)
