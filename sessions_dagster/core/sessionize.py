"""The interval algebra: which session an event is in, given user actions and sessions that are already known.

A user action at `t` is the half-open interval `[t, t + timeout)`; sessions are the connected unions of overlapping
intervals. A session known from before is one such interval, so its events need not be seen again to extend it.
"""

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from sessions_dagster.core.contract import (
    EVENT,
    PRODUCT,
    SESSION_END,
    SESSION_ID_FORMAT,
    SESSION_KEY,
    SESSION_START,
    TIMESTAMP,
    USER,
    SessionRules,
)

REACH = "reach"
"""Where the interval that begins at a row's `timestamp` ends (exclusive); NULL for an IDE event: it is none."""

BEGINS_SESSION = "begins_session"
"""True on exactly one row of every session: its first interval."""

_IS_POINT = "is_point"
_REACHED_BEFORE = "reached_before"


def is_user_action(rules: SessionRules) -> Column:
    """Whether an event (`event_id`, string) starts and extends sessions; NULL where there is no event id."""
    return F.col(EVENT).isin(*sorted(rules.user_action_ids))


def session_id() -> Column:
    """The label `user_id#product_code#start` (string) of a row with `session_start_ts`; NULL outside sessions."""
    start = F.date_format(SESSION_START, SESSION_ID_FORMAT)
    return F.when(F.col(SESSION_START).isNotNull(), F.concat_ws("#", F.col(USER), F.col(PRODUCT), start))


def assign_sessions(rows: DataFrame) -> DataFrame:
    """Find the session of every row among the rows of its key.

    Contract: two user actions are in one session iff they are less than the timeout apart; an event belongs to a
    session from its start to its end, both included; where one session ends at the instant the next one starts, that
    instant belongs to the later one.

    Args:
        rows: `user_id`, `product_code` (string), `timestamp` (timestamp), `reach` (timestamp, see `REACH`), and any
            other columns. A known session is a row with its start as `timestamp` and its end as `reach`.

    Returns:
        The rows with `session_start_ts`, `session_end_ts` (timestamp, both NULL outside sessions) and `begins_session`
        (boolean, see `BEGINS_SESSION`) added.
    """
    # Intervals first among rows of one instant: an IDE event belongs to the session that starts with it.
    # The flag is a column of its own because Spark sorts again for an ordering expression it cannot recognise.
    in_time = Window.partitionBy(*SESSION_KEY).orderBy(TIMESTAMP, _IS_POINT)
    so_far = in_time.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    earlier = in_time.rowsBetween(Window.unboundedPreceding, -1)
    of_session = Window.partitionBy(*SESSION_KEY, SESSION_START)

    at, reach, reached_before = F.col(TIMESTAMP), F.col(REACH), F.col(_REACHED_BEFORE)
    timed = rows.withColumn(_IS_POINT, reach.isNull()).withColumn(_REACHED_BEFORE, F.max(reach).over(earlier))
    begins = reach.isNotNull() & (reached_before.isNull() | (at >= reached_before))
    marked = timed.withColumn(BEGINS_SESSION, begins)
    latest_start = F.max(F.when(F.col(BEGINS_SESSION), at)).over(so_far)
    is_inside = at <= F.greatest(reached_before, reach)
    placed = marked.withColumn(SESSION_START, F.when(is_inside, latest_start))
    return placed.withColumn(SESSION_END, F.max(reach).over(of_session)).drop(_IS_POINT, _REACHED_BEFORE)
