"""Fresh events: those of a new day that no correction has to look at.

A run's newest day, where the table has nothing of it or of later days, meets other days at its midnight alone: no user
action before it reaches further into the day than the timeout. So a key without an event in that time has the sessions
of the day by itself, and its events go from `raw_events` into the table as if there were no other batch. They are
nearly all that a daily batch brings. All others are facts of a correction (see `correction`). Of a key with very many
events those are that say all of its sessions (see `outline`); the others are fresh, whether it is at midnight or not.
"""

from collections.abc import Collection, Sequence
from datetime import date
from typing import Final

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from sessions_dagster.core.contract import (
    DELIVERED_BY,
    EVENT,
    EVENT_DATE,
    EVENT_IDENTITY,
    SESSION_END,
    SESSION_ID,
    SESSION_KEY,
    SESSION_START,
    SESSIONIZED_EVENTS_SCHEMA,
    TIMESTAMP,
    SessionRules,
)
from sessions_dagster.core.days import among
from sessions_dagster.core.keys import IS_AT_MIDNIGHT
from sessions_dagster.core.outline import IS_OUTLINE
from sessions_dagster.core.sessionize import (
    PIECE,
    REACH,
    assign_sessions,
    assign_sessions_in_pieces,
    in_time_order,
    piece_of,
    reach_of_event,
    session_id,
)

_IS_REPEATED: Final = "is_repeated"
_ON_TIME: Final = 1
"""The `delivered_by` bit of the batch of the day itself: none of another day can have brought a fresh event."""


def fresh_day(batch_days: Collection[date], held_dates: Sequence[date]) -> date | None:
    """The day whose events may be fresh: the newest of some batches, if the table holds nothing of it or later.

    Args:
        batch_days: The batches being applied that have rows.
        held_dates: The event dates that the table has rows of, in order.
    """
    newest = max(batch_days, default=None)
    return newest if newest is not None and (not held_dates or held_dates[-1] < newest) else None


def fresh_events(events: DataFrame, day: date, at_midnight: DataFrame) -> DataFrame:
    """The fresh ones among rows of `raw_events`.

    Args:
        events: Rows of `raw_events`, with `is_outline` (see `outline`).
        day: The day of `fresh_day`.
        at_midnight: `user_id, product_code` of the keys with an event at its midnight (`keys.is_at_midnight`), but for
            those with an outline.
    """
    of_day = events.where(among(EVENT_DATE, [day]) & ~F.col(IS_OUTLINE))
    return of_day.join(at_midnight, [*SESSION_KEY], "left_anti")


def other_events(events: DataFrame, day: date, at_midnight: DataFrame) -> DataFrame:
    """All rows but those of `fresh_events`."""
    marked = events.join(at_midnight.withColumn(IS_AT_MIDNIGHT, F.lit(True)), [*SESSION_KEY], "left")
    is_other = ~among(EVENT_DATE, [day]) | F.col(IS_AT_MIDNIGHT).isNotNull() | F.col(IS_OUTLINE)
    return marked.where(is_other).drop(IS_AT_MIDNIGHT)


def fresh_rows(events: DataFrame, rules: SessionRules, outlined: DataFrame | None = None) -> DataFrame:
    """Fresh events with their sessions, each once.

    Args:
        events: As `fresh_events` gives them; an event may be there twice.
        rules: The session rules.
        outlined: The sessions of keys with an outline (see `outline.outlined_sessions`); None if no key has one.

    Returns:
        `user_id, event_id, product_code, timestamp`, `delivered_by` (byte), `session_start_ts, session_end_ts`
        (timestamp), `begins_session` (boolean), `session_id` (string).
    """
    rows = events.withColumn(REACH, reach_of_event(rules))
    if outlined is None:
        placed = assign_sessions(_once(rows.select(*EVENT_IDENTITY, REACH), SESSION_KEY))
    else:
        by_piece = [*SESSION_KEY, PIECE]
        sessions = outlined.withColumnsRenamed({SESSION_START: TIMESTAMP, SESSION_END: REACH})
        intervals = sessions.withColumn(PIECE, piece_of(F.col(TIMESTAMP), rules))
        once = _once(rows.select(*EVENT_IDENTITY, REACH, PIECE), by_piece)
        placed = assign_sessions_in_pieces(once, intervals, rules)
    # The label here already: what a caller counts of these rows ends what Spark compiles of them, and all that is left
    # to compile with the date in it, each day anew, is `table_rows_of`.
    return placed.withColumns({DELIVERED_BY: F.lit(_ON_TIME).cast("tinyint"), SESSION_ID: session_id()})


def table_rows_of(rows: DataFrame, day: date) -> DataFrame:
    """What `fresh_rows` gives, all of a day, as rows of `sessionized_events`."""
    # The date in so many words: where rows of other dates are looked for Spark then sees that none of these can be one,
    # and does not compute any.
    return rows.withColumn(EVENT_DATE, F.lit(day)).select(*SESSIONIZED_EVENTS_SCHEMA.names)


def _once(rows: DataFrame, partition: Sequence[str]) -> DataFrame:
    """Every event once in each partition, laid out and in the order in which its session is found."""
    # In that order the same event is next to itself. An aggregate takes as long as a third of all the rest.
    laid_out = rows.repartition(*partition)
    in_order = Window.partitionBy(*partition).orderBy(*in_time_order(), EVENT)
    same_time, same_event = (F.lag(name).over(in_order).eqNullSafe(F.col(name)) for name in (TIMESTAMP, EVENT))
    return laid_out.withColumn(_IS_REPEATED, same_time & same_event).where(~F.col(_IS_REPEATED)).drop(_IS_REPEATED)
