"""The interval algebra: which session an event is in, given user actions and sessions that are already known.

A user action at `t` is the half-open interval `[t, t + timeout)`; sessions are the connected unions of overlapping
intervals. A session known from before is one such interval, so its events need not be seen again to extend it.
"""

from collections.abc import Sequence

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

PIECE = "piece"
"""Where a key is cut into pieces of time: which one a row lies in (long, see `piece_of`). NULL for all other keys."""

_REACHED_BEFORE = "reached_before"
_LATEST_START = "latest_start"
_LATEST_END = "latest_end"
_OF_PIECE = "of_piece"
_BEFORE_PIECE = "before_piece"


def is_user_action(rules: SessionRules) -> Column:
    """Whether an event (`event_id`, string) starts and extends sessions; NULL where there is no event id."""
    return F.col(EVENT).isin(*sorted(rules.user_action_ids))


def reach_of_event(rules: SessionRules) -> Column:
    """The `reach` (timestamp, see `REACH`) of an event with `event_id` (string) and `timestamp` (timestamp)."""
    return F.when(is_user_action(rules), F.col(TIMESTAMP) + F.lit(rules.timeout))


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
    return _placed(_with_latest_session(rows, SESSION_KEY))


def assign_sessions_in_pieces(rows: DataFrame, intervals: DataFrame, rules: SessionRules) -> DataFrame:
    """Like `assign_sessions`, for rows of which some keys are cut into pieces, so that many tasks can share a key.

    Args:
        rows: As `assign_sessions` takes them, with `piece` (long, see `PIECE`).
        intervals: `user_id`, `product_code`, `piece`, `timestamp`, `reach`: at least all intervals of the keys that are
            in pieces. One may be there several times; rows that are no interval, or not in a piece, do not matter.
        rules: The session rules.

    Returns:
        As `assign_sessions`, with `piece`.
    """
    at, in_pieces = F.col(TIMESTAMP), F.col(PIECE).isNotNull()
    by_piece = (*SESSION_KEY, PIECE)
    sessions = _sessions_by_piece(intervals.where(in_pieces & F.col(REACH).isNotNull()), rules)
    met = _with_latest_session(rows, by_piece).join(F.broadcast(sessions), [*by_piece], "left")
    has_begun = at >= F.col(_OF_PIECE)[_LATEST_START]

    def latest(bound: str) -> Column:
        of_key = F.when(has_begun, F.col(_OF_PIECE)[bound]).otherwise(F.col(_BEFORE_PIECE)[bound])
        return F.when(in_pieces, of_key).otherwise(F.col(bound))

    known = met.withColumns({bound: latest(bound) for bound in (_LATEST_START, _LATEST_END)})
    begins = F.col(BEGINS_SESSION) & (at == F.col(_LATEST_START))
    return _placed(known.withColumn(BEGINS_SESSION, begins)).drop(_OF_PIECE, _BEFORE_PIECE)


def in_time_order() -> tuple[Column, Column]:
    """The order of the rows of a key in which their sessions are found; rows that are in it are not sorted again."""
    # Intervals first among rows of one instant: an IDE event belongs to the session that starts with it.
    return F.col(TIMESTAMP).asc(), F.col(REACH).asc_nulls_last()


def piece_of(at: Column, rules: SessionRules) -> Column:
    """The piece (long) that an instant (timestamp) lies in.

    It is as long as the timeout, and no interval is shorter: all that begin in one piece overlap, and so are of one
    session.
    """
    return slot_of(at, rules.timeout_us)


def slot_of(at: Column, length_us: int) -> Column:
    """The slot (long) that an instant (timestamp) lies in, where time is cut into slots of so many microseconds."""
    return F.floor(F.unix_micros(at) / F.lit(length_us))


def _with_latest_session(rows: DataFrame, partition: Sequence[str]) -> DataFrame:
    """Add `begins_session`, and the bounds of the latest session that begins at or before each row of a partition."""
    in_time = Window.partitionBy(*partition).orderBy(*in_time_order())
    so_far = in_time.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    earlier = in_time.rowsBetween(Window.unboundedPreceding, -1)
    of_session = Window.partitionBy(*partition, _LATEST_START)

    at, reach, reached_before = F.col(TIMESTAMP), F.col(REACH), F.col(_REACHED_BEFORE)
    timed = rows.withColumn(_REACHED_BEFORE, F.max(reach).over(earlier))
    begins = reach.isNotNull() & (reached_before.isNull() | (at >= reached_before))
    marked = timed.withColumn(BEGINS_SESSION, begins)
    latest_start = F.max(F.when(F.col(BEGINS_SESSION), at)).over(so_far)
    started = marked.withColumn(_LATEST_START, latest_start)
    return started.withColumn(_LATEST_END, F.max(reach).over(of_session)).drop(_REACHED_BEFORE)


def _sessions_by_piece(intervals: DataFrame, rules: SessionRules) -> DataFrame:
    """The session that begins in each piece of a key, and the one that reaches into it from before; NULL where none.

    No session is shorter than a piece, so there is at most one of either.
    """
    # A task hands on no more than one union of all that it has of a piece, however many intervals these are.
    unions = intervals.groupBy(*SESSION_KEY, PIECE).agg(F.min(TIMESTAMP).alias(TIMESTAMP), F.max(REACH).alias(REACH))
    sessions = _with_latest_session(unions, SESSION_KEY).where(BEGINS_SESSION)
    first, last = (piece_of(F.col(bound), rules) for bound in (_LATEST_START, _LATEST_END))
    bounds, begins_there = F.struct(_LATEST_START, _LATEST_END), F.col(PIECE) == first
    by_piece = sessions.withColumn(PIECE, F.explode(F.sequence(first, last))).groupBy(*SESSION_KEY, PIECE)
    return by_piece.agg(
        F.max(F.when(begins_there, bounds)).alias(_OF_PIECE),
        F.max(F.when(~begins_there, bounds)).alias(_BEFORE_PIECE),
    )


def _placed(rows: DataFrame) -> DataFrame:
    is_inside = F.col(TIMESTAMP) <= F.col(_LATEST_END)
    return rows.withColumns(
        {
            SESSION_START: F.when(is_inside, F.col(_LATEST_START)),
            SESSION_END: F.when(is_inside, F.col(_LATEST_END)),
        }
    ).drop(_LATEST_START, _LATEST_END)
