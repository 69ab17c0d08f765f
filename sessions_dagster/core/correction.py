"""What a table has to change so that it reflects its batches: transforms from deliveries and held rows to a correction.

"Held" is what the table holds now, "delivered" what the batches being applied bring, "withdrawn" what a batch that
landed again brings no longer. Everything that matters enters one pass as *facts*: delivered and held events, and
known sessions as one interval each. Only a session that lost a user action is reopened: its rows then find their
session anew.

Facts: `user_id, product_code, timestamp, event_id` (NULL for a known session), `given`, `taken`, `held` (byte),
`reach`, `old_start`, `old_end` (timestamp).
"""

from collections.abc import Mapping, Sequence
from datetime import date
from enum import StrEnum
from functools import reduce
from typing import Final

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from sessions_dagster.core.contract import (
    BATCH_DATE,
    DELIVERED_BY,
    EVENT,
    EVENT_DATE,
    EVENT_IDENTITY,
    LATENESS_DAYS,
    PRODUCT,
    SESSION_END,
    SESSION_ID,
    SESSION_KEY,
    SESSION_START,
    SESSIONIZED_EVENTS_SCHEMA,
    TIMESTAMP,
    USER,
    SessionRules,
)
from sessions_dagster.core.sessionize import (
    BEGINS_SESSION,
    REACH,
    assign_sessions,
    is_user_action,
    session_id,
)

GIVEN = "given"
"""`delivered_by` bits that the batches being applied bring for an event."""
TAKEN = "taken"
"""`delivered_by` bits that a batch which landed again no longer brings."""
HELD = "held"
"""The `delivered_by` bits the table holds for an event; NULL for one that is new to it."""
OLD_START = "old_start"
"""Where the session of a held row, or a known session, starts in the table; NULL outside sessions."""
OLD_END = "old_end"
"""Where it ends in the table."""
KIND = "kind"
"""What became of a session: see `SessionChange`."""
IS_FIRST_OF_OLD = "is_first_of_old"
IS_FIRST_OF_NEW = "is_first_of_new"
CHANGE = "change"
"""What is to be done about a row: see `Change`."""

_BUCKET = "bucket"
_FROM = "near_from"
_UNTIL = "near_until"
_IS_REDELIVERED = "is_redelivered"


class Change(StrEnum):
    """What a resolved fact means for the table."""

    INSERT = "insert"
    UPDATE = "update"
    REMOVE = "remove"
    KEEP = "keep"
    MOVE_SESSION = "move_session"
    KEEP_SESSION = "keep_session"


class SessionChange(StrEnum):
    """What became of a session that was written before."""

    KEPT = "kept"
    EXTENDED = "extended"
    MERGED = "merged"
    SPLIT = "split"
    SHRUNK = "shrunk"
    REMOVED = "removed"


def delivery_bit(batch_date: Column, event_date: Column) -> Column:
    """The bit (byte) of `delivered_by` that stands for a batch (date) delivering an event of a date (date)."""
    return F.call_function("shiftleft", F.lit(1), F.datediff(batch_date, event_date)).cast("tinyint")


def delivered_facts(raw_events: DataFrame) -> DataFrame:
    """Facts of all deliveries in `raw_events` rows; an event delivered twice is there twice."""
    bits = delivery_bit(F.col(BATCH_DATE), F.col(EVENT_DATE))
    return _facts(raw_events, {GIVEN: bits})


def near_dates(facts: DataFrame, held_dates: Sequence[date], rules: SessionRules) -> DataFrame:
    """Those facts that can touch a row of one of the held dates: within the timeout of such a day."""
    at, reach = F.col(TIMESTAMP), F.lit(rules.timeout)
    days = [F.lit(day) for day in held_dates]
    near = [(at >= day.cast("timestamp") - reach) & (at < F.date_add(day, 1).cast("timestamp") + reach) for day in days]
    return facts.where(reduce(Column.__or__, near, F.lit(False)))


def neighbourhoods(facts: DataFrame, rules: SessionRules) -> DataFrame:
    """Where held rows may be touched by facts: at most one span of time per key and bucket of time.

    One row per key and bucket keeps the join with the held rows an equality that matches at most once, however many
    events one user has; the span is a little wider than the union of `timestamp` ± timeout, which does no harm.

    Returns:
        `user_id, product_code`, `bucket` (long), `near_from`, `near_until` (timestamp, both inclusive).
    """
    at, reach = F.col(TIMESTAMP), F.lit(rules.timeout)
    buckets = F.sequence(_bucket_of(at - reach, rules), _bucket_of(at + reach, rules))
    exploded = facts.select(*SESSION_KEY, TIMESTAMP, F.explode(buckets).alias(_BUCKET))
    return exploded.groupBy(*SESSION_KEY, _BUCKET).agg(
        (F.min(TIMESTAMP) - reach).alias(_FROM), (F.max(TIMESTAMP) + reach).alias(_UNTIL)
    )


def extent_of_neighbourhoods(neighbourhoods: DataFrame) -> DataFrame:
    """One row: how many `spans` there are (long), and the `dates` (array of date) on which rows of them lie."""
    days = F.sequence(F.to_date(_FROM), F.to_date(_UNTIL))
    return neighbourhoods.agg(
        F.count("*").alias("spans"), F.array_distinct(F.flatten(F.collect_set(days))).alias("dates")
    )


def nearby_rows(held: DataFrame, neighbourhoods: DataFrame, rules: SessionRules) -> DataFrame:
    """The held rows inside the neighbourhoods.

    That is enough to find every touched session: one that an event at `t` touches has a user action within the timeout
    of `t`, before or after, and each of its rows says how far the session reaches.
    """
    bucketed = held.withColumn(_BUCKET, _bucket_of(F.col(TIMESTAMP), rules))
    joined = bucketed.join(neighbourhoods, [*SESSION_KEY, _BUCKET])
    return joined.where(F.col(TIMESTAMP).between(F.col(_FROM), F.col(_UNTIL))).select(*held.columns)


def touched_facts(nearby: DataFrame, delivered: DataFrame) -> DataFrame:
    """Facts of held rows near delivered ones: their sessions, and the rows that may change on their own.

    These are the rows in no session, those at the very end of theirs, and those delivered again.

    Args:
        nearby: Held rows, see `nearby_rows`.
        delivered: Facts whose events may be held already.
    """
    identities = delivered.select(*EVENT_IDENTITY).distinct().withColumn(_IS_REDELIVERED, F.lit(True))
    marked = nearby.join(F.broadcast(identities), [*EVENT_IDENTITY], "left")
    in_session = F.col(SESSION_START).isNotNull()
    no_bits = F.lit(None).cast("tinyint")
    event = _fact_struct(TIMESTAMP, F.col(EVENT), F.col(DELIVERED_BY), F.lit(None).cast("timestamp"))
    session = _fact_struct(SESSION_START, F.lit(None).cast("string"), no_bits, F.col(SESSION_END))
    # A session that begins where another one ends takes over the events of that instant, and leaves the other as it is.
    at_its_end = F.col(TIMESTAMP) == F.col(SESSION_END)
    matters_itself = ~in_session | at_its_end | F.col(_IS_REDELIVERED).isNotNull()
    facts = F.array_compact(F.array(F.when(in_session, session), F.when(matters_itself, event)))
    return marked.select(F.inline(facts)).distinct()


def held_facts(held: DataFrame) -> DataFrame:
    """Facts of held rows, as events."""
    return _facts(held, _HELD_COLUMNS)


def withdrawn_facts(held: DataFrame, raw_events: DataFrame, batch_days: Sequence[date]) -> DataFrame:
    """Facts of held rows that one of some batches once delivered and now does not.

    Args:
        held: Rows of `sessionized_events`, of all dates that these batches can have delivered events of.
        raw_events: The rows that these batches have in `raw_events` now.
        batch_days: The batches.
    """
    days = F.array(*[F.lit(day) for day in batch_days])
    once = F.filter(days, _is_delivered_by)
    deliveries = held.withColumn(BATCH_DATE, F.explode(once))
    withdrawn = deliveries.join(raw_events, [*EVENT_IDENTITY, BATCH_DATE], "left_anti")
    bit = delivery_bit(F.col(BATCH_DATE), F.col(EVENT_DATE))
    return _facts(withdrawn, {TAKEN: bit, **_HELD_COLUMNS})


def sessions_to_reopen(withdrawn: DataFrame, rules: SessionRules) -> DataFrame:
    """`user_id, product_code, old_start, old_end` of the sessions that may have lost a user action."""
    return withdrawn.where(is_user_action(rules)).select(*SESSION_KEY, OLD_START, OLD_END).distinct()


def without_reopened(facts: DataFrame, reopened: DataFrame) -> DataFrame:
    """Facts less the known sessions that are reopened: those enter row by row."""
    known = reopened.select(*SESSION_KEY, OLD_START, F.lit(True).alias("is_reopened"))
    joined = facts.join(F.broadcast(known), [*SESSION_KEY, OLD_START], "left")
    return joined.where(F.col(EVENT).isNotNull() | F.col("is_reopened").isNull()).select(*facts.columns)


def rows_of_sessions(held: DataFrame, sessions: DataFrame) -> DataFrame:
    """The held rows of sessions given by `user_id, product_code, old_start` and any other columns, which are added."""
    renamed = sessions.withColumnRenamed(OLD_START, SESSION_START)
    return held.join(renamed, [*SESSION_KEY, SESSION_START])


def dates_of_sessions(sessions: DataFrame) -> DataFrame:
    """The distinct dates (`event_date`) that sessions with `old_start` and `old_end` lie on."""
    return _distinct_dates(sessions, F.col(OLD_START), F.col(OLD_END))


def resolve(facts: DataFrame, rules: SessionRules) -> DataFrame:
    """Put facts together, find every session, and say what that changes.

    Returns:
        One row per event and per known session: `user_id, event_id` (NULL for a known session), `product_code,
        timestamp`, `delivered_by` (byte), `session_start_ts, session_end_ts, old_start, old_end` (timestamp),
        `begins_session` (boolean), `change` (string, see `Change`).
    """
    # Spark then needs no further shuffle: neither to aggregate nor for the windows over the key.
    by_key = facts.repartition(*SESSION_KEY)
    combined = by_key.groupBy(*SESSION_KEY, TIMESTAMP, EVENT).agg(
        F.bit_or(GIVEN).alias(GIVEN),
        F.bit_or(TAKEN).alias(TAKEN),
        F.max(HELD).alias(HELD),
        F.max(REACH).alias(REACH),
        F.max(OLD_START).alias(OLD_START),
        F.max(OLD_END).alias(OLD_END),
    )
    none = F.lit(0).cast("tinyint")
    kept_bits = F.coalesce(HELD, none).bitwiseAND(F.bitwise_not(F.coalesce(TAKEN, none)))
    bits = kept_bits.bitwiseOR(F.coalesce(GIVEN, none)).cast("tinyint")
    delivered = combined.withColumn(DELIVERED_BY, bits)
    counts_as_action = is_user_action(rules) & (F.col(DELIVERED_BY) != 0)
    user_action_reach = F.when(counts_as_action, F.col(TIMESTAMP) + F.lit(rules.timeout))
    placed = assign_sessions(delivered.withColumn(REACH, F.coalesce(REACH, user_action_reach)))
    return placed.withColumn(CHANGE, _change()).select(
        *EVENT_IDENTITY,
        DELIVERED_BY,
        SESSION_START,
        SESSION_END,
        OLD_START,
        OLD_END,
        BEGINS_SESSION,
        CHANGE,
    )


def of_change(resolved: DataFrame, *changes: Change) -> DataFrame:
    """The resolved facts with one of the given changes."""
    return resolved.where(F.col(CHANGE).isin(*[change.value for change in changes]))


def moved_session_rows(held: DataFrame, resolved: DataFrame) -> DataFrame:
    """The held rows of known sessions whose bounds changed, with their new bounds, less rows resolved themselves."""
    moved = of_change(resolved, Change.MOVE_SESSION).select(
        *SESSION_KEY, OLD_START, F.col(SESSION_START).alias("new_start"), F.col(SESSION_END).alias("new_end")
    )
    resolved_rows = resolved.where(F.col(EVENT).isNotNull() & F.col(OLD_START).isNotNull()).select(*EVENT_IDENTITY)
    rows = rows_of_sessions(held, F.broadcast(moved)).join(F.broadcast(resolved_rows), [*EVENT_IDENTITY], "left_anti")
    return rows.withColumns({SESSION_START: F.col("new_start"), SESSION_END: F.col("new_end")})


def session_changes(resolved: DataFrame, rules: SessionRules) -> DataFrame:
    """What became of every session the table held and that was touched.

    Returns:
        One row per old session and new session it went into: `user_id, product_code`, `old_start, old_end`,
        `session_start_ts, session_end_ts` (timestamp; NULL when the session is gone), `kind` (string, see
        `SessionChange`), `is_first_of_old`, `is_first_of_new` (boolean: true on one row of each old, each new session).
    """
    # Only user actions say where a session went: an IDE event at its very end may move to another one on its own.
    acts = F.col(EVENT).isNull() | is_user_action(rules)
    is_left = F.col(CHANGE) != Change.REMOVE.value
    pairs = (
        resolved.where(acts & F.col(OLD_START).isNotNull())
        .select(
            *SESSION_KEY,
            OLD_START,
            OLD_END,
            F.when(is_left, F.col(SESSION_START)).alias(SESSION_START),
            F.when(is_left, F.col(SESSION_END)).alias(SESSION_END),
        )
        .distinct()
    )
    of_old, of_new = Window.partitionBy(*SESSION_KEY, OLD_START), Window.partitionBy(*SESSION_KEY, SESSION_START)
    counted = pairs.withColumns(
        {
            "parts": F.count(SESSION_START).over(of_old),
            IS_FIRST_OF_OLD: F.coalesce(F.col(SESSION_START) == F.min(SESSION_START).over(of_old), F.lit(True)),
            "sources": F.count(OLD_START).over(of_new),
            IS_FIRST_OF_NEW: F.col(SESSION_START).isNotNull() & (F.col(OLD_START) == F.min(OLD_START).over(of_new)),
        }
    )
    # A removed user action has no session to tell of, unless nothing else of its session is left.
    told = counted.where(F.col(SESSION_START).isNotNull() | (F.col("parts") == 0))
    return told.withColumn(KIND, _kind()).drop("parts", "sources")


def as_table_rows(rows: DataFrame) -> DataFrame:
    """Rows with identity, `delivered_by`, `session_start_ts` and `session_end_ts`, as `sessionized_events` rows."""
    complete = rows.withColumns({EVENT_DATE: F.to_date(TIMESTAMP), SESSION_ID: session_id()})
    return complete.select(*SESSIONIZED_EVENTS_SCHEMA.names)


def _change() -> Column:
    is_session = F.col(EVENT).isNull()
    moved = ~(F.col(SESSION_START).eqNullSafe(F.col(OLD_START)) & F.col(SESSION_END).eqNullSafe(F.col(OLD_END)))
    return (
        F.when(is_session, F.when(moved, Change.MOVE_SESSION.value).otherwise(Change.KEEP_SESSION.value))
        .when(F.col(HELD).isNull(), Change.INSERT.value)
        .when(F.col(DELIVERED_BY) == 0, Change.REMOVE.value)
        .when(moved | (F.col(DELIVERED_BY) != F.col(HELD)), Change.UPDATE.value)
        .otherwise(Change.KEEP.value)
    )


def _kind() -> Column:
    same_start, same_end = F.col(SESSION_START) == F.col(OLD_START), F.col(SESSION_END) == F.col(OLD_END)
    grew = (F.col(SESSION_START) <= F.col(OLD_START)) & (F.col(SESSION_END) >= F.col(OLD_END))
    return (
        F.when(F.col("parts") == 0, SessionChange.REMOVED.value)
        .when(F.col("parts") > 1, SessionChange.SPLIT.value)
        .when(F.col("sources") > 1, SessionChange.MERGED.value)
        .when(same_start & same_end, SessionChange.KEPT.value)
        .when(grew, SessionChange.EXTENDED.value)
        .otherwise(SessionChange.SHRUNK.value)
    )


def _is_delivered_by(batch_date: Column) -> Column:
    days_after = F.datediff(batch_date, F.col(EVENT_DATE))
    bit = F.call_function("shiftleft", F.lit(1), days_after)
    return days_after.between(0, LATENESS_DAYS) & (F.col(DELIVERED_BY).cast("int").bitwiseAND(bit) != 0)


def _bucket_of(at: Column, rules: SessionRules) -> Column:
    return F.floor(F.unix_micros(at) / F.lit(2 * rules.timeout_us))


def _distinct_dates(rows: DataFrame, first: Column, last: Column) -> DataFrame:
    days = F.sequence(F.to_date(first), F.to_date(last))
    return rows.select(F.explode(days).alias(EVENT_DATE)).distinct()


_HELD_COLUMNS: Final[Mapping[str, Column | str]] = {HELD: DELIVERED_BY, OLD_START: SESSION_START, OLD_END: SESSION_END}
_FACT_TYPES: Final = {
    GIVEN: "tinyint",
    TAKEN: "tinyint",
    HELD: "tinyint",
    REACH: "timestamp",
    OLD_START: "timestamp",
    OLD_END: "timestamp",
}


def _facts(rows: DataFrame, columns: Mapping[str, Column | str]) -> DataFrame:
    def value(name: str) -> Column:
        given = columns.get(name)
        return F.lit(None) if given is None else F.col(given) if isinstance(given, str) else given

    values = [value(name).cast(type_).alias(name) for name, type_ in _FACT_TYPES.items()]
    return rows.select(USER, PRODUCT, TIMESTAMP, EVENT, *values)


def _fact_struct(at: str, event: Column, held: Column, reach: Column) -> Column:
    no_bits = F.lit(None).cast("tinyint")
    return F.struct(
        F.col(USER),
        F.col(PRODUCT),
        F.col(at).alias(TIMESTAMP),
        event.alias(EVENT),
        no_bits.alias(GIVEN),
        no_bits.alias(TAKEN),
        held.alias(HELD),
        reach.alias(REACH),
        F.col(SESSION_START).alias(OLD_START),
        F.col(SESSION_END).alias(OLD_END),
    )
