"""What the table has and a correction may change: which of its rows are looked up, and the facts that they become.

The incoming facts say where to look (`lookup_ranges`). Of the rows found there, a session that loses no user action
becomes a single session span. A session that loses one is *rebuilt*: all its events become facts, because it may fall
apart. The rows of a session whose bounds changed are its *dependent rows*: they get the new bounds without ever having
been facts.
"""

from collections.abc import Sequence
from datetime import date
from functools import reduce
from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from sessions_dagster.model.changes import CHANGE, Change
from sessions_dagster.model.columns import (
    EVENT_IDENTITY,
    NEW_END,
    NEW_START,
    OLD_END,
    OLD_START,
    SESSION_END,
    SESSION_KEY,
    SESSION_START,
    TIMESTAMP,
)
from sessions_dagster.model.date_columns import all_dates_between, array_of
from sessions_dagster.model.rules import SessionRules
from sessions_dagster.transforms.facts import FACT_KIND, FactKind, existing_facts, is_session_span
from sessions_dagster.transforms.sessionize import INTERVAL_START, is_user_action

MAX_SEARCHED_INSTANTS: Final = 256
"""If a time bucket has the instants of more facts than this, its rows are not compared with each of them."""

Extent = tuple[Column, Column]
"""Two aggregates over stretches of time: `count` (long), and `dates` (array of date), the dates they lie on."""

_FROM: Final = "__range_from"
_UNTIL: Final = "__range_until"
_TIME_BUCKET: Final = "__time_bucket"
_INSTANTS: Final = "__instants"
_IS_EVENT_FACT: Final = "__is_event_fact"
_IS_SPAN_FACT: Final = "__is_span_fact"
_START_US: Final = "__old_start_us"


def facts_near_dates(facts: DataFrame, dates: Sequence[date], rules: SessionRules) -> DataFrame:
    """The facts that can touch a row of one of some event dates: they lie within the timeout of such a date."""
    at, timeout = F.col(INTERVAL_START), F.lit(rules.timeout)
    reached = F.sequence(F.to_date(at - timeout), F.to_date(at + timeout))
    # The dates are not compared one by one, for the reason given in `date_columns.among`.
    return facts.where(F.arrays_overlap(reached, array_of(dates)))


def lookup_ranges(facts: DataFrame, rules: SessionRules) -> DataFrame:
    """The time within the timeout of any fact: there, existing sessions may be touched.

    Time is cut into buckets of twice the timeout. In a bucket there is one range, from the earliest to the latest fact,
    even if there is a longer pause between facts: what is looked up without need stays as it is.

    Args:
        facts: Facts of the kind *event*.
        rules: The session rules.

    Returns:
        `user_id, product_code` (string), `__time_bucket` (long), `__range_from`, `__range_until` (timestamp, both
        inclusive), `__instants` (array of timestamp: those of the facts in the bucket itself); one row per key and
        bucket.
    """
    at, timeout = F.col(INTERVAL_START), F.lit(rules.timeout)
    reached = F.sequence(_time_bucket(at - timeout, rules), _time_bucket(at + timeout, rules))
    near = facts.select(*SESSION_KEY, INTERVAL_START, F.explode(reached).alias(_TIME_BUCKET))
    return near.groupBy(*SESSION_KEY, _TIME_BUCKET).agg(
        (F.min(INTERVAL_START) - timeout).alias(_FROM),
        (F.max(INTERVAL_START) + timeout).alias(_UNTIL),
        F.collect_set(F.when(_time_bucket(at, rules) == F.col(_TIME_BUCKET), at)).alias(_INSTANTS),
    )


def extent_of_lookup_ranges() -> Extent:
    """The extent of rows of `lookup_ranges`."""
    return _extent(F.col(_FROM), F.col(_UNTIL))


def facts_in_ranges(existing: DataFrame, ranges: DataFrame, rules: SessionRules) -> DataFrame:
    """Facts of what the table has in lookup ranges: the spans of the sessions, and events that they do not cover.

    An event becomes a fact of its own if it is in no session, or if an incoming fact has the same time: the two may be
    the same event, or a session may now start at that time, which was the end of the session of the event. If a time
    bucket is crowded with facts, all of its events become facts. A fact too many changes nothing, as long as the
    session of the event is a fact as well.

    A session that an event at `t` touches has a user action within the timeout of `t`, before or after. So every
    touched session has a user action in a lookup range, whose row says how far the session reaches. Each such row gives
    the same span; `reconcile` combines them together with the deliveries, which saves a shuffle.

    Args:
        existing: Rows of `sessionized_events` on all dates of the ranges.
        ranges: As `lookup_ranges` gives them.
        rules: The session rules.

    Returns:
        Facts.
    """
    at = F.col(TIMESTAMP)
    in_range = (_time_bucket(at, rules) == F.col(_TIME_BUCKET)) & at.between(F.col(_FROM), F.col(_UNTIL))
    # The batch of a very active user that lands again has thousands of instants in a bucket, and as many rows to
    # compare with each of them.
    is_crowded = F.size(_INSTANTS) > MAX_SEARCHED_INSTANTS
    has_instant = is_crowded | F.array_contains(_INSTANTS, at)
    is_in_session = F.col(SESSION_START).isNotNull()
    near = existing.join(_renamed(ranges), _has_same_key() & in_range)
    near = near.withColumn(_IS_EVENT_FACT, ~is_in_session | has_instant)
    # The session of an event that becomes a fact need not have a user action in the bucket: without its span the event
    # would be in no session.
    near = near.withColumn(_IS_SPAN_FACT, is_in_session & (is_user_action(rules) | F.col(_IS_EVENT_FACT)))
    # Most rows in range become no fact. They are dropped before the others are doubled.
    found = near.where(F.col(_IS_EVENT_FACT) | F.col(_IS_SPAN_FACT))
    kinds = {_IS_EVENT_FACT: FactKind.EVENT, _IS_SPAN_FACT: FactKind.SESSION_SPAN}
    kinds_of_row = F.array_compact(F.array(*[F.when(F.col(flag), kind.value) for flag, kind in kinds.items()]))
    return existing_facts(found.withColumn(FACT_KIND, F.explode(kinds_of_row)), rules)


def rebuilt_sessions(retracted: DataFrame, rules: SessionRules) -> DataFrame:
    """The existing sessions that lose a user action.

    Args:
        retracted: Facts as `facts.retracted_facts` gives them.
        rules: The session rules.

    Returns:
        `user_id, product_code` (string), `old_start_ts, old_end_ts` (timestamp), one row per session.
    """
    actions = retracted.where(is_user_action(rules) & F.col(OLD_START).isNotNull())
    return actions.select(*SESSION_KEY, OLD_START, OLD_END).distinct()


def extent_of_sessions() -> Extent:
    """The extent of sessions with `old_start_ts` and `old_end_ts` (timestamp)."""
    return _extent(F.col(OLD_START), F.col(OLD_END))


def facts_of_sessions(existing: DataFrame, sessions: DataFrame, rules: SessionRules) -> DataFrame:
    """Facts of all events of some sessions.

    Args:
        existing: Rows of `sessionized_events` on all dates of the sessions.
        sessions: `user_id, product_code` (string), `old_start_ts` (timestamp).
        rules: The session rules.

    Returns:
        Facts of the kind *event*.
    """
    rows = existing.join(_renamed(sessions), _has_same_session(SESSION_START), "left_semi")
    return existing_facts(rows.withColumn(FACT_KIND, F.lit(FactKind.EVENT.value)), rules)


def without_spans(facts: DataFrame, sessions: DataFrame) -> DataFrame:
    """The facts without the session spans of some sessions (`user_id, product_code, old_start_ts`)."""
    return facts.join(_renamed(sessions), is_session_span() & _has_same_session(OLD_START), "left_anti")


def sessions_with_new_bounds(reconciled: DataFrame) -> DataFrame:
    """The sessions whose bounds changed and that were reconciled as a span.

    Args:
        reconciled: Rows as `reconcile.reconcile` gives them.

    Returns:
        `user_id, product_code` (string), `old_start_ts, old_end_ts, new_start_ts, new_end_ts` (timestamp), one row per
        session.
    """
    new_bounds = F.col(SESSION_START).alias(NEW_START), F.col(SESSION_END).alias(NEW_END)
    moved = reconciled.where(F.col(CHANGE) == Change.NEW_BOUNDS.value)
    return moved.select(*SESSION_KEY, OLD_START, OLD_END, *new_bounds)


def extent_of_changed_bounds() -> Extent:
    """The extent of `sessions_with_new_bounds`, over all reconciled rows."""
    is_moved = F.col(CHANGE) == Change.NEW_BOUNDS.value
    return _extent(F.when(is_moved, F.col(OLD_START)), F.when(is_moved, F.col(OLD_END)))


def dependent_rows(existing: DataFrame, moved: DataFrame, corrected: DataFrame) -> DataFrame:
    """The existing rows that get other bounds because their session did, unless they are corrected themselves.

    Args:
        existing: Rows of `sessionized_events` on all dates of these sessions.
        moved: The sessions, as `sessions_with_new_bounds` gives them.
        corrected: The identity (`model.columns.EVENT_IDENTITY`) of the reconciled rows to update or remove.

    Returns:
        Rows of `sessionized_events` with the new bounds, and with the old `session_id`.
    """
    # Nearly all rows differ in the start alone, a whole number, which Spark looks up in half the time of a whole key.
    starts = moved.select(F.unix_micros(OLD_START).alias(_START_US))
    candidates = existing.join(starts, F.unix_micros(SESSION_START) == F.col(_START_US), "left_semi")
    members = candidates.join(_renamed(moved), _has_same_session(SESSION_START))
    rows = members.withColumns({SESSION_START: F.col(NEW_START), SESSION_END: F.col(NEW_END)})
    return rows.select(*existing.columns).join(corrected.select(*EVENT_IDENTITY), [*EVENT_IDENTITY], "left_anti")


def _time_bucket(at: Column, rules: SessionRules) -> Column:
    """The number (long) of the time bucket that an instant (timestamp) lies in."""
    return F.floor(F.unix_micros(at) / F.lit(2 * rules.timeout_us))


def _extent(first: Column, last: Column) -> Extent:
    return F.count(first).alias("count"), all_dates_between(first, last).alias("dates")


def _renamed(rows: DataFrame) -> DataFrame:
    """The other side of a join, with names that a condition can tell from those of the first side."""
    return rows.withColumnsRenamed({name: f"__other_{name}" for name in (*SESSION_KEY, OLD_START, OLD_END)})


def _has_same_key() -> Column:
    return reduce(Column.__and__, [F.col(name) == F.col(f"__other_{name}") for name in SESSION_KEY])


def _has_same_session(start: str) -> Column:
    return _has_same_key() & (F.col(start) == F.col(f"__other_{OLD_START}"))
