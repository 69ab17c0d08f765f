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
"""Where a key is cut into pieces of time: the slot that the piece is (long). NULL for a key that is in one."""

_REACHED_BEFORE = "reached_before"
_LATEST_START = "latest_start"
_LATEST_END = "latest_end"
_ISLAND = "island"
_WHOLE_START = "whole_start"
_WHOLE_END = "whole_end"


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


def assign_sessions_in_pieces(rows: DataFrame, rules: SessionRules) -> DataFrame:
    """Like `assign_sessions`, for rows of which some keys are cut into pieces, so that many tasks can share a key.

    Each piece finds its sessions on its own. Those are intervals again, so the sessions of the key are their unions.

    Args:
        rows: As `assign_sessions` takes them, with `piece` (long, see `PIECE`): every row once in the piece its
            time lies in, and every interval once more in each later piece that it reaches into.
        rules: The session rules.

    Returns:
        As `assign_sessions`, with `piece`; every row once, in the piece its time lies in.
    """
    by_piece = (*SESSION_KEY, PIECE)
    in_pieces = F.col(PIECE).isNotNull()
    intervals = rows.where(in_pieces & F.col(REACH).isNotNull()).select(*by_piece, TIMESTAMP, REACH)
    islands = _with_latest_session(intervals, by_piece).where(BEGINS_SESSION)
    merged = _with_latest_session(islands.select(*SESSION_KEY, TIMESTAMP, F.col(_LATEST_END).alias(REACH)), SESSION_KEY)
    # An interval that begins an island in its own piece and in the next one is one island.
    whole = merged.select(
        *SESSION_KEY,
        F.col(TIMESTAMP).alias(_ISLAND),
        F.col(_LATEST_START).alias(_WHOLE_START),
        F.col(_LATEST_END).alias(_WHOLE_END),
    ).distinct()
    local = _with_latest_session(rows, by_piece).withColumn(_ISLAND, F.when(in_pieces, F.col(_LATEST_START)))
    known = local.join(F.broadcast(whole), [*SESSION_KEY, _ISLAND], "left").withColumns(
        {
            _LATEST_START: F.coalesce(_WHOLE_START, _LATEST_START),
            _LATEST_END: F.coalesce(_WHOLE_END, _LATEST_END),
        }
    )
    is_at_its_start = F.col(TIMESTAMP) == F.col(_LATEST_START)
    begins = F.col(BEGINS_SESSION) & is_at_its_start
    placed = _placed(known.withColumn(BEGINS_SESSION, begins)).drop(_ISLAND, _WHOLE_START, _WHOLE_END)
    return placed.where(~in_pieces | (F.col(PIECE) == slot_of(F.col(TIMESTAMP), rules)))


def in_time_order() -> tuple[Column, Column]:
    """The order of the rows of a key in which their sessions are found; rows that are in it are not sorted again."""
    # Intervals first among rows of one instant: an IDE event belongs to the session that starts with it.
    return F.col(TIMESTAMP).asc(), F.col(REACH).asc_nulls_last()


def slot_of(at: Column, rules: SessionRules) -> Column:
    """The slot (long) that an instant (timestamp) lies in: time is cut into slots of twice the timeout."""
    return F.floor(F.unix_micros(at) / F.lit(2 * rules.timeout_us))


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


def _placed(rows: DataFrame) -> DataFrame:
    is_inside = F.col(TIMESTAMP) <= F.col(_LATEST_END)
    return rows.withColumns(
        {
            SESSION_START: F.when(is_inside, F.col(_LATEST_START)),
            SESSION_END: F.when(is_inside, F.col(_LATEST_END)),
        }
    ).drop(_LATEST_START, _LATEST_END)
