"""The interval algebra: which session an event is in, given user actions and the spans of known sessions.

A user action at `t` is the half-open interval `[t, t + timeout)`; sessions are the connected unions of overlapping
intervals. A session that is known from before is one such interval, so its events need not be read again to extend it.
"""

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from sessions_dagster.model.columns import (
    EVENT,
    PRODUCT,
    SESSION_END,
    SESSION_ID_FORMAT,
    SESSION_KEY,
    SESSION_START,
    TIMESTAMP,
    USER,
)
from sessions_dagster.model.rules import SessionRules

INTERVAL_START = "__interval_start"
"""Where a row lies in time (timestamp): the time of an event, or the start of a known session."""

INTERVAL_END = "__interval_end"
"""Where the interval of a row ends (timestamp, exclusive); NULL for an IDE event, which has no interval."""

BEGINS_SESSION = "__begins_session"
"""True on exactly one row of every session: its first interval."""

_EARLIER_END = "__earlier_end"
_LATEST_START = "__latest_start"
_LATEST_END = "__latest_end"


def is_user_action(rules: SessionRules) -> Column:
    """Whether an event (`event_id`, string) starts and extends sessions (boolean); NULL if there is no event id."""
    return F.col(EVENT).isin(*sorted(rules.user_action_ids))


def interval_end_of_event(rules: SessionRules) -> Column:
    """The `__interval_end` (timestamp) of an event with `event_id` (string) and `timestamp` (timestamp)."""
    return F.when(is_user_action(rules), F.col(TIMESTAMP) + F.lit(rules.timeout))


def session_id() -> Column:
    """The label `user_id#product_code#start` (string) of a row with `session_start_ts`; NULL outside sessions."""
    start = F.date_format(SESSION_START, SESSION_ID_FORMAT)
    return F.when(F.col(SESSION_START).isNotNull(), F.concat_ws("#", F.col(USER), F.col(PRODUCT), start))


def assign_sessions(rows: DataFrame) -> DataFrame:
    """Find the session of every row among the rows of its session key.

    Contract, section "Session": two user actions are in one session if and only if they are less than the timeout
    apart; an event belongs to a session from its start to its end, both included; if one session ends at the instant at
    which the next one starts, that instant belongs to the later one.

    Args:
        rows: `user_id`, `product_code` (string), `__interval_start`, `__interval_end` (timestamp, see `INTERVAL_START`
            and `INTERVAL_END`), and any other columns.

    Returns:
        The rows with `session_start_ts`, `session_end_ts` (timestamp, both NULL outside sessions) and
        `__begins_session` (boolean, see `BEGINS_SESSION`) added.
    """
    in_time = Window.partitionBy(*SESSION_KEY).orderBy(*in_time_order())
    so_far = in_time.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    earlier = in_time.rowsBetween(Window.unboundedPreceding, -1)
    of_session = Window.partitionBy(*SESSION_KEY, _LATEST_START)

    start, end, earlier_end = F.col(INTERVAL_START), F.col(INTERVAL_END), F.col(_EARLIER_END)
    begins = end.isNotNull() & (earlier_end.isNull() | (start >= earlier_end))
    is_inside = start <= F.col(_LATEST_END)
    return (
        rows.withColumn(_EARLIER_END, F.max(end).over(earlier))
        .withColumn(BEGINS_SESSION, begins)
        .withColumn(_LATEST_START, F.max(F.when(F.col(BEGINS_SESSION), start)).over(so_far))
        .withColumn(_LATEST_END, F.max(end).over(of_session))
        .withColumns(
            {
                SESSION_START: F.when(is_inside, F.col(_LATEST_START)),
                SESSION_END: F.when(is_inside, F.col(_LATEST_END)),
            }
        )
        .drop(_EARLIER_END, _LATEST_START, _LATEST_END)
    )


def in_time_order() -> tuple[Column, Column]:
    """The order of the rows of a session key in which `assign_sessions` looks at them.

    Rows that already have this order within their key are not sorted again.
    """
    # Of the rows of one instant, intervals come first: an IDE event belongs to the session that starts with it.
    return F.col(INTERVAL_START).asc(), F.col(INTERVAL_END).asc_nulls_last()
