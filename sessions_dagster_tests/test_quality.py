"""The quality rules pass a correct table and report damage. The damage is done to a real Delta table."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from random import Random

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sessions_dagster.model.columns import EVENT_DATE, USER
from sessions_dagster.model.rules import SessionRules
from sessions_dagster.model.schemas import sessionized_events_schema
from sessions_dagster.quality.events import MAX_EXAMPLES, Finding, Rule, check_dates, judge, missing_batches
from sessions_dagster_tests.histories import MICROSECOND, TIMEOUT, deliveries
from sessions_dagster_tests.oracle import Event, SessionizedEvent, sessionize

FIRST_DAY = date(2025, 3, 1)
ONE_DAY = timedelta(days=1)
MIDNIGHTS = date(2025, 9, 20)
"""From this day on, sessions cross midnights; on earlier days every session ends on its day."""


def u(text: str, day: date = MIDNIGHTS) -> datetime:
    """A time of day in UTC; naive, as in the oracle."""
    return datetime.combine(day, time.fromisoformat(text))


LABEL = """concat(user_id, '#', product_code, '#', date_format({}, "yyyy-MM-dd'T'HH:mm:ss.SSS'Z'"))"""
NO_SESSION = "session_start_ts = NULL, session_end_ts = NULL, session_id = NULL"


def session(start: str, end: str) -> str:
    """The assignments that put a row into a session."""
    at = f"timestamp'DAY {start}'"
    return f"session_start_ts = {at}, session_end_ts = timestamp'DAY {end}', session_id = {LABEL.format(at)}"


def update(where: str, assignments: str) -> str:
    """The clause of a MERGE that updates the rows of the day at the given times, such as `= '09:00'`."""
    return f"WHEN MATCHED AND event_date = DATE'DAY' AND time {where} THEN UPDATE SET {assignments} "


def delete(where: str) -> str:
    """The clause of a MERGE that deletes the rows of the day at the given times."""
    return f"WHEN MATCHED AND event_date = DATE'DAY' AND time {where} THEN DELETE "


@dataclass(frozen=True)
class Damage:
    """A damage to the rows of the user `u` on a day of its own, and the expected result of the check of that day.

    The rows: sessions from 09:00 to 09:09 (`1` and a, x, b), from 09:09 to 09:14 (`1`, a and x) and from 12:00 to 12:05
    (c, x); and events x at 15:00 and 16:00 that are in no session.
    """

    name: str
    statement: str
    rule: Rule
    offenders: int
    problem: str


DAMAGES = [
    Damage(
        "a session ends a microsecond late",
        update("< '09:09'", "session_end_ts = session_end_ts + INTERVAL '0.000001' SECOND"),
        Rule.SESSION_END,
        1,
        "last user action plus the timeout is DAY 09:09:00",
    ),
    Damage(
        "one row disagrees on the end of its session",
        update("= '09:01'", "session_end_ts = session_end_ts + INTERVAL 1 SECOND"),
        Rule.SESSION_END,
        1,
        "do not agree on its end",
    ),
    Damage(
        "the last user action of a session is lost",
        delete("= '09:04'"),
        Rule.SESSION_END,
        1,
        "last user action plus the timeout is DAY 09:05:00",
    ),
    Damage(
        "the first user action of a session is lost",
        delete("= '09:00'"),
        Rule.SESSION_END,
        1,
        "first user action is at DAY 09:04:00",
    ),
    Damage(
        "all user actions of a session are lost",
        delete("= '12:00'"),
        Rule.SESSION_END,
        1,
        "no user action",
    ),
    Damage(
        "an event inside a session is not assigned to it",
        update("= '09:01'", NO_SESSION),
        Rule.SESSION_BOUNDS,
        1,
        "inside a session, but not of it",
    ),
    Damage(
        "an event at the very end of a session is not assigned to it",
        update("= '12:05'", NO_SESSION),
        Rule.SESSION_BOUNDS,
        1,
        "inside a session, but not of it",
    ),
    Damage(
        "an event at the very start of a session is not assigned to it",
        update("= '09:00' AND event_id = '1'", NO_SESSION),
        Rule.SESSION_BOUNDS,
        1,
        "inside a session, but not of it",
    ),
    Damage(
        "events where two sessions touch are assigned to the earlier one",
        update("= '09:09' AND event_id IN ('1', 'x')", session("09:00", "09:09")),
        Rule.SESSION_BOUNDS,
        2,
        "inside a later session",
    ),
    Damage(
        "an event outside of a session is assigned to it",
        update("= '15:00'", session("12:00", "12:05")),
        Rule.SESSION_BOUNDS,
        1,
        "outside the bounds",
    ),
    Damage(
        "user actions less than the timeout apart are in two sessions",
        update("< '09:04'", session("09:00", "09:05")) + update("= '09:04'", session("09:04", "09:09")),
        Rule.SESSION_BOUNDS,
        2,
        "09:04:00 is less than the timeout away, but in another session",
    ),
    Damage(
        "user actions the timeout apart are in one session",
        update("<= '09:09'", session("09:00", "09:14")),
        Rule.SESSION_BOUNDS,
        2,
        "09:09:00 is the timeout or more away, but in the same session",
    ),
    Damage(
        "a user action is in no session",
        update("BETWEEN '12:00' AND '12:05'", NO_SESSION),
        Rule.SESSION_BOUNDS,
        1,
        "a user action without a session",
    ),
    Damage(
        "a session id disagrees with the start",
        update("= '09:01'", "session_id = 'u#idea#DAYT09:00:00.001Z'"),
        Rule.SESSION_BOUNDS,
        1,
        "session_id should be u#idea#DAYT09:00:00.000Z, is u#idea#DAYT09:00:00.001Z",
    ),
    Damage(
        "a row has half a session",
        update("= '09:01'", "session_id = NULL"),
        Rule.SESSION_BOUNDS,
        1,
        "some session columns are NULL",
    ),
    Damage(
        "an event is on a date that is not its own",
        update("= '15:00'", "timestamp = timestamp + INTERVAL 24 HOURS"),
        Rule.SESSION_BOUNDS,
        1,
        "event_date is not the date of timestamp",
    ),
    Damage(
        "an event is duplicated",
        "INSERT INTO EVENTS SELECT * FROM EVENTS WHERE event_date = DATE'DAY' AND timestamp = timestamp'DAY 15:00'",
        Rule.UNIQUE_EVENTS,
        1,
        "more than once",
    ),
    Damage(
        "many events are there three times",
        "INSERT INTO EVENTS SELECT e.* FROM EVENTS e JOIN (VALUES (1), (2)) WHERE event_date = DATE'DAY'",
        Rule.UNIQUE_EVENTS,
        22,
        "more than once",
    ),
]

DAMAGE_OVER_MIDNIGHT = (
    "WHEN MATCHED AND user_id = 'marathon' AND timestamp = last_of_marathon THEN DELETE "
    "WHEN MATCHED AND user_id = 'split' THEN UPDATE SET session_start_ts = timestamp, "
    f"session_end_ts = timestamp + INTERVAL 5 MINUTES, session_id = {LABEL.format('timestamp')} "
    f"WHEN MATCHED AND user_id = 'orphan' AND event_id = 'x' THEN UPDATE SET {NO_SESSION}"
)
"""One damage for each test of a single day: a lost end, a session in two parts, an event outside its session."""

DAY_OF = {damage: FIRST_DAY + index * 2 * ONE_DAY for index, damage in enumerate(DAMAGES)}


def user_of_day(day: date) -> list[Event]:
    history = "1 09:00, a 09:00, x 09:01, b 09:04, 1 09:09, a 09:09, x 09:09, c 12:00, x 12:05, x 15:00, x 16:00"
    return [Event("u", each[0], "idea", u(each[2:], day)) for each in history.split(", ")]


def users_at_midnight() -> list[Event]:
    """Sessions that cross one or two midnights or touch at one, ties, and keys that are equal when joined by `#`."""
    next_day, third_day = MIDNIGHTS + ONE_DAY, MIDNIGHTS + 2 * ONE_DAY
    marathon = [u("23:50") + step * (TIMEOUT - MICROSECOND) for step in range(300)]
    assert marathon[-1].date() == third_day
    return [
        *[Event("marathon", "abc"[step % 3], "idea", at) for step, at in enumerate(marathon)],
        Event("split", "a", "idea", u("23:58")),
        Event("split", "a", "idea", u("00:02", next_day)),
        Event("orphan", "a", "idea", u("23:58")),
        Event("orphan", "x", "idea", u("00:03", next_day)),
        Event("touching", "a", "idea", u("23:55")),
        Event("touching", "x", "idea", u("00:00", next_day)),
        Event("touching", "b", "idea", u("00:00", next_day)),
        Event("touching", "a", "idea", u("00:00", next_day)),
        Event("alike", "a", "idea#pyc", u("08:00")),
        Event("alike#idea", "a", "pyc", u("08:01")),
        Event("late", "x", "idea", u("23:59")),
        Event("late", "a", "idea", u("00:01", third_day)),
    ]


def frame(spark: SparkSession, rows: Iterable[SessionizedEvent]) -> DataFrame:
    def utc(at: datetime | None) -> datetime | None:
        return None if at is None else at.replace(tzinfo=UTC)

    def session_id(row: SessionizedEvent) -> str | None:
        return None if row.start is None else f"{row.user}#{row.product}#{row.start.isoformat('T', 'milliseconds')}Z"

    return spark.createDataFrame(
        [
            (
                row.user,
                row.event,
                row.product,
                utc(row.at),
                row.at.date(),
                utc(row.start),
                utc(row.end),
                session_id(row),
                1,
            )
            for row in rows
        ],
        sessionized_events_schema(SessionRules(), {}),
    )


def write_table(spark: SparkSession, folder: Path) -> str:
    """A correct table: the result of the oracle for the events of all users."""
    events = [event for day in DAY_OF.values() for event in user_of_day(day)] + users_at_midnight()
    rows = frame(spark, sessionize(events)).coalesce(1)
    rows.write.format("delta").partitionBy(EVENT_DATE).save(str(folder))
    return str(folder)


def read(spark: SparkSession, table: str) -> DataFrame:
    return spark.read.format("delta").load(table)


def check(spark: SparkSession, table: str, first: date, last: date) -> dict[tuple[date, Rule], Finding]:
    findings = check_dates(read(spark, table), first, last, SessionRules())
    return {(finding.day, finding.rule): finding for finding in findings}


def offended(findings: dict[tuple[date, Rule], Finding], day: date) -> list[Rule]:
    return [rule for rule in Rule if findings[day, rule].offenders]


@pytest.fixture(scope="module")
def right(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_table(spark, tmp_path_factory.mktemp("right") / "events")


@pytest.fixture(scope="module")
def damaged(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> str:
    """All damages in one table; those that can be part of a MERGE are done in a single one."""
    table = write_table(spark, tmp_path_factory.mktemp("damaged") / "events")
    done = [damage.statement.replace("DAY", str(day)) for damage, day in DAY_OF.items()]
    clauses = [each for each in done if each.startswith("WHEN")] + [DAMAGE_OVER_MIDNIGHT]
    merge = (
        "MERGE INTO EVENTS USING (SELECT max(timestamp) AS last_of_marathon FROM EVENTS WHERE user_id = 'marathon') "
        f"ON true {' '.join(clauses)}"
    ).replace(" time ", " date_format(timestamp, 'HH:mm') ")
    for statement in [merge, *(each for each in done if each.startswith("INSERT"))]:
        spark.sql(statement.replace("EVENTS", f"delta.`{table}`"))
    return table


@pytest.fixture(scope="module")
def findings(spark: SparkSession, damaged: str) -> dict[tuple[date, Rule], Finding]:
    return check(spark, damaged, FIRST_DAY, max(DAY_OF.values()))


def test_a_correct_table_breaks_no_rule(spark: SparkSession, right: str) -> None:
    findings = check(spark, right, FIRST_DAY, MIDNIGHTS + 2 * ONE_DAY)
    assert [finding for finding in findings.values() if finding.offenders] == []


@pytest.mark.parametrize("day", [MIDNIGHTS, MIDNIGHTS + ONE_DAY, MIDNIGHTS + 2 * ONE_DAY], ids=str)
def test_a_correct_day_checked_alone_breaks_no_rule_even_if_its_sessions_cross_midnight(
    spark: SparkSession, right: str, day: date
) -> None:
    findings = check(spark, right, day, day)
    assert len(findings) == len(Rule)
    assert offended(findings, day) == []


def test_rows_and_sessions_are_counted_on_their_event_date(spark: SparkSession, right: str) -> None:
    findings = check(spark, right, FIRST_DAY, FIRST_DAY)
    assert [findings[FIRST_DAY, rule].checked for rule in Rule] == [3, 11, 11]


def test_a_date_without_rows_has_zero_checked_rows(findings: dict[tuple[date, Rule], Finding]) -> None:
    day = FIRST_DAY + ONE_DAY
    assert [findings[day, rule] for rule in Rule] == [Finding(day, rule, 0, 0, ()) for rule in Rule]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.name)
def test_damage_breaks_only_its_own_rule(findings: dict[tuple[date, Rule], Finding], damage: Damage) -> None:
    day = DAY_OF[damage]
    assert offended(findings, day) == [damage.rule]
    assert findings[day, damage.rule].offenders == damage.offenders


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.name)
def test_an_offending_row_is_shown_with_its_problem(findings: dict[tuple[date, Rule], Finding], damage: Damage) -> None:
    day = DAY_OF[damage]
    example = findings[day, damage.rule].examples[0]
    assert (example.user_id, example.product_code) == ("u", "idea")
    assert damage.problem.replace("DAY", str(day)) in example.problem


def test_at_most_ten_offenders_are_shown_but_all_are_counted(findings: dict[tuple[date, Rule], Finding]) -> None:
    finding = findings[DAY_OF[DAMAGES[-1]], Rule.UNIQUE_EVENTS]
    assert (finding.checked, finding.offenders, len(finding.examples)) == (33, 22, MAX_EXAMPLES)
    assert [example.timestamp for example in finding.examples] == sorted(each.timestamp for each in finding.examples)


def test_a_table_is_checked_against_the_given_session_rules(spark: SparkSession, right: str) -> None:
    rules = SessionRules(timedelta(minutes=5, microseconds=1), frozenset({"a", "b", "c"}))
    findings = check_dates(read(spark, right), FIRST_DAY, FIRST_DAY, rules)
    assert [finding.offenders > 0 for finding in findings] == [True, False, True]


@pytest.fixture(scope="module")
def alone(spark: SparkSession, damaged: str) -> dict[tuple[date, Rule], Finding]:
    """The findings on three days with sessions over midnight, each checked alone."""
    days = [MIDNIGHTS + offset * ONE_DAY for offset in range(3)]
    return {key: finding for day in days for key, finding in check(spark, damaged, day, day).items()}


def test_a_session_with_a_wrong_end_is_wrong_on_all_its_dates(alone: dict[tuple[date, Rule], Finding]) -> None:
    for offset in range(3):
        examples = alone[MIDNIGHTS + offset * ONE_DAY, Rule.SESSION_END].examples
        assert [each.user_id for each in examples] == ["marathon"]


def test_user_actions_too_close_for_two_sessions_are_reported_on_both_sides_of_midnight(
    alone: dict[tuple[date, Rule], Finding],
) -> None:
    before, after = (alone[day, Rule.SESSION_BOUNDS].examples for day in (MIDNIGHTS, MIDNIGHTS + ONE_DAY))
    assert [(each.user_id, each.timestamp) for each in before] == [("split", "2025-09-20 23:58:00")]
    assert ("split", "2025-09-21 00:02:00") in [(each.user_id, each.timestamp) for each in after]


def test_an_event_outside_its_session_is_found_if_the_session_has_rows_only_on_the_day_before(
    alone: dict[tuple[date, Rule], Finding],
) -> None:
    after = alone[MIDNIGHTS + ONE_DAY, Rule.SESSION_BOUNDS].examples
    assert ("orphan", "inside a session, but not of it") in [(each.user_id, each.problem) for each in after]


def disturbed(rows: Sequence[SessionizedEvent], random: Random) -> list[SessionizedEvent]:
    """Rows with a random change to one of them or to its session, which can be wrong or not."""
    row = random.choice(rows)
    of_key = [each for each in rows if (each.user, each.product) == (row.user, row.product)]
    mates = [each for each in of_key if row.start and each.start == row.start]
    actions_before = [each.at for each in mates if each.event in "abc" and each.at < row.at]
    neighbours = [each for each in of_key if each.start and row.start and each.start > row.start]
    other = random.choice(of_key)

    changed: dict[SessionizedEvent, SessionizedEvent] = {}
    match random.choice(["lose", "free", "give", "late end", "early start", "split", "join"]):
        case "lose":
            return [each for each in rows if each != row]
        case "free":
            changed = {row: row._replace(start=None, end=None)}
        case "give":
            changed = {row: row._replace(start=other.start, end=other.end)}
        case "late end":
            changed = {each: each._replace(end=row.end and row.end + MICROSECOND) for each in mates}
        case "early start":
            changed = {each: each._replace(start=row.start and row.start - MICROSECOND) for each in mates}
        case "split" if row.event in "abc" and actions_before:
            before = {each: each._replace(end=max(actions_before) + TIMEOUT) for each in mates if each.at < row.at}
            changed = before | {each: each._replace(start=row.at) for each in mates if each.at >= row.at}
        case "join" if neighbours:
            start, end = min((each.start, each.end) for each in neighbours)
            joined = mates + [each for each in neighbours if each.start == start]
            changed = {each: each._replace(start=row.start, end=end) for each in joined}
    return [changed.get(each, each) for each in rows]


def test_the_rules_report_a_table_exactly_if_it_differs_from_the_oracle(spark: SparkSession) -> None:
    random = Random(5)
    table: list[SessionizedEvent] = []
    wrong = set()
    for seed in range(400):
        right = sorted(sessionize(delivery.event for delivery in deliveries(seed)), key=str)
        rows = disturbed(right, random)
        if set(rows) != sessionize(Event(*row[:4]) for row in rows):
            wrong.add(right[0].user)
        table += rows
    assert 50 < len(wrong) < 350

    judged = judge(frame(spark, table), SessionRules())
    is_wrong = F.coalesce(*[F.col(name) for name in judged.columns if name.startswith("problem: ")]).isNotNull()
    assert {row[USER] for row in judged.where(is_wrong).select(USER).distinct().collect()} == wrong


def test_days_of_the_window_that_never_landed_are_missing() -> None:
    landed = {MIDNIGHTS, MIDNIGHTS - ONE_DAY, MIDNIGHTS - 4 * ONE_DAY, MIDNIGHTS - 6 * ONE_DAY, MIDNIGHTS + ONE_DAY}
    missing = missing_batches(MIDNIGHTS, FIRST_DAY, landed, SessionRules())
    assert missing == [MIDNIGHTS - back * ONE_DAY for back in (5, 3, 2)]


def test_the_window_does_not_start_before_the_first_partition() -> None:
    assert missing_batches(FIRST_DAY + ONE_DAY, FIRST_DAY, {FIRST_DAY}, SessionRules()) == [FIRST_DAY + ONE_DAY]


@pytest.mark.parametrize(("lateness_days", "missing"), [(0, 0), (2, 2), (7, 6)])
def test_the_checked_window_is_as_long_as_the_lateness(lateness_days: int, missing: int) -> None:
    rules = SessionRules(lateness_days=lateness_days)
    assert len(missing_batches(MIDNIGHTS, MIDNIGHTS - 6 * ONE_DAY, {MIDNIGHTS}, rules)) == missing
