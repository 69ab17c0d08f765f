"""The transforms alone, on many thousand small histories against the oracle.

Spark is slow per query and not per row: each query carries thousands of histories, each of a user of its own. Where
one is wrong, the smallest of them is told.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import Enum, auto
from functools import cached_property, reduce
from itertools import product
from random import Random
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, Observation, Row, SparkSession
from pyspark.sql import functions as F

from sessions_dagster.core import correction
from sessions_dagster.core.contract import (
    BATCH_DATE,
    DELIVERED_BY,
    EVENT,
    EVENT_DATE,
    PRODUCT,
    SESSION_END,
    SESSION_ID,
    SESSION_START,
    TIMESTAMP,
    USER,
    SessionRules,
)
from sessions_dagster.core.correction import (
    CHANGE,
    DELIVERY,
    Change,
    Extent,
    but_opened,
    delivered_facts,
    differences,
    extent_of_moved,
    extent_of_neighbourhoods,
    extent_of_opened,
    following_rows,
    held_facts,
    moved_sessions,
    near_dates,
    neighbourhoods,
    new_deliveries,
    of_change,
    opened_sessions,
    resolve,
    rows_of_sessions,
    touched_facts,
    withdrawn_facts,
)
from sessions_dagster.core.days import ONE_DAY, among
from sessions_dagster.core.fresh import (
    fresh_day,
    fresh_events,
    fresh_rows,
    other_events,
    table_rows_of,
)
from sessions_dagster.core.keys import (
    IS_AT_MIDNIGHT,
    IS_LARGE,
    IS_LARGE_AS_NEW,
    IS_NEW,
    is_at_midnight,
    notable_keys,
)
from sessions_dagster.core.outline import IS_OUTLINE, outlined_sessions, outlines, with_outlines, without_outlines
from sessions_dagster.core.sessionize import (
    BEGINS_SESSION,
    PIECE,
    REACH,
    assign_sessions,
    assign_sessions_in_pieces,
    reach_of_event,
)
from sessions_dagster.core.settings import setting
from sessions_dagster.core.skew import cut_into_pieces
from sessions_dagster_tests.histories import DAYS, FIRST_DAY, LATENESS, MICROSECOND, TIMEOUT, Delivery, deliveries
from sessions_dagster_tests.oracle import Event, sessionize

RULES: Final = SessionRules()
BATCH_DAYS: Final = [FIRST_DAY + timedelta(days=offset) for offset in range(DAYS + LATENESS)]

EXAMPLES: Final = 3
HISTORIES: Final = 3_000

GRID: Final = [0 * TIMEOUT, MICROSECOND] + [
    count * TIMEOUT + edge for count in (1, 2, 3) for edge in (-MICROSECOND, timedelta(0), MICROSECOND)
]
"""Instants at which histories on the edges take place: around multiples of the timeout."""

MARATHON: Final = [
    Event("ada", "a", "idea", datetime(2025, 9, 17, 22) + count * timedelta(minutes=4)) for count in range(800)
]
"""A session over three midnights: it ends on the 20th at 03:21."""

COMPILED: Final = {
    "spark.sql.codegen.wholeStage": "true",
    "spark.sql.codegen.factoryMode": "FALLBACK",
    # It would compile each part of a plan when its turn comes.
    "spark.sql.adaptive.enabled": "false",
}

AT_AN_INSTANT: Final = [("a",), ("x",), ("a", "x"), ("a", "b"), ("x", "y"), ("c", "x", "y")]

many_histories = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    # The smallest history that fails is found among thousands: looking for a smaller one would take Spark too long.
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


class Placed(NamedTuple):
    """What `sessionized_events` says of an event; UTC, naive."""

    start: datetime | None
    end: datetime | None
    delivered_by: int


Table = dict[Event, Placed]


class Role(Enum):
    """What became of a batch between the table as it is held and the correction."""

    APPLIED = auto()
    """The table reflects it."""
    LANDED_AGAIN = auto()
    """The table reflects an earlier landing of it, the correction has to reflect another one."""
    NEW = auto()
    """The table does not know it."""


Contents = Mapping[date, Sequence[Event]]


@dataclass(frozen=True)
class Story:
    """What batches brought before the correction, and what they bring now, with the roles they play."""

    roles: Mapping[date, Role]
    before: Contents
    now: Contents

    def days(self, *roles: Role) -> list[date]:
        return [day for day, role in self.roles.items() if role in roles]

    @cached_property
    def held(self) -> Table:
        """The table before."""
        return one_pass(self.before)

    @cached_property
    def expected(self) -> Table:
        """The table after."""
        return one_pass(self.now)

    @property
    def told(self) -> dict[str, list[str]]:
        """The story of each user."""
        found: dict[str, list[str]] = defaultdict(list)
        for when, contents in (("before", self.before), ("now", self.now)):
            for day, events in sorted(contents.items()):
                batch = f"{when}, batch of {day} ({self.roles[day].name.lower()})"
                for event in sorted(events):
                    found[event.user].append(f"{batch}: {event.event} {event.product} {event.at}")
        return found


def one_pass(contents: Contents) -> Table:
    """The table of some batches."""
    delivered_by: dict[Event, int] = defaultdict(int)
    for batch, events in contents.items():
        for event in events:
            delivered_by[event] |= 1 << (batch - event.at.date()).days
    return {
        Event(*row[:4]): Placed(row.start, row.end, delivered_by[Event(*row[:4])]) for row in sessionize(delivered_by)
    }


def histories_from(seed: int, count: int = HISTORIES) -> list[list[Delivery]]:
    """Histories of as many users: long ones, and short ones on the edges."""
    long = [deliveries(seed + number) for number in range(count // 2)]
    return long + [history_on_the_grid(Random(f"{seed} {number}"), f"grid{number}") for number in range(count // 2)]


def events_from(seed: int) -> set[Event]:
    """The events of `histories_from`."""
    return {delivery.event for history in histories_from(seed) for delivery in history}


def history_on_the_grid(random: Random, user: str) -> list[Delivery]:
    midnight = datetime.combine(random.choice(BATCH_DAYS[1:DAYS]), datetime.min.time())
    begin = midnight - random.choice(GRID)
    history = []
    for offset in random.sample(GRID, random.randint(1, 6)):
        for name in random.choice(AT_AN_INSTANT):
            event = Event(user, name, "idea", begin + offset)
            for lateness in random.sample(range(LATENESS + 1), random.choice((1, 1, 1, 2))):
                batch = event.at.date() + timedelta(days=lateness)
                history.append(Delivery(event, batch, firm=random.random() < 0.6))
    return history


def events_frame(spark: SparkSession, events: Sequence[Event], **more: pa.Array) -> DataFrame:
    columns = {
        USER: pa.array([event.user for event in events], pa.string()),
        EVENT: pa.array([event.event for event in events], pa.string()),
        PRODUCT: pa.array([event.product for event in events], pa.string()),
        TIMESTAMP: utc([event.at for event in events]),
        EVENT_DATE: pa.array([event.at.date() for event in events], pa.date32()),
    }
    return spark.createDataFrame(pa.table(columns | more))


def utc(times: Sequence[datetime | None]) -> pa.Array:
    return pa.array([at and at.replace(tzinfo=UTC) for at in times], pa.timestamp("us", "UTC"))


def raw_frame(spark: SparkSession, contents: Contents) -> DataFrame:
    """The columns of `raw_events` that a correction reads."""
    dealt = [(event, day) for day, events in contents.items() for event in events]
    days = pa.array([day for _, day in dealt], pa.date32())
    return events_frame(spark, [event for event, _ in dealt], **{BATCH_DATE: days})


def table_frame(spark: SparkSession, table: Table) -> DataFrame:
    """The columns of `sessionized_events`; a correction does not read the label."""
    columns = {
        SESSION_START: utc([placed.start for placed in table.values()]),
        SESSION_END: utc([placed.end for placed in table.values()]),
        SESSION_ID: pa.nulls(len(table), pa.string()),
        DELIVERED_BY: pa.array([placed.delivered_by for placed in table.values()], pa.int8()),
    }
    return events_frame(spark, list(table), **columns)


def collected(rows: DataFrame) -> list[dict[str, Any]]:
    """The rows, with naive UTC times."""
    table = rows.toArrow()
    for number, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            table = table.set_column(number, field.name, table[number].cast(pa.timestamp("us")))
    found: list[dict[str, Any]] = table.to_pylist()
    return found


def event_of(row: Mapping[str, Any]) -> Event:
    return Event(row[USER], row[EVENT], row[PRODUCT], row[TIMESTAMP])


def check_same(
    found: Mapping[Event, object], expected: Mapping[Event, object], told: Mapping[str, Sequence[object]]
) -> None:
    """Fail with the smallest history that is not as expected.

    Args:
        found: What was found of each event.
        expected: What the oracle says of it.
        told: What happened, by user.
    """
    events = found.keys() | expected.keys()
    wrong = {event.user for event in events if found.get(event) != expected.get(event)}
    if wrong:
        sizes = Counter(event.user for event in events)
        user = min(sorted(wrong), key=lambda name: sizes[name])
        lines = [f"{len(wrong)} of {len(sizes)} histories are wrong, and the smallest is:", *map(str, told[user])]
        for event in sorted(event for event in events if event.user == user):
            lines.append(f"{event.at} {event.event} {event.product}: {found.get(event)}, oracle: {expected.get(event)}")
        pytest.fail("\n".join(lines))


# --- sessions in one pass --------------------------------------------------------------------------------------------


def check_assignment(spark: SparkSession, events: Collection[Event]) -> None:
    """`assign_sessions` finds the sessions of the oracle, and one beginning of each."""
    check_assigned(assign_sessions(with_reach(events_frame(spark, list(events)))), events)


def with_reach(rows: DataFrame, rules: SessionRules = RULES) -> DataFrame:
    return rows.withColumn(REACH, reach_of_event(rules))


def check_assigned(rows: DataFrame, events: Collection[Event], rules: SessionRules = RULES) -> None:
    found = collected(rows)
    expected = sessionize(events, rules.timeout)
    told: dict[str, list[Event]] = defaultdict(list)
    for event in sorted(events):
        told[event.user].append(event)
    check_same(
        {event_of(row): (row[SESSION_START], row[SESSION_END]) for row in found},
        {Event(*row[:4]): (row.start, row.end) for row in expected},
        told,
    )
    assert len(found) == len(expected), "an event is there twice"
    begun = [(row[USER], row[PRODUCT], row[SESSION_START]) for row in found if row[BEGINS_SESSION]]
    assert sorted(begun) == sorted({(row.user, row.product, row.start) for row in expected if row.start is not None})


def histories_on_a_small_grid(edges: Sequence[int] = (-1, 0, 1)) -> list[Event]:
    """Every history of a user action, an IDE event, both or none at a begin, and around one and two timeouts later."""
    instants = [timedelta(0), *(count * TIMEOUT + edge * MICROSECOND for count in (1, 2) for edge in edges)]
    begin = datetime(2025, 9, 20, 23, 55)
    histories = enumerate(product(("", "a", "x", "ax"), repeat=len(instants)))
    return [
        Event(f"u{number}", name, "idea", begin + offset)
        for number, history in histories
        for offset, names in zip(instants, history, strict=True)
        for name in names
    ]


def test_every_history_on_a_small_grid_has_the_sessions_of_the_oracle(spark: SparkSession) -> None:
    check_assignment(spark, histories_on_a_small_grid())


@many_histories
@given(seed=st.integers(0, 2**31))
def test_any_histories_have_the_sessions_of_the_oracle(spark: SparkSession, seed: int) -> None:
    check_assignment(spark, events_from(seed))


# --- keys cut into pieces --------------------------------------------------------------------------------------------


def keys_of(rows: DataFrame, share: float = 1.0) -> list[Row]:
    """Some keys, or all of them, as if they were large."""
    return rows.select(USER, PRODUCT).distinct().sample(share, seed=1).collect()


def check_assignment_in_pieces(
    spark: SparkSession, events: Collection[Event], share: float = 1.0, rules: SessionRules = RULES
) -> None:
    """`assign_sessions_in_pieces` finds what `check_assignment` looks for, with some keys cut, or all of them."""
    rows = events_frame(spark, list(events))
    in_pieces = cut_into_pieces(with_reach(rows, rules), keys_of(rows, share), rules)
    check_assigned(assign_sessions_in_pieces(in_pieces, in_pieces, rules), events, rules)


def test_every_history_on_a_small_grid_has_its_sessions_in_pieces(spark: SparkSession) -> None:
    check_assignment_in_pieces(spark, histories_on_a_small_grid(edges=(-1, 0)))


@many_histories
@given(seed=st.integers(0, 2**31), share=st.sampled_from([0.5, 1.0]))
def test_keys_cut_into_pieces_have_the_sessions_of_the_oracle(spark: SparkSession, seed: int, share: float) -> None:
    events = events_from(seed)
    check_assignment_in_pieces(spark, events, share)


@pytest.mark.parametrize("timeout", [MICROSECOND, timedelta(minutes=7), timedelta(hours=25)])
def test_pieces_are_right_for_any_timeout(spark: SparkSession, timeout: timedelta) -> None:
    events = events_from(1)
    check_assignment_in_pieces(spark, events, rules=SessionRules(timeout))


def test_a_session_over_many_pieces_is_one_session(spark: SparkSession) -> None:
    rows = events_frame(spark, MARATHON)
    in_pieces = cut_into_pieces(with_reach(rows), keys_of(rows), RULES)
    found = collected(assign_sessions_in_pieces(in_pieces, in_pieces, RULES))
    bounds = {(row[SESSION_START], row[SESSION_END]) for row in found}
    assert bounds == {(MARATHON[0].at, MARATHON[-1].at + TIMEOUT)}
    assert sum(row[BEGINS_SESSION] for row in found) == 1


def test_a_piece_is_no_longer_than_the_timeout(spark: SparkSession) -> None:
    rows = events_frame(spark, MARATHON)
    pieces = cut_into_pieces(rows, keys_of(rows), RULES)
    lengths = pieces.groupBy(PIECE).agg((F.max(TIMESTAMP) - F.min(TIMESTAMP)).alias("length"))
    assert max(row["length"] for row in lengths.collect()) < TIMEOUT


# --- fresh events ----------------------------------------------------------------------------------------------------


def keys_at_midnight(rows: DataFrame, day: date, rules: SessionRules = RULES) -> DataFrame:
    marks = {IS_AT_MIDNIGHT: is_at_midnight(day, rules), IS_NEW: among(EVENT_DATE, [day])}
    return notable_keys(rows.withColumns(marks), 0).where(IS_AT_MIDNIGHT).select(USER, PRODUCT)


@many_histories
@given(seed=st.integers(0, 2**31))
def test_fresh_events_have_the_sessions_they_have_among_all(spark: SparkSession, seed: int) -> None:
    delivered = [delivery for history in histories_from(seed) for delivery in history]
    day = FIRST_DAY + timedelta(days=DAYS // 2)
    history = {delivery.event for delivery in delivered if delivery.event.at.date() <= day}
    # Twice, as a batch may bring an event twice.
    rows = [event for event in history if event.at.date() >= day - timedelta(days=LATENESS)] * 2
    brought = without_outlines(events_frame(spark, rows))
    at_midnight = keys_at_midnight(brought, day)
    fresh, others = fresh_events(brought, day, at_midnight), other_events(brought, day, at_midnight)
    found = collected(fresh_rows(fresh, RULES))
    assert found
    told: dict[str, list[Event]] = defaultdict(list)
    for event in sorted(history):
        told[event.user].append(event)
    everywhere = {Event(*row[:4]): (row.start, row.end, 1) for row in sessionize(history)}
    midnight = datetime.combine(day, datetime.min.time())
    active = {(event.user, event.product) for event in history if midnight <= event.at < midnight + TIMEOUT}
    expected = {
        event: placed
        for event, placed in everywhere.items()
        if event.at.date() == day and (event.user, event.product) not in active
    }
    check_same(
        {event_of(row): (row[SESSION_START], row[SESSION_END], row[DELIVERED_BY]) for row in found}, expected, told
    )
    assert len(found) == len(expected), "an event is there twice"
    assert Counter(map(event_of, collected(others))) == Counter(row for row in rows if row not in expected)
    assert sum(row[BEGINS_SESSION] for row in found) == len(
        {(event.user, event.product, start) for event, (start, _, _) in expected.items() if start}
    )


@pytest.mark.parametrize(
    ("first", "is_fresh"),
    [
        pytest.param(timedelta(0), False, id="midnight"),
        pytest.param(TIMEOUT - MICROSECOND, False, id="a microsecond before nothing reaches it"),
        pytest.param(TIMEOUT, True, id="where nothing reaches it any more"),
    ],
)
def test_a_key_is_fresh_where_no_action_before_midnight_reaches_it(
    spark: SparkSession, first: timedelta, is_fresh: bool
) -> None:
    midnight = datetime.combine(FIRST_DAY, datetime.min.time())
    events = [Event("ada", "x", "idea", midnight + first), Event("ada", "a", "idea", midnight + timedelta(hours=9))]
    brought = without_outlines(events_frame(spark, events))
    fresh = fresh_events(brought, FIRST_DAY, keys_at_midnight(brought, FIRST_DAY))
    assert {event_of(row) for row in collected(fresh)} == (set(events) if is_fresh else set())


def test_the_newest_day_is_fresh_where_the_table_has_nothing_as_new() -> None:
    days = [FIRST_DAY + timedelta(days=offset) for offset in range(4)]
    assert fresh_day(days[:3], []) == days[2]
    assert fresh_day([days[2], days[1]], days[:2]) == days[2]
    assert fresh_day(days[:3], [days[0], days[2]]) is None
    assert fresh_day(days[:2], [days[3]]) is None
    assert fresh_day([], days) is None


def test_what_is_looked_for_on_other_dates_computes_no_fresh_row(spark: SparkSession) -> None:
    placed = fresh_rows(events_frame(spark, MARATHON), RULES).observe(Observation(), F.count("*").alias("rows"))
    rows = table_rows_of(placed, FIRST_DAY)
    looked_for = rows.where(among(EVENT_DATE, [FIRST_DAY - timedelta(days=1)]))
    assert "Window" in plan_of(rows)
    assert "Window" not in plan_of(looked_for)


def plan_of(rows: DataFrame) -> str:
    plan: str = rows._jdf.queryExecution().optimizedPlan().toString()
    return plan


PARTS_OF_A_DAY: dict[str, Callable[[DataFrame, date], DataFrame]] = {
    "keys at midnight": keys_at_midnight,
    "fresh events": lambda brought, day: fresh_rows(fresh_events(brought, day, keys_of_frame(brought)), RULES),
    "other events": lambda brought, day: other_events(brought, day, keys_of_frame(brought)),
    "outlines": lambda brought, day: with_outlines_of(brought.drop(IS_OUTLINE), day, keys_of(brought)),
    "near dates": lambda brought, day: near_dates(brought, [day], RULES),
}


@pytest.mark.parametrize("part", PARTS_OF_A_DAY)
def test_a_new_day_compiles_to_the_code_of_any_other(spark: SparkSession, part: str) -> None:
    brought = without_outlines(events_frame(spark, MARATHON)).localCheckpoint()
    first, second = (code_of(PARTS_OF_A_DAY[part](brought, FIRST_DAY + ONE_DAY * days)) for days in range(2))
    assert first == second


def test_a_date_in_a_comparison_is_part_of_the_code(spark: SparkSession) -> None:
    brought = events_frame(spark, MARATHON).localCheckpoint()
    first, second = (code_of(brought.where(F.col(EVENT_DATE) == FIRST_DAY + ONE_DAY * days)) for days in range(2))
    assert first != second


def keys_of_frame(rows: DataFrame) -> DataFrame:
    return rows.select(USER, PRODUCT).distinct()


def code_of(rows: DataFrame) -> list[str]:
    """The lines of Java that Spark compiles for rows."""
    spark = rows.sparkSession
    assert spark._jvm is not None
    with ExitStack() as compiling:
        for name, value in COMPILED.items():
            compiling.enter_context(setting(spark, name, value))
        explained: str = spark._jvm.PythonSQLUtils.explainString(rows._jdf.queryExecution(), "codegen")
    lines = [line for line in explained.splitlines() if re.match(r"/\* \d+ \*/", line)]
    assert lines
    return lines


# --- outlines of large keys ------------------------------------------------------------------------------------------


def with_outlines_of(rows: DataFrame, day: date, large_keys: Sequence[Row], rules: SessionRules = RULES) -> DataFrame:
    return with_outlines(rows, day, large_keys, outlines(rows, day, large_keys, rules), rules)


def check_new_day(
    spark: SparkSession, events: Collection[Event], day: date, share: float = 1.0, rules: SessionRules = RULES
) -> None:
    """What is fresh of a new day and what is not have the sessions of the oracle, with some keys large, or all."""
    # Twice, as a batch may bring an event twice.
    rows = events_frame(spark, [*events] * 2)
    large_keys = keys_of(rows, share)
    brought = with_outlines_of(rows, day, large_keys, rules)
    small = rows.join(spark.createDataFrame(large_keys), [USER, PRODUCT], "left_anti")
    at_midnight = keys_at_midnight(small, day, rules)
    others = other_events(brought, day, at_midnight).withColumn(BATCH_DATE, F.col(EVENT_DATE))
    resolved = resolve(delivered_facts(others), rules).localCheckpoint()
    sessions = outlined_sessions(resolved, day, large_keys)
    columns = [USER, EVENT, PRODUCT, TIMESTAMP, SESSION_START, SESSION_END, BEGINS_SESSION]
    fresh = fresh_rows(fresh_events(brought, day, at_midnight), rules, sessions)
    check_assigned(resolved.select(*columns).unionByName(fresh.select(*columns)), events, rules)


def history_until(day: date, seed: int) -> set[Event]:
    return {event for event in events_from(seed) if event.at.date() <= day}


@many_histories
@given(seed=st.integers(0, 2**31), share=st.sampled_from([0.5, 1.0]))
def test_a_new_day_with_large_keys_has_the_sessions_of_the_oracle(spark: SparkSession, seed: int, share: float) -> None:
    day = FIRST_DAY + timedelta(days=DAYS // 2)
    check_new_day(spark, history_until(day, seed), day, share)


@pytest.mark.parametrize("timeout", [MICROSECOND, timedelta(minutes=7), timedelta(hours=25)])
def test_outlines_are_right_for_any_timeout(spark: SparkSession, timeout: timedelta) -> None:
    day = FIRST_DAY + timedelta(days=DAYS // 2)
    check_new_day(spark, history_until(day, 1), day, rules=SessionRules(timeout))


def test_every_history_around_midnight_on_a_small_grid_has_its_sessions_where_keys_are_large(
    spark: SparkSession,
) -> None:
    check_new_day(spark, histories_on_a_small_grid(edges=(-1, 0)), date(2025, 9, 21))


def test_an_outline_is_no_more_than_the_ends_of_each_piece_and_what_is_at_midnight(spark: SparkSession) -> None:
    midnight = datetime.combine(FIRST_DAY, datetime.min.time())
    dense = [
        Event("ada", name, "idea", midnight + TIMEOUT + number * timedelta(seconds=30))
        for number in range(20)
        for name in "ax"
    ]
    at_midnight = [Event("ada", "x", "idea", midnight + timedelta(seconds=number)) for number in range(3)]
    rows = events_frame(spark, [*dense, *at_midnight])
    marked = with_outlines_of(rows, FIRST_DAY, keys_of(rows))
    found = {event_of(row) for row in collected(marked.where(IS_OUTLINE))}
    # Twenty half minutes are two pieces of ten. Their IDE events at these instants may begin with a session.
    assert found == {
        *at_midnight,
        *(event for number in (0, 9, 10, 19) for event in dense[2 * number : 2 * number + 2]),
    }


# --- large keys ------------------------------------------------------------------------------------------------------


def test_a_large_key_is_found_and_no_other_one(spark: SparkSession) -> None:
    rows = keyed(spark, "large", 20_000).unionByName(keyed(spark, "one", 5_000)).unionByName(keyed(spark, "two", 5_000))
    assert notable(rows, 30_000, limit=10_000) == {"large": {IS_LARGE}}


def test_a_key_is_large_by_its_new_events_or_by_all_others(spark: SparkSession) -> None:
    rows = reduce(
        DataFrame.unionByName,
        [
            keyed(spark, "new", 20_000, new=True),
            keyed(spark, "other", 20_000),
            keyed(spark, "some of each", 8_000, new=True),
            keyed(spark, "some of each", 8_000),
        ],
    )
    assert notable(rows, 56_000, limit=10_000) == {"new": {IS_LARGE_AS_NEW}, "other": {IS_LARGE}}


def test_no_key_is_large_among_as_many_rows_as_one_may_have(spark: SparkSession) -> None:
    # There are twice as many as is said here: if it were looked, the key would be found.
    assert notable(keyed(spark, "all", 40_000), 20_000, limit=20_000) == {}


def test_a_key_is_told_that_is_at_midnight_whether_it_is_large_or_not(spark: SparkSession) -> None:
    at_midnight = [keyed(spark, user, 1).withColumn(IS_AT_MIDNIGHT, F.lit(True)) for user in ("large", "small")]
    rows = reduce(DataFrame.unionByName, [keyed(spark, "large", 20_000), *at_midnight])
    assert notable(rows, 20_002, limit=10_000) == {"large": {IS_AT_MIDNIGHT, IS_LARGE}, "small": {IS_AT_MIDNIGHT}}


def keyed(spark: SparkSession, user: str, count: int, *, new: bool = False) -> DataFrame:
    """So many rows of a user, none of them at midnight."""
    marks = F.lit(False).alias(IS_AT_MIDNIGHT), F.lit(new).alias(IS_NEW)
    return spark.range(count).select(F.lit(user).alias(USER), F.lit("idea").alias(PRODUCT), *marks)


def notable(rows: DataFrame, count: int, *, limit: int) -> dict[str, set[str]]:
    """What the notable keys are, by user."""
    marks = (IS_AT_MIDNIGHT, IS_LARGE, IS_LARGE_AS_NEW)
    with setting(rows.sparkSession, "spark.sessions.largeKeyRows", str(limit)):
        return {key[USER]: {mark for mark in marks if key[mark]} for key in notable_keys(rows, count).collect()}


# --- corrections -----------------------------------------------------------------------------------------------------


def resolved_facts(spark: SparkSession, story: Story, *, in_pieces: bool) -> DataFrame:
    """The resolved facts of a story, put together as a run does."""
    held = table_frame(spark, story.held)
    again = story.days(Role.LANDED_AGAIN)
    raw = raw_frame(spark, {day: story.now.get(day, ()) for day in story.days(Role.LANDED_AGAIN, Role.NEW)})
    is_again = F.col(BATCH_DATE).isin(again)
    changed = differences(held, raw.where(is_again), again).localCheckpoint()
    delivered = delivered_facts(raw.where(~is_again).select(*DELIVERY).unionByName(new_deliveries(changed)))
    withdrawn = withdrawn_facts(changed)
    moving = delivered.unionByName(withdrawn)
    near = neighbourhoods(near_dates(moving, sorted({event.at.date() for event in story.held}), RULES), RULES)
    opened = opened_sessions(withdrawn, RULES).localCheckpoint()
    touched = touched_facts(on_dates(held, near, extent_of_neighbourhoods()), near, RULES)
    rows = rows_of_sessions(on_dates(held, opened, extent_of_opened()), opened)
    facts = reduce(DataFrame.unionByName, [moving, but_opened(touched, opened), held_facts(rows)])
    resolved = resolve(facts, RULES, keys_of(facts) if in_pieces else ()).localCheckpoint()
    following = following_rows(
        on_dates(held, resolved, extent_of_moved()),
        moved_sessions(resolved),
        of_change(resolved, Change.UPDATE, Change.REMOVE),
    )
    return resolved.where(F.col(EVENT).isNotNull()).unionByName(following).localCheckpoint()


def on_dates(held: DataFrame, rows: DataFrame, extent: Extent) -> DataFrame:
    """The held rows of those dates only that a run reads."""
    (told,) = rows.agg(*extent).collect()
    return held.where(F.col(EVENT_DATE).isin(told["dates"]))


def check_correction(spark: SparkSession, story: Story, *, in_pieces: bool = False) -> None:
    """A correction of the held table makes it the table of one pass, and says rightly what it does to each row."""
    resolved = resolved_facts(spark, story, in_pieces=in_pieces)
    changes: dict[str, Table] = defaultdict(dict)
    for row in collected(resolved):
        changes[row[CHANGE]][event_of(row)] = placed(row)

    before, updated = story.held, changes[Change.UPDATE]
    after = {event: row for event, row in before.items() if event not in changes[Change.REMOVE]}
    check_same(after | updated | changes[Change.INSERT], story.expected, story.told)
    assert not changes[Change.INSERT].keys() & before.keys(), "inserted, and then there twice"
    assert updated.keys() | changes[Change.REMOVE].keys() <= before.keys(), "updated or removed, but not held"
    assert sum(map(len, changes.values())) == resolved.count(), "a row is there twice"
    assert not [event for event, row in updated.items() if row == before[event]], "written, but as it was"


def placed(row: Mapping[str, Any]) -> Placed:
    return Placed(row[SESSION_START], row[SESSION_END], row[DELIVERED_BY])


@pytest.mark.parametrize("searched", [correction.INSTANTS_WORTH_A_SEARCH, 0], ids=["few in a slot", "crowded slots"])
def test_every_correction_on_a_small_grid_gives_the_table_of_one_pass(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch, searched: int
) -> None:
    monkeypatch.setattr(correction, "INSTANTS_WORTH_A_SEARCH", searched)
    again, new = date(2025, 9, 20), date(2025, 9, 21)
    roles = {again: Role.LANDED_AGAIN, new: Role.NEW}
    instants = [timedelta(0), TIMEOUT - MICROSECOND, TIMEOUT, 2 * TIMEOUT]
    begin = datetime(2025, 9, 19, 23, 55)
    # What happens to a user action and to an IDE event at each instant.
    fates = list(product(("none", "stays", "comes", "goes"), ("none", "stays")))
    before: dict[date, list[Event]] = {again: []}
    now: dict[date, list[Event]] = {again: [], new: []}
    for number, history in enumerate(product(fates, repeat=len(instants))):
        for offset, fates_then in zip(instants, history, strict=True):
            for name, fate in zip("ax", fates_then, strict=True):
                event = Event(f"u{number}", name, "idea", begin + offset)
                if fate in {"stays", "goes"}:
                    before[again].append(event)
                if fate in {"stays", "comes"}:
                    now[new if fate == "comes" else again].append(event)
    check_correction(spark, Story(roles, before, now))


def test_an_event_of_a_crowded_slot_stays_in_a_session_without_an_action_there(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(correction, "INSTANTS_WORTH_A_SEARCH", 0)
    applied, new = date(2025, 9, 20), date(2025, 9, 21)
    held = [Event("ada", "a", "idea", datetime(2025, 9, 20, 9)), Event("ada", "x", "idea", datetime(2025, 9, 20, 9, 4))]
    late = Event("ada", "a", "idea", datetime(2025, 9, 20, 9, 8))
    roles = {applied: Role.APPLIED, new: Role.NEW}
    check_correction(spark, Story(roles, {applied: held}, {applied: held, new: [late]}))


@pytest.mark.parametrize("held_first", [True, False])
def test_a_correction_reaches_over_midnight_to_a_date_of_which_it_brings_nothing(
    spark: SparkSession, held_first: bool
) -> None:
    applied, new = date(2025, 9, 20), date(2025, 9, 21)
    midnight = datetime(2025, 9, 20)
    evening = [midnight - before for before in (MICROSECOND, TIMEOUT - MICROSECOND, TIMEOUT, TIMEOUT + MICROSECOND)]
    night = [midnight + after for after in (timedelta(0), MICROSECOND, TIMEOUT - MICROSECOND, TIMEOUT)]
    pairs = product(product(evening, "ax"), product(night, "ax"))
    first, second = zip(
        *([Event(f"u{number}", name, "idea", at) for at, name in pair] for number, pair in enumerate(pairs)),
        strict=True,
    )
    held, brought = (first, second) if held_first else (second, first)
    roles = {applied: Role.APPLIED, new: Role.NEW}
    check_correction(spark, Story(roles, {applied: held}, {applied: held, new: brought}))


@pytest.mark.parametrize(
    ("comes", "goes"),
    [
        (MARATHON[0].at - timedelta(minutes=4), None),
        (MARATHON[-1].at + timedelta(minutes=4), None),
        (MARATHON[400].at + timedelta(minutes=1), None),
        (None, MARATHON[0].at),
        (None, MARATHON[400].at),
        (MARATHON[-1].at + timedelta(minutes=4), MARATHON[0].at),
    ],
    ids=["starts sooner", "ends later", "stays", "starts later", "splits", "moves on"],
)
def test_a_session_over_midnights_is_corrected_on_dates_that_nothing_was_brought_of(
    spark: SparkSession, comes: datetime | None, goes: datetime | None
) -> None:
    again, new = date(2025, 9, 20), date(2025, 9, 21)
    roles = {again: Role.LANDED_AGAIN, new: Role.NEW}
    left = [event for event in MARATHON if event.at != goes]
    brought = [] if comes is None else [Event("ada", "b", "idea", comes)]
    check_correction(spark, Story(roles, {again: MARATHON}, {again: left, new: brought}))


roles_of_batches = (
    st.lists(st.sampled_from(Role), min_size=len(BATCH_DAYS), max_size=len(BATCH_DAYS))
    .filter(lambda roles: len(set(roles)) == len(Role))
    .map(lambda roles: dict(zip(BATCH_DAYS, roles, strict=True)))
)


@many_histories
@given(seed=st.integers(0, 2**31), roles=roles_of_batches, in_pieces=st.booleans())
def test_any_correction_gives_the_table_of_one_pass(
    spark: SparkSession, seed: int, roles: dict[date, Role], in_pieces: bool
) -> None:
    random = Random(seed)
    before: dict[date, list[Event]] = defaultdict(list)
    now: dict[date, list[Event]] = defaultdict(list)
    for history in histories_from(seed):
        for delivery in history:
            changes = roles[delivery.batch] is Role.LANDED_AGAIN and not delivery.firm
            if roles[delivery.batch] is not Role.NEW and not (changes and random.random() < 0.5):
                before[delivery.batch].append(delivery.event)
            if not (changes and random.random() < 0.5):
                now[delivery.batch].append(delivery.event)
    check_correction(spark, Story(roles, before, now), in_pieces=in_pieces)
