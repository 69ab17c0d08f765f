"""The outline of a large key on a new day: the few of its events that say all of its sessions.

User actions in one piece are of one session (see `sessionize.piece_of`), so the first and the last of them say all that
they say together. These, and what a user action before the day may reach, are facts of a correction, which finds the
sessions of the day and what they go on from. All other events of the key are fresh: they are in these sessions.
"""

from collections.abc import Sequence
from datetime import date
from typing import Final

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from sessions_dagster.core.contract import (
    EVENT_DATE,
    SESSION_END,
    SESSION_KEY,
    SESSION_START,
    TIMESTAMP,
    SessionRules,
)
from sessions_dagster.core.days import among
from sessions_dagster.core.keys import is_at_midnight
from sessions_dagster.core.sessionize import PIECE, is_user_action
from sessions_dagster.core.skew import cut_into_pieces, of_large_keys

IS_OUTLINE: Final = "is_outline"

_FIRST: Final = "first_action"
_LAST: Final = "last_action"


def without_outlines(events: DataFrame) -> DataFrame:
    """Rows of `raw_events` with `is_outline` (boolean): none of them is."""
    return events.withColumn(IS_OUTLINE, F.lit(False))


def outlines(events: DataFrame, day: date, large_keys: Sequence[Row], rules: SessionRules) -> DataFrame:
    """When large keys have their first and their last user action in each piece of a day.

    Args:
        events: Rows of `raw_events`.
        day: The event date.
        large_keys: Rows of `user_id, product_code`.
        rules: The session rules.

    Returns:
        `user_id, product_code, piece` (long), `first_action, last_action` (timestamp).
    """
    actions = events.where(among(EVENT_DATE, [day]) & is_user_action(rules))
    in_pieces = cut_into_pieces(actions, large_keys, rules).where(F.col(PIECE).isNotNull())
    return in_pieces.groupBy(*SESSION_KEY, PIECE).agg(
        F.min(TIMESTAMP).alias(_FIRST),
        F.max(TIMESTAMP).alias(_LAST),
    )


def with_outlines(
    events: DataFrame, day: date, large_keys: Sequence[Row], outlines: DataFrame, rules: SessionRules
) -> DataFrame:
    """Rows of `raw_events` with `piece` (long, see `sessionize.PIECE`) and `is_outline` (boolean).

    Args:
        events: Rows of `raw_events`.
        day: The event date that these outlines are of. What is said of rows of other dates has no meaning.
        large_keys: Rows of `user_id, product_code`.
        outlines: As `outlines` gives them.
        rules: The session rules.
    """
    at = F.col(TIMESTAMP)
    is_told = F.coalesce((at == F.col(_FIRST)) | (at == F.col(_LAST)), F.lit(False))
    is_outline = F.col(PIECE).isNotNull() & (is_at_midnight(day, rules) | is_told)
    met = cut_into_pieces(events, large_keys, rules).join(F.broadcast(outlines), [*SESSION_KEY, PIECE], "left")
    return met.withColumn(IS_OUTLINE, is_outline).drop(_FIRST, _LAST)


def outlined_sessions(resolved: DataFrame, day: date, large_keys: Sequence[Row]) -> DataFrame:
    """The sessions that large keys have on a day.

    Args:
        resolved: Resolved facts, with the outlines of these keys among them.
        day: The event date.
        large_keys: Rows of `user_id, product_code`.

    Returns:
        `user_id, product_code` (string), `session_start_ts, session_end_ts` (timestamp).
    """
    dated = resolved.withColumn(EVENT_DATE, F.to_date(TIMESTAMP))
    of_day = dated.where(among(EVENT_DATE, [day]) & F.col(SESSION_START).isNotNull())
    return of_large_keys(of_day, large_keys).select(*SESSION_KEY, SESSION_START, SESSION_END).distinct()
