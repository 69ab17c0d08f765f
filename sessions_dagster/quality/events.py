"""The quality rules of `sessionized_events`: what must hold of the rows of an event date, checked in one pass.

They are written without `transforms.sessionize` on purpose, and go the other way: from the stored sessions and the
distances between neighbouring rows, not from intervals. What a broken rule stops, and how it looks in the UI, is not
decided here.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from typing import Final

from pyspark.sql import Column, DataFrame, Row, Window
from pyspark.sql import functions as F

from sessions_dagster.model.columns import (
    EVENT,
    EVENT_DATE,
    PRODUCT,
    SESSION_END,
    SESSION_ID,
    SESSION_ID_FORMAT,
    SESSION_KEY,
    SESSION_START,
    TIMESTAMP,
    USER,
)
from sessions_dagster.model.rules import SessionRules
from sessions_dagster.spark.compat import least_by

MAX_EXAMPLES: Final = 10
"""At most this many offending rows are shown for a rule and an event date; all of them are counted."""

_JUDGED: Final = (USER, EVENT, PRODUCT, TIMESTAMP, EVENT_DATE, SESSION_START, SESSION_END)
_ROWS: Final = "rows"
_SESSIONS: Final = "sessions"
_BEGINS_ON_DATE: Final = "begins_on_date"
_OF_ROW: Final = "problem_of_row"
_FIRST_ACTION: Final = "first_action"
_LAST_ACTION: Final = "last_action"
_LEAST_END: Final = "least_end"
_GREATEST_END: Final = "greatest_end"
_ACTION: Final = "action"
_REPEATS: Final = "repeats"
_LATEST_START: Final = "__latest_start"
_REACHED: Final = "reached"
_NEXT_START: Final = "next_start"
_PREVIOUS: Final = "previous_action"
_NEXT: Final = "next_action"
_REACHES_OUT: Final = "__reaches_out"
_OFFENCE: Final = "offence"


class Rule(StrEnum):
    """What must hold of the rows of an event date."""

    SESSION_END = "session_end_is_last_user_action_plus_timeout"
    UNIQUE_EVENTS = "events_are_unique"
    SESSION_BOUNDS = "sessions_do_not_overlap_or_miss_events"


SESSION_RULES: Final = frozenset({Rule.SESSION_END})
"""The rules of sessions; all others are rules of rows. A session that breaks one is reported on each of its dates."""


@dataclass(frozen=True)
class Offender:
    """A row that breaks a rule, or the first row on the event date of a session that does. Times are text, UTC."""

    user_id: str
    event_id: str
    product_code: str
    timestamp: str
    session_start_ts: str | None
    session_end_ts: str | None
    problem: str


@dataclass(frozen=True)
class Finding:
    """What a rule found on an event date.

    Attributes:
        day: The event date.
        rule: The rule.
        checked: The number of rows of that date; for a rule of `SESSION_RULES`, of sessions with a row on it.
        offenders: How many of them break the rule.
        examples: The first of them in time, at most `MAX_EXAMPLES`.
    """

    day: date
    rule: Rule
    checked: int
    offenders: int
    examples: tuple[Offender, ...]


def check_dates(events: DataFrame, first: date, last: date, rules: SessionRules) -> list[Finding]:
    """Check all rules for the rows of the event dates `first` .. `last`.

    If a session reaches out of these dates, it is judged together with its rows on other dates; the bounds stored with
    its rows say on which. After a first query for those bounds there is one pass over the rows, whatever the number of
    dates, with one shuffle, by session key.

    Args:
        events: `sessionized_events`, all dates, at a fixed version; the Spark session is in UTC.
        first: The first event date to check.
        last: The last one, included.
        rules: The session rules that the table was built with.

    Returns:
        One finding for each event date and rule, in the order of the dates; a date without rows has nothing to check.
    """
    judged = judge(_rows_to_judge(events, first, last, rules), rules)
    found = _by_date(judged.where(F.col(EVENT_DATE).between(F.lit(first), F.lit(last)))).collect()
    by_date = {row[EVENT_DATE]: row for row in found}
    days = [first + timedelta(days=offset) for offset in range((last - first).days + 1)]
    return [_finding(day, rule, by_date.get(day)) for day in days for rule in Rule]


def judge(rows: DataFrame, rules: SessionRules) -> DataFrame:
    """Say which rules each row breaks, by comparing it with the other rows of its session key.

    Args:
        rows: Rows of `sessionized_events`. All rows of every session to be judged must be there, and for every row all
            user actions of its key that are less than the timeout away.
        rules: The session rules.

    Returns:
        `user_id`, `event_id`, `product_code` (string), `timestamp` (timestamp), `event_date` (date),
        `session_start_ts`, `session_end_ts` (timestamp), `begins_on_date` (boolean: the first row of its session on its
        event date) and for each rule a string column `problem: <rule>`, NULL if the row keeps the rule. A session that
        breaks a rule of `SESSION_RULES` is reported once on each of its event dates, in its first row there.
    """
    action = F.col(EVENT).isin(*sorted(rules.user_action_ids))
    # The label is long, and it is compared only with values of its own row, so it need not be shuffled.
    local = rows.withColumn(_OF_ROW, _problem_of_row(action)).select(*_JUDGED, _OF_ROW)
    # In this order one shuffle serves both: all rows of a key are together, and so are all rows of its sessions.
    return _with_whole_session(_with_neighbours(local, action), action).select(
        *_JUDGED,
        _BEGINS_ON_DATE,
        F.when(F.col(_BEGINS_ON_DATE), _problem_of_session(rules)).alias(_name(Rule.SESSION_END)),
        F.when(F.col(_REPEATS), F.lit("the same event is there more than once")).alias(_name(Rule.UNIQUE_EVENTS)),
        F.coalesce(_OF_ROW, _problem_of_place(rules)).alias(_name(Rule.SESSION_BOUNDS)),
    )


def missing_batches(day: date, first_day: date, landed: Collection[date], rules: SessionRules) -> list[date]:
    """The batches that are missing in the upstream window of an event date.

    Args:
        day: The event date.
        first_day: The date of the first batch there can be: the window does not reach before it.
        landed: The dates of the batches that have landed.
        rules: The session rules; their lateness is the length of the window.

    Returns:
        The dates in the window whose batch has not landed, in order.
    """
    return [batch for batch in rules.batch_window(day) if batch >= first_day and batch not in landed]


def _name(rule: Rule) -> str:
    return f"problem: {rule.value}"


def _rows_to_judge(events: DataFrame, first: date, last: date, rules: SessionRules) -> DataFrame:
    """The rows of some event dates, and those rows of other dates that `judge` needs to judge them correctly."""
    begin, end = _micros(first), _micros(last + timedelta(days=1))
    # Within the timeout of the first and the last midnight there may be user actions, or sessions, that are too close.
    near_begin, near_end = begin - rules.timeout_us, end + rules.timeout_us
    inside = events.where(F.col(EVENT_DATE).between(F.lit(first), F.lit(last)))
    reaching_out = inside.where((F.col(SESSION_START) < _instant(begin)) | (F.col(SESSION_END) >= _instant(end)))
    earliest, latest = reaching_out.agg(
        F.least(F.min(F.unix_micros(SESSION_START)), F.lit(near_begin)),
        F.greatest(F.max(F.unix_micros(SESSION_END)), F.lit(near_end)),
    ).collect()[0]
    keys = F.broadcast(reaching_out.select(*SESSION_KEY, F.lit(True).alias(_REACHES_OUT)).distinct())
    outside = (
        events.where(F.col(EVENT_DATE).between(F.to_date(_instant(earliest)), F.to_date(_instant(latest))))
        .where(~F.col(EVENT_DATE).between(F.lit(first), F.lit(last)))
        .where(F.col(TIMESTAMP).between(_instant(earliest), _instant(latest)))
        .join(keys, [*SESSION_KEY], "left")
        .where(F.col(_REACHES_OUT) | F.col(TIMESTAMP).between(_instant(near_begin), _instant(near_end)))
    )
    return inside.unionByName(outside.select(*events.columns))


def _with_whole_session(rows: DataFrame, action: Column) -> DataFrame:
    """Add what all rows of a session say about it together."""
    of_session = Window.partitionBy(*SESSION_KEY, SESSION_START).orderBy(TIMESTAMP, EVENT)
    whole = of_session.rowsBetween(Window.unboundedPreceding, Window.unboundedFollowing)
    date_before = F.lag(EVENT_DATE).over(of_session)
    action_at = F.when(action, F.col(TIMESTAMP))
    return rows.withColumns(
        {
            _BEGINS_ON_DATE: F.col(SESSION_START).isNotNull() & ~date_before.eqNullSafe(F.col(EVENT_DATE)),
            _FIRST_ACTION: F.min(action_at).over(whole),
            _LAST_ACTION: F.max(action_at).over(whole),
            _LEAST_END: F.min(SESSION_END).over(whole),
            _GREATEST_END: F.max(SESSION_END).over(whole),
        }
    )


def _with_neighbours(rows: DataFrame, action: Column) -> DataFrame:
    """Add what precedes and follows a row in time, within its session key."""
    in_time = Window.partitionBy(*SESSION_KEY).orderBy(TIMESTAMP, EVENT)
    so_far = in_time.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    action_here = F.struct(F.col(TIMESTAMP).alias("at"), F.col(SESSION_START).alias("session"))
    return rows.withColumn(_ACTION, F.when(action, action_here)).withColumns(
        {
            _REPEATS: F.lag(F.struct(TIMESTAMP, EVENT)).over(in_time) == F.struct(TIMESTAMP, EVENT),
            _LATEST_START: F.max(SESSION_START).over(so_far),
            _REACHED: F.max(SESSION_END).over(so_far),
            _NEXT_START: F.expr(f"lead({SESSION_START}) IGNORE NULLS").over(in_time),
            _PREVIOUS: F.expr(f"lag({_ACTION}) IGNORE NULLS").over(in_time),
            _NEXT: F.expr(f"lead({_ACTION}) IGNORE NULLS").over(in_time),
        }
    )


def _problem_of_row(action: Column) -> Column:
    """What is wrong with a row by itself, by the rule `SESSION_BOUNDS`."""
    at, start, end = F.col(TIMESTAMP), F.col(SESSION_START), F.col(SESSION_END)
    label = F.concat(F.col(USER), F.lit("#"), F.col(PRODUCT), F.lit("#"), F.date_format(start, SESSION_ID_FORMAT))
    nulls = start.isNull().cast("int") + end.isNull().cast("int") + F.col(SESSION_ID).isNull().cast("int")
    return (
        F.when(F.col(EVENT_DATE) != F.to_date(at), F.lit("event_date is not the date of timestamp"))
        .when(nulls.isin(1, 2), F.lit("some session columns are NULL, others not"))
        .when(action & start.isNull(), F.lit("a user action without a session"))
        .when(~at.between(start, end), F.lit("outside the bounds of its session"))
        .when(F.col(SESSION_ID) != label, F.concat(F.lit("session_id should be "), label, F.lit(", is "), SESSION_ID))
    )


def _problem_of_place(rules: SessionRules) -> Column:
    """What is wrong with a row beside its neighbours, by the rule `SESSION_BOUNDS`."""
    at, start, next_start = F.col(TIMESTAMP), F.col(SESSION_START), F.col(_NEXT_START)
    is_action = F.col(_ACTION).isNotNull()
    problem = F.when(
        start.isNull() & ((at <= F.col(_REACHED)) | (next_start <= at)), F.lit("inside a session, but not of it")
    ).when(
        (start < F.col(_LATEST_START)) | ((start < next_start) & (next_start <= at)),
        F.lit("inside a later session than its own"),
    )
    for name in (_PREVIOUS, _NEXT):
        gap = F.abs(F.unix_micros(at) - F.unix_micros(F.col(name)["at"]))
        is_same = start == F.col(name)["session"]
        other = F.concat(F.lit("the user action at "), F.col(name)["at"].cast("string"))
        problem = problem.when(
            is_action & is_same & (gap >= rules.timeout_us),
            F.concat(other, F.lit(" is the timeout or more away, but in the same session")),
        ).when(
            is_action & ~is_same & (gap < rules.timeout_us),
            F.concat(other, F.lit(" is less than the timeout away, but in another session")),
        )
    return problem


def _problem_of_session(rules: SessionRules) -> Column:
    """What is wrong with a session, by the rule `SESSION_END`."""
    first_action, last_action = F.col(_FIRST_ACTION), F.col(_LAST_ACTION)
    end = F.timestamp_micros(F.unix_micros(last_action) + F.lit(rules.timeout_us))
    return (
        F.when(first_action.isNull(), F.lit("the session has no user action"))
        .when(
            F.col(SESSION_START) != first_action,
            F.concat(F.lit("the session's first user action is at "), first_action.cast("string")),
        )
        .when(~F.col(_LEAST_END).eqNullSafe(F.col(_GREATEST_END)), F.lit("the session's rows do not agree on its end"))
        .when(
            ~F.col(_GREATEST_END).eqNullSafe(end),
            F.concat(F.lit("the session's last user action plus the timeout is "), end.cast("string")),
        )
    )


def _by_date(judged: DataFrame) -> DataFrame:
    """The number of rows and sessions of each event date, and for each rule the offenders: how many, and the first."""
    problems = [F.col(_name(rule)) for rule in Rule]
    offence = F.struct(TIMESTAMP, USER, PRODUCT, EVENT, SESSION_START, SESSION_END, *problems)
    # All rows without a problem fall into one group, so that only offenders are sorted to find the first of them.
    grouped = judged.groupBy(EVENT_DATE, F.when(F.coalesce(*problems).isNotNull(), offence).alias(_OFFENCE)).agg(
        F.count("*").alias(_ROWS), F.count_if(_BEGINS_ON_DATE).alias(_SESSIONS)
    )
    return grouped.groupBy(EVENT_DATE).agg(
        F.sum(_ROWS).alias(_ROWS),
        F.sum(_SESSIONS).alias(_SESSIONS),
        *[_offenders(rule).alias(rule.value) for rule in Rule],
        *[_examples(rule).alias(_name(rule)) for rule in Rule],
    )


def _offenders(rule: Rule) -> Column:
    offends = F.col(_OFFENCE)[_name(rule)].isNotNull()
    return F.sum(F.when(offends, F.col(_ROWS)).otherwise(0))


def _examples(rule: Rule) -> Column:
    offence = F.col(_OFFENCE)
    shown = [USER, EVENT, PRODUCT, TIMESTAMP, SESSION_START, SESSION_END, _name(rule)]
    example = F.struct(*[offence[name].cast("string").alias(name) for name in shown])
    return least_by(example, F.when(offence[_name(rule)].isNotNull(), offence), MAX_EXAMPLES)


def _finding(day: date, rule: Rule, found: Row | None) -> Finding:
    if found is None:
        return Finding(day, rule, 0, 0, ())
    checked = found[_SESSIONS if rule in SESSION_RULES else _ROWS]
    examples = tuple(Offender(*example) for example in found[_name(rule)] or ())
    return Finding(day, rule, checked, found[rule.value], examples)


def _micros(day: date) -> int:
    return (day - date(1970, 1, 1)) // timedelta(microseconds=1)


def _instant(micros: int) -> Column:
    return F.timestamp_micros(F.lit(micros))
