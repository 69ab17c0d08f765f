"""What a table has to change so that it reflects its batches: transforms from deliveries and held rows to a correction.

"Held" is what the table holds now, "delivered" what the batches being applied bring, "withdrawn" what a batch that
landed again brings no longer. Everything that matters enters one pass as *facts*: delivered and withdrawn events, and
what the table holds around them.

A held session that loses no user action can only grow, so its bounds say all of it, in one fact without an event: a
*known session*. Its rows follow it (`following_rows`) when it has other bounds afterwards. One that loses a user action
is *opened*: all its events are facts, as it may fall apart.

Facts: `user_id, product_code, timestamp, event_id`, `given`, `taken`, `held` (byte), `old_start_ts`,
`old_end_ts` (timestamp): the session of a held row in the table, NULL outside sessions. A known session has its start
as its `timestamp`, and NULL as `event_id`.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from enum import StrEnum
from functools import reduce
from typing import Final

from pyspark.sql import Column, DataFrame, Row, Window
from pyspark.sql import functions as F

from sessions_dagster.core.contract import (
    BATCH_DATE,
    BATCHES,
    DELIVERED_BY,
    EVENT,
    EVENT_DATE,
    EVENT_IDENTITY,
    KIND,
    LATENESS_DAYS,
    LATENESSES,
    NEW_END,
    NEW_START,
    OLD_END,
    OLD_START,
    PRODUCT,
    SESSION_END,
    SESSION_KEY,
    SESSION_START,
    TIMESTAMP,
    USER,
    SessionRules,
)
from sessions_dagster.core.days import array_of, spans
from sessions_dagster.core.sessionize import (
    BEGINS_SESSION,
    PIECE,
    REACH,
    assign_sessions,
    assign_sessions_in_pieces,
    is_user_action,
    reach_of_event,
    slot_of,
)
from sessions_dagster.core.skew import cut_into_pieces

GIVEN = "given"
"""`delivered_by` bits that the batches being applied bring for an event."""
TAKEN = "taken"
"""`delivered_by` bits that a batch which landed again no longer brings."""
HELD = "held"
"""The `delivered_by` bits the table holds for an event; NULL for one that is new to it."""
IS_FIRST_OF_OLD = "is_first_of_old"
IS_FIRST_OF_NEW = "is_first_of_new"
CHANGE = "change"
"""What is to be done about a row: see `Change`."""

INSTANTS_WORTH_A_SEARCH: Final = 256
"""Where a slot has the instants of more facts than this, its rows are not compared with each of them."""

DELIVERY: Final = (*EVENT_IDENTITY, EVENT_DATE, BATCH_DATE)
"""The columns of `raw_events` that say which batch brings which event."""

Extent = tuple[Column, Column]
"""Two aggregates of stretches of time: `count` (long), and `dates` (array of date), those they lie on."""

_FROM = "near_from"
_UNTIL = "near_until"
_SLOT = "slot"
_INSTANTS = "instants"
_IS_COVERED = "is_covered"
_IS_LANDED = "is_landed"
_IS_KNOWN = "is_known"
_START_US = "moved_start_us"


class Change(StrEnum):
    """What a resolved fact means for the table.

    `MOVE` is of a known session: its rows follow it.
    """

    INSERT = "insert"
    UPDATE = "update"
    REMOVE = "remove"
    KEEP = "keep"
    MOVE = "move"


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


def held_facts(held: DataFrame) -> DataFrame:
    """Facts of held rows."""
    return _facts(held, _HELD_COLUMNS)


def differences(held: DataFrame, raw_events: DataFrame, batch_days: Sequence[date]) -> DataFrame:
    """The deliveries of some batches that the table holds and that are no longer there, or the other way round.

    All others change nothing: the table has the event, and that it is from this batch.

    Args:
        held: Rows of `sessionized_events`, of all dates that these batches can have delivered events of.
        raw_events: The rows that these batches have in `raw_events` now.
        batch_days: The batches.

    Returns:
        The columns of `DELIVERY`, with `delivered_by` (byte), `session_start_ts, session_end_ts` (timestamp), all NULL
        of a delivery that the table does not hold, and `is_landed` (boolean; NULL where it is no longer there).
    """
    once = F.filter(array_of(batch_days), _is_delivered_by)
    deliveries = held.withColumn(BATCH_DATE, F.explode(once))
    known = deliveries.select(*DELIVERY, DELIVERED_BY, SESSION_START, SESSION_END)
    landed = raw_events.select(*DELIVERY, F.lit(True).alias(_IS_LANDED))
    return known.join(landed, [*DELIVERY], "full_outer").where(F.col(DELIVERED_BY).isNull() | is_withdrawn())


def is_withdrawn() -> Column:
    """Of a row of `differences`: whether the batch no longer brings the event."""
    return F.col(_IS_LANDED).isNull()


def new_deliveries(differences: DataFrame) -> DataFrame:
    """The columns of `DELIVERY`, of what the table does not hold."""
    return differences.where(~is_withdrawn()).select(*DELIVERY)


def withdrawn_facts(differences: DataFrame) -> DataFrame:
    """Facts of held rows that one of the batches once delivered and now does not."""
    bit = delivery_bit(F.col(BATCH_DATE), F.col(EVENT_DATE))
    return _facts(differences.where(is_withdrawn()), {TAKEN: bit, **_HELD_COLUMNS})


def near_dates(facts: DataFrame, held_dates: Sequence[date], rules: SessionRules) -> DataFrame:
    """Those facts that can touch a row of one of the held dates: within the timeout of such a day."""
    at, reach = F.col(TIMESTAMP), F.lit(rules.timeout)
    reached = F.sequence(F.to_date(at - reach), F.to_date(at + reach))
    # No comparison with each date, for the reason that `among` has.
    return facts.where(F.arrays_overlap(reached, array_of(held_dates)))


def neighbourhoods(facts: DataFrame, rules: SessionRules) -> DataFrame:
    """Where held sessions may be touched by facts: the time within the timeout of one, by slots of twice the timeout.

    In a slot it is one span from the earliest to the latest fact, though in a longer pause between facts nothing is
    touched: what is looked at for no reason stays as it is.

    Returns:
        `user_id, product_code`, `slot` (long), `near_from`, `near_until` (timestamp, both inclusive), `instants` (array
        of timestamp: those of the facts in the slot itself); one row per key and slot.
    """
    at, reach = F.col(TIMESTAMP), F.lit(rules.timeout)
    reached = F.sequence(_slot_of(at - reach, rules), _slot_of(at + reach, rules))
    near = facts.select(*SESSION_KEY, TIMESTAMP, F.explode(reached).alias(_SLOT))
    return near.groupBy(*SESSION_KEY, _SLOT).agg(
        (F.min(TIMESTAMP) - reach).alias(_FROM),
        (F.max(TIMESTAMP) + reach).alias(_UNTIL),
        F.collect_set(F.when(_slot_of(at, rules) == F.col(_SLOT), at)).alias(_INSTANTS),
    )


def extent_of_neighbourhoods() -> Extent:
    """Of `neighbourhoods`."""
    return _extent(F.col(_FROM), F.col(_UNTIL))


def opened_sessions(withdrawn: DataFrame, rules: SessionRules) -> DataFrame:
    """The held sessions that lose a user action.

    Returns:
        `user_id, product_code`, `old_start_ts, old_end_ts` (timestamp), one row per session.
    """
    actions = withdrawn.where(is_user_action(rules) & F.col(OLD_START).isNotNull())
    return actions.select(*SESSION_KEY, OLD_START, OLD_END).distinct()


def extent_of_opened() -> Extent:
    """Of `opened_sessions`."""
    return _extent(F.col(OLD_START), F.col(OLD_END))


def rows_of_sessions(held: DataFrame, sessions: DataFrame) -> DataFrame:
    """The held rows of some sessions (`user_id, product_code, old_start_ts`)."""
    return held.join(_other(sessions), _is_of_other_session(SESSION_START), "left_semi")


def touched_facts(held: DataFrame, neighbourhoods: DataFrame, rules: SessionRules) -> DataFrame:
    """Facts of what the table holds in neighbourhoods: the sessions there, and the events not covered by those.

    An event is a fact of its own where it is in no session, and where a fact has its instant: that may be the same
    event, or start a session where the one that the event was in ends. Where a slot is crowded with facts, all of its
    events are taken for that: a fact too many changes nothing, as long as the session of the event is a fact too.

    A session that an event at `t` touches has a user action within the timeout of `t`, before or after. So a user
    action of each touched session lies in a neighbourhood, and says how far the session reaches. Each that lies there
    gives the same fact: `resolve` puts them together, as it does with deliveries, and needs no further shuffle for it.
    Those of a large key are too many for that, and a caller puts them together before.

    Args:
        held: Rows of `sessionized_events` on all dates of the neighbourhoods.
        neighbourhoods: As `neighbourhoods` gives them.
        rules: The session rules.
    """
    in_slot = (_slot_of(F.col(TIMESTAMP), rules) == F.col(_SLOT)) & F.col(TIMESTAMP).between(
        F.col(_FROM), F.col(_UNTIL)
    )
    # A hot user's batch that lands again has thousands of instants in a slot, and as many rows to compare with each.
    is_crowded = F.size(_INSTANTS) > INSTANTS_WORTH_A_SEARCH
    is_met = is_crowded | F.array_contains(_INSTANTS, F.col(TIMESTAMP))
    is_covered = F.col(SESSION_START).isNotNull() & ~is_met
    near = held.join(_other(neighbourhoods), _is_of_other_key() & in_slot).withColumn(_IS_COVERED, is_covered)
    # What becomes no fact goes first: it is most of what is near.
    as_row = ~F.col(_IS_COVERED)
    # With the event goes its session, which need not have a user action here: without it the event would be in none.
    as_session = is_user_action(rules) | (as_row & F.col(SESSION_START).isNotNull())
    kinds = F.array_compact(F.array(F.when(as_row, F.lit(False)), F.when(as_session, F.lit(True))))
    told = near.where(as_row | as_session).withColumn(_IS_KNOWN, F.explode(kinds))
    of_row = [F.when(~F.col(_IS_KNOWN), F.col(name)).alias(name) for name in (EVENT, DELIVERED_BY)]
    at = F.when(F.col(_IS_KNOWN), F.col(SESSION_START)).otherwise(F.col(TIMESTAMP)).alias(TIMESTAMP)
    return held_facts(told.select(USER, PRODUCT, at, *of_row, SESSION_START, SESSION_END))


def but_opened(facts: DataFrame, opened: DataFrame) -> DataFrame:
    """The facts without the known sessions among those that are opened."""
    is_opened = F.col(EVENT).isNull() & _is_of_other_session(OLD_START)
    return facts.join(_other(opened), is_opened, "left_anti")


def moved_sessions(resolved: DataFrame) -> DataFrame:
    """The known sessions among resolved facts that have other bounds now.

    Returns:
        `user_id, product_code`, `old_start_ts, old_end_ts, new_start_ts, new_end_ts` (timestamp), one row per session.
    """
    new_bounds = F.col(SESSION_START).alias(NEW_START), F.col(SESSION_END).alias(NEW_END)
    return of_change(resolved, Change.MOVE).select(*SESSION_KEY, OLD_START, OLD_END, *new_bounds)


def extent_of_moved() -> Extent:
    """Of `moved_sessions`, among all resolved facts."""
    is_moved = F.col(CHANGE) == Change.MOVE.value
    return _extent(F.when(is_moved, F.col(OLD_START)), F.when(is_moved, F.col(OLD_END)))


def following_rows(held: DataFrame, moved: DataFrame, resolved: DataFrame) -> DataFrame:
    """The held rows that get other bounds because their session did, but for those that are resolved themselves.

    Args:
        held: Rows of `sessionized_events` on all dates of these sessions.
        moved: The sessions, as `moved_sessions` gives them.
        resolved: The resolved facts that are to be updated or removed.

    Returns:
        Resolved facts that are to be updated.
    """
    # Nearly all rows fail at their start alone, a whole number, which Spark looks up in half the time of a whole key.
    starts = moved.select(F.unix_micros(OLD_START).alias(_START_US))
    candidates = held.join(starts, F.unix_micros(SESSION_START) == F.col(_START_US), "left_semi")
    members = candidates.join(_other(moved), _is_of_other_session(SESSION_START)).select(
        *EVENT_IDENTITY,
        DELIVERED_BY,
        F.col(DELIVERED_BY).alias(HELD),
        F.col(NEW_START).alias(SESSION_START),
        F.col(NEW_END).alias(SESSION_END),
        F.col(SESSION_START).alias(OLD_START),
        F.col(SESSION_END).alias(OLD_END),
        F.lit(False).alias(BEGINS_SESSION),
        F.lit(Change.UPDATE.value).alias(CHANGE),
    )
    return members.join(resolved, [*EVENT_IDENTITY], "left_anti").select(*_RESOLVED)


def extent_of_sessions(rows: DataFrame) -> DataFrame:
    """One row: the number of these held `rows` (long), and the `dates` (array of date) that their sessions lie on."""
    return rows.agg(F.count("*").alias("rows"), _all_days(F.col(SESSION_START), F.col(SESSION_END)).alias("dates"))


def overlaps_dates(dates: Sequence[date], first: Column, last: Column) -> Column:
    """Whether any of some dates is among those from a first to a last one (both date)."""
    stretches = [(first <= F.lit(end)) & (last >= F.lit(begin)) for begin, end in spans(dates)]
    return reduce(Column.__or__, stretches, F.lit(False))


def resolve(facts: DataFrame, rules: SessionRules, large_keys: Sequence[Row] = ()) -> DataFrame:
    """Put facts together, find every session, and say what that changes.

    Args:
        facts: All facts of every session that may change.
        rules: The session rules.
        large_keys: Rows of `user_id, product_code`: the keys that one task should not have all of.

    Returns:
        One row per event or known session: `user_id, event_id, product_code, timestamp`, `delivered_by`, `held` (byte),
        `session_start_ts, session_end_ts, old_start_ts, old_end_ts` (timestamp), `begins_session` (boolean), `change`
        (string, see `Change`).
    """
    if large_keys:
        in_pieces, by_piece = cut_into_pieces(facts, large_keys, rules), [*SESSION_KEY, PIECE]
        of_intervals = in_pieces.where(F.col(EVENT).isNull() | is_user_action(rules))
        intervals = _combined(of_intervals, rules, by_piece)
        placed = assign_sessions_in_pieces(_combined(in_pieces, rules, by_piece), intervals, rules)
    else:
        placed = assign_sessions(_combined(facts, rules, SESSION_KEY))
    return placed.withColumn(CHANGE, _change()).select(*_RESOLVED)


def of_change(resolved: DataFrame, *changes: Change) -> DataFrame:
    """The resolved facts with one of the given changes."""
    return resolved.where(F.col(CHANGE).isin(*[change.value for change in changes]))


def session_changes(resolved: DataFrame, rules: SessionRules) -> DataFrame:
    """What became of every session the table held and that was touched.

    Returns:
        One row per old session and new session it went into: `user_id, product_code`, `old_start_ts, old_end_ts`,
        `session_start_ts, session_end_ts` (timestamp; NULL when the session is gone), `kind` (string, see
        `SessionChange`), `is_first_of_old`, `is_first_of_new` (boolean: true on one row of each old, each new session).
    """
    # Known sessions and user actions say where one went: an IDE event at its very end may move on by itself.
    is_left = F.col(CHANGE) != Change.REMOVE.value
    pairs = (
        resolved.where((F.col(EVENT).isNull() | is_user_action(rules)) & F.col(OLD_START).isNotNull())
        # One shuffle serves all that follows.
        .repartition(*SESSION_KEY)
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


def with_batches(changes: DataFrame, resolved: DataFrame, rules: SessionRules, batch_days: Sequence[date]) -> DataFrame:
    """Say of session changes which batches made them: those whose user actions came into the session or left it.

    Args:
        changes: Rows as `session_changes` gives them, of sessions whose bounds changed.
        resolved: What they were derived from.
        rules: The session rules.
        batch_days: The batches that were applied.

    Returns:
        The same rows with `batches` (array of date, in order) added.
    """
    if len(batch_days) == 1:
        return changes.withColumn(BATCHES, array_of(batch_days))
    actions = resolved.where(is_user_action(rules))
    came = _batches_of(of_change(actions, Change.INSERT), F.col(DELIVERED_BY), SESSION_START, "came")
    went = _batches_of(of_change(actions, Change.REMOVE), F.col(HELD), OLD_START, "went")
    joined = changes.join(came, [*SESSION_KEY, SESSION_START], "left").join(went, [*SESSION_KEY, OLD_START], "left")
    batches = F.array_distinct(F.flatten(F.array_compact(F.array("came", "went"))))
    return joined.withColumn(BATCHES, F.array_sort(batches)).drop("came", "went")


def _batches_of(events: DataFrame, bits: Column, session: str, name: str) -> DataFrame:
    """The batches (array of date) that the events of each session have a `delivered_by` bit of."""
    event_date, whole = F.to_date(TIMESTAMP), bits.cast("int")
    days = [F.when(whole.bitwiseAND(F.lit(1 << late)) != 0, F.date_add(event_date, late)) for late in LATENESSES]
    of_session = events.groupBy(*SESSION_KEY, session)
    return of_session.agg(F.flatten(F.collect_set(F.array_compact(F.array(*days)))).alias(name))


def _combined(facts: DataFrame, rules: SessionRules, partition: Sequence[str]) -> DataFrame:
    """The facts of each event in one row, with its `delivered_by` and its `reach`, laid out by some columns."""
    # Spark then needs no further shuffle: neither to aggregate nor for the windows over the same columns.
    laid_out = facts.repartition(*partition)
    combined = laid_out.groupBy(*partition, TIMESTAMP, EVENT).agg(
        F.bit_or(GIVEN).alias(GIVEN),
        F.bit_or(TAKEN).alias(TAKEN),
        F.max(HELD).alias(HELD),
        F.max(OLD_START).alias(OLD_START),
        F.max(OLD_END).alias(OLD_END),
    )
    none = F.lit(0).cast("tinyint")
    kept_bits = F.coalesce(HELD, none).bitwiseAND(F.bitwise_not(F.coalesce(TAKEN, none)))
    bits = kept_bits.bitwiseOR(F.coalesce(GIVEN, none)).cast("tinyint")
    is_there = F.col(EVENT).isNull() | (F.col(DELIVERED_BY) != 0)
    return combined.withColumn(DELIVERED_BY, bits).withColumn(REACH, F.when(is_there, _reach(rules)))


def _reach(rules: SessionRules) -> Column:
    """Where the interval of a fact ends: of a known session, or of an event if it is there."""
    return F.when(F.col(EVENT).isNull(), F.col(OLD_END)).otherwise(reach_of_event(rules))


def _change() -> Column:
    moved = ~(F.col(SESSION_START).eqNullSafe(F.col(OLD_START)) & F.col(SESSION_END).eqNullSafe(F.col(OLD_END)))
    return (
        F.when(F.col(EVENT).isNull(), F.when(moved, Change.MOVE.value).otherwise(Change.KEEP.value))
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


def _slot_of(at: Column, rules: SessionRules) -> Column:
    """The slot (long) that an instant (timestamp) lies in: time is cut into slots of twice the timeout."""
    return slot_of(at, 2 * rules.timeout_us)


def _is_delivered_by(batch_date: Column) -> Column:
    days_after = F.datediff(batch_date, F.col(EVENT_DATE))
    bit = F.call_function("shiftleft", F.lit(1), days_after)
    return days_after.between(0, LATENESS_DAYS) & (F.col(DELIVERED_BY).cast("int").bitwiseAND(bit) != 0)


def _other(rows: DataFrame) -> DataFrame:
    """The other side of a join, with names that its condition can tell from those of the first."""
    return rows.withColumnsRenamed({name: f"other_{name}" for name in (*SESSION_KEY, OLD_START, OLD_END)})


def _is_of_other_key() -> Column:
    return reduce(Column.__and__, [F.col(name) == F.col(f"other_{name}") for name in SESSION_KEY])


def _is_of_other_session(start: str) -> Column:
    return _is_of_other_key() & (F.col(start) == F.col(f"other_{OLD_START}"))


def _extent(first: Column, last: Column) -> Extent:
    return F.count(first).alias("count"), _all_days(first, last).alias("dates")


def _all_days(first: Column, last: Column) -> Column:
    """The distinct dates from one timestamp to another, of all rows of an aggregate."""
    return F.array_distinct(F.flatten(F.collect_set(F.sequence(F.to_date(first), F.to_date(last)))))


_RESOLVED: Final = (
    *EVENT_IDENTITY,
    DELIVERED_BY,
    HELD,
    SESSION_START,
    SESSION_END,
    OLD_START,
    OLD_END,
    BEGINS_SESSION,
    CHANGE,
)

_HELD_COLUMNS: Final[Mapping[str, Column | str]] = {HELD: DELIVERED_BY, OLD_START: SESSION_START, OLD_END: SESSION_END}
_FACT_TYPES: Final = {
    GIVEN: "tinyint",
    TAKEN: "tinyint",
    HELD: "tinyint",
    OLD_START: "timestamp",
    OLD_END: "timestamp",
}


def _facts(rows: DataFrame, columns: Mapping[str, Column | str]) -> DataFrame:
    def value(name: str) -> Column:
        given = columns.get(name)
        return F.lit(None) if given is None else F.col(given) if isinstance(given, str) else given

    values = [value(name).cast(type_).alias(name) for name, type_ in _FACT_TYPES.items()]
    return rows.select(USER, PRODUCT, TIMESTAMP, EVENT, *values)
