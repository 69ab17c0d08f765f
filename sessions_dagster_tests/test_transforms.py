"""The transforms alone, on many thousand small histories, compared with the oracle.

Spark is slow per query and not per row, so each query has thousands of histories, each of its own user. If some of them
are wrong, the smallest one is reported.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import Enum, auto
from functools import cached_property
from itertools import product
from random import Random
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, Observation, SparkSession
from pyspark.sql import functions as F

from sessions_dagster.model.changes import CHANGE, Change, ChangeSet
from sessions_dagster.model.columns import (
    BATCH_DATE,
    DELIVERED_BY,
    EVENT,
    EVENT_DATE,
    LANDED_AT,
    PRODUCT,
    SESSION_END,
    SESSION_ID,
    SESSION_START,
    TIMESTAMP,
    USER,
)
from sessions_dagster.model.date_columns import among
from sessions_dagster.model.dates import ONE_DAY
from sessions_dagster.model.rules import SessionRules
from sessions_dagster.pipeline.compute_changes import ExistingEvents, IncomingBatches, compute_changes
from sessions_dagster.pipeline.pending import PendingBatch
from sessions_dagster.spark.tuning import spark_property
from sessions_dagster.transforms import existing as existing_transforms
from sessions_dagster.transforms.append_only import (
    append_only_date,
    append_only_events,
    append_only_rows,
    keys_at_midnight,
    on_date,
    other_events,
)
from sessions_dagster.transforms.existing import facts_near_dates
from sessions_dagster.transforms.facts import incoming_facts
from sessions_dagster.transforms.sessionize import (
    BEGINS_SESSION,
    INTERVAL_END,
    INTERVAL_START,
    assign_sessions,
    interval_end_of_event,
)
from sessions_dagster_tests.builders import explained
from sessions_dagster_tests.frames import arrow_table, spark_frame
from sessions_dagster_tests.histories import DAYS, FIRST_DAY, LATENESS, MICROSECOND, TIMEOUT, Delivery, deliveries
from sessions_dagster_tests.oracle import Event, sessionize

RULES: Final = SessionRules()
BATCH_DAYS: Final = [FIRST_DAY + timedelta(days=offset) for offset in range(DAYS + LATENESS)]

EXAMPLES: Final = 3
HISTORIES: Final = 3_000

GRID: Final = [0 * TIMEOUT, MICROSECOND] + [
    count * TIMEOUT + edge for count in (1, 2, 3) for edge in (-MICROSECOND, timedelta(0), MICROSECOND)
]
"""Offsets of the events in histories of edge cases: around multiples of the timeout."""

LANDED: Final = datetime(2025, 10, 1, tzinfo=UTC)
"""The landing time of all batches."""

MARATHON: Final = [
    Event("ada", "a", "idea", datetime(2025, 9, 17, 22) + count * timedelta(minutes=4)) for count in range(800)
]
"""A session over three midnights, which ends on the 20th at 03:21."""

COMPILED: Final = {
    "spark.sql.codegen.wholeStage": "true",
    "spark.sql.codegen.factoryMode": "FALLBACK",
    # It would compile each part of a plan only when that part is executed.
    "spark.sql.adaptive.enabled": "false",
}

AT_AN_INSTANT: Final = [("a",), ("x",), ("a", "x"), ("a", "b"), ("x", "y"), ("c", "x", "y")]

many_histories = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    # The smallest wrong history of thousands is reported. Searching for a smaller one would take Spark too long.
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


class Placed(NamedTuple):
    """The session and the batches of an event in `sessionized_events`. Times are naive, in UTC."""

    start: datetime | None
    end: datetime | None
    delivered_by: int


Table = dict[Event, Placed]


class Role(Enum):
    """The state of a batch between the existing table and the correction."""

    APPLIED = auto()
    """The batch is applied to the table."""
    LANDED_AGAIN = auto()
    """An earlier landing of the batch is applied to the table; the correction has to apply another one."""
    NEW = auto()
    """The batch is not applied to the table."""


Contents = Mapping[date, Sequence[Event]]


@dataclass(frozen=True)
class Story:
    """The contents of batches before the correction and now, with the roles of the batches."""

    roles: Mapping[date, Role]
    before: Contents
    now: Contents

    def days(self, *roles: Role) -> list[date]:
        return [day for day, role in self.roles.items() if role in roles]

    @cached_property
    def existing(self) -> Table:
        """The table before the correction."""
        return one_pass(self.before)

    @cached_property
    def expected(self) -> Table:
        """The table after the correction."""
        return one_pass(self.now)

    @property
    def by_user(self) -> dict[str, list[str]]:
        """The deliveries of each user as text, before and now."""
        found: dict[str, list[str]] = defaultdict(list)
        for when, contents in (("before", self.before), ("now", self.now)):
            for day, events in sorted(contents.items()):
                batch = f"{when}, batch of {day} ({self.roles[day].name.lower()})"
                for event in sorted(events):
                    found[event.user].append(f"{batch}: {event.event} {event.product} {event.at}")
        return found


def one_pass(contents: Contents) -> Table:
    """The table that the oracle computes from the contents of batches."""
    delivered_by: dict[Event, int] = defaultdict(int)
    for batch, events in contents.items():
        for event in events:
            delivered_by[event] |= 1 << (batch - event.at.date()).days
    return {
        Event(*row[:4]): Placed(row.start, row.end, delivered_by[Event(*row[:4])]) for row in sessionize(delivered_by)
    }


def histories_from(seed: int, count: int = HISTORIES) -> list[list[Delivery]]:
    """Histories of `count` users: long ones, and short ones with edge cases."""
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
    return spark_frame(spark, pa.table(columns | more))


def utc(times: Sequence[datetime | None]) -> pa.Array:
    return pa.array([at and at.replace(tzinfo=UTC) for at in times], pa.timestamp("us", "UTC"))


def raw_frame(spark: SparkSession, contents: Contents) -> DataFrame:
    """The columns of `raw_events` that a correction reads."""
    dealt = [(event, day) for day, events in contents.items() for event in events]
    days, landed_at = pa.array([day for _, day in dealt], pa.date32()), utc([LANDED.replace(tzinfo=None)] * len(dealt))
    return events_frame(spark, [event for event, _ in dealt], **{BATCH_DATE: days, LANDED_AT: landed_at})


def table_frame(spark: SparkSession, table: Table) -> DataFrame:
    """The columns of `sessionized_events`. The session id is NULL, because a correction does not read it."""
    columns = {
        SESSION_START: utc([placed.start for placed in table.values()]),
        SESSION_END: utc([placed.end for placed in table.values()]),
        SESSION_ID: pa.nulls(len(table), pa.string()),
        DELIVERED_BY: pa.array([placed.delivered_by for placed in table.values()], pa.int8()),
    }
    return events_frame(spark, list(table), **columns)


def collected(rows: DataFrame) -> list[dict[str, Any]]:
    """The rows, with naive times in UTC."""
    table = arrow_table(rows)
    for number, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            table = table.set_column(number, field.name, table[number].cast(pa.timestamp("us")))
    found: list[dict[str, Any]] = table.to_pylist()
    return found


def event_of(row: Mapping[str, Any]) -> Event:
    return Event(row[USER], row[EVENT], row[PRODUCT], row[TIMESTAMP])


def check_same(
    found: Mapping[Event, object], expected: Mapping[Event, object], stories: Mapping[str, Sequence[object]]
) -> None:
    """Fail with the smallest history that differs from the expected one.

    Args:
        found: The result for each event.
        expected: The result of the oracle for each event.
        stories: The input of each user, for the failure message.
    """
    events = found.keys() | expected.keys()
    wrong = {event.user for event in events if found.get(event) != expected.get(event)}
    if wrong:
        sizes = Counter(event.user for event in events)
        user = min(sorted(wrong), key=lambda name: sizes[name])
        lines = [f"{len(wrong)} of {len(sizes)} histories are wrong, and the smallest is:", *map(str, stories[user])]
        for event in sorted(event for event in events if event.user == user):
            lines.append(f"{event.at} {event.event} {event.product}: {found.get(event)}, oracle: {expected.get(event)}")
        pytest.fail("\n".join(lines))


# --- sessions in one pass --------------------------------------------------------------------------------------------


def check_assignment(spark: SparkSession, events: Collection[Event]) -> None:
    """Check that `assign_sessions` finds the sessions of the oracle, and marks one start of each."""
    check_assigned(assign_sessions(with_intervals(events_frame(spark, list(events)))), events)


def with_intervals(rows: DataFrame, rules: SessionRules = RULES) -> DataFrame:
    return rows.withColumns({INTERVAL_START: F.col(TIMESTAMP), INTERVAL_END: interval_end_of_event(rules)})


def check_assigned(rows: DataFrame, events: Collection[Event], rules: SessionRules = RULES) -> None:
    found = collected(rows)
    expected = sessionize(events, rules.timeout)
    stories: dict[str, list[Event]] = defaultdict(list)
    for event in sorted(events):
        stories[event.user].append(event)
    check_same(
        {event_of(row): (row[SESSION_START], row[SESSION_END]) for row in found},
        {Event(*row[:4]): (row.start, row.end) for row in expected},
        stories,
    )
    assert len(found) == len(expected), "an event is there twice"
    begun = [(row[USER], row[PRODUCT], row[SESSION_START]) for row in found if row[BEGINS_SESSION]]
    assert sorted(begun) == sorted({(row.user, row.product, row.start) for row in expected if row.start is not None})


def histories_on_a_small_grid(edges: Sequence[int] = (-1, 0, 1)) -> list[Event]:
    """All histories of a user action, an IDE event, both or none at the start and around one and two timeouts later."""
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


# --- append-only events ----------------------------------------------------------------------------------------------


@many_histories
@given(seed=st.integers(0, 2**31))
def test_append_only_events_have_the_sessions_they_have_among_all(spark: SparkSession, seed: int) -> None:
    delivered = [delivery for history in histories_from(seed) for delivery in history]
    day = FIRST_DAY + timedelta(days=DAYS // 2)
    history = {delivery.event for delivery in delivered if delivery.event.at.date() <= day}
    # Twice, because a batch can deliver an event twice.
    rows = [event for event in history if event.at.date() >= day - timedelta(days=LATENESS)] * 2
    incoming = events_frame(spark, rows)
    at_midnight = keys_at_midnight(incoming, day, RULES)
    others = other_events(incoming, day, at_midnight)
    found = collected(append_only_rows(append_only_events(incoming, day, at_midnight), day, RULES))
    assert found
    stories: dict[str, list[Event]] = defaultdict(list)
    for event in sorted(history):
        stories[event.user].append(event)
    everywhere = {Event(*row[:4]): (row.start, row.end, 1) for row in sessionize(history)}
    midnight = datetime.combine(day, datetime.min.time())
    active = {(event.user, event.product) for event in history if midnight <= event.at < midnight + TIMEOUT}
    expected = {
        event: placed
        for event, placed in everywhere.items()
        if event.at.date() == day and (event.user, event.product) not in active
    }
    check_same(
        {event_of(row): (row[SESSION_START], row[SESSION_END], row[DELIVERED_BY]) for row in found}, expected, stories
    )
    assert len(found) == len(expected), "an event is there twice"
    assert Counter(map(event_of, collected(others))) == Counter(row for row in rows if row not in expected)
    assert sum(row[BEGINS_SESSION] for row in found) == len(
        {(event.user, event.product, start) for event, (start, _, _) in expected.items() if start}
    )


@pytest.mark.parametrize(
    ("first", "is_append_only"),
    [
        pytest.param(timedelta(0), False, id="midnight"),
        pytest.param(TIMEOUT - MICROSECOND, False, id="a microsecond before no action before midnight can reach it"),
        pytest.param(TIMEOUT, True, id="no action before midnight can reach it"),
    ],
)
def test_a_key_is_append_only_if_no_action_before_midnight_reaches_it(
    spark: SparkSession, first: timedelta, is_append_only: bool
) -> None:
    midnight = datetime.combine(FIRST_DAY, datetime.min.time())
    events = [Event("ada", "x", "idea", midnight + first), Event("ada", "a", "idea", midnight + timedelta(hours=9))]
    incoming = events_frame(spark, events)
    found = append_only_events(incoming, FIRST_DAY, keys_at_midnight(incoming, FIRST_DAY, RULES))
    assert {event_of(row) for row in collected(found)} == (set(events) if is_append_only else set())


def test_the_newest_date_is_append_only_if_the_table_has_no_rows_from_it_on() -> None:
    days = [FIRST_DAY + timedelta(days=offset) for offset in range(4)]
    assert append_only_date(days[:3], []) == days[2]
    assert append_only_date([days[2], days[1]], days[:2]) == days[2]
    assert append_only_date(days[:3], [days[0], days[2]]) is None
    assert append_only_date(days[:2], [days[3]]) is None
    assert append_only_date([], days) is None


def test_a_search_on_other_dates_computes_no_append_only_rows(spark: SparkSession) -> None:
    placed = append_only_rows(events_frame(spark, MARATHON), FIRST_DAY, RULES)
    rows = on_date(placed.observe(Observation(), F.count("*").alias("rows")), FIRST_DAY)
    searched = rows.where(among(EVENT_DATE, [FIRST_DAY - timedelta(days=1)]))
    assert "Window" in plan_of(rows)
    assert "Window" not in plan_of(searched)


def plan_of(rows: DataFrame) -> str:
    found = re.search("== Optimized Logical Plan ==(.*)== Physical Plan ==", explained(rows, "extended"), re.DOTALL)
    assert found
    return found[1]


PARTS_OF_A_DAY: dict[str, Callable[[DataFrame, date], DataFrame]] = {
    "keys at midnight": lambda incoming, day: keys_at_midnight(incoming, day, RULES),
    "append-only events": lambda incoming, day: append_only_rows(
        append_only_events(incoming, day, keys_of_frame(incoming)), day, RULES
    ),
    "other events": lambda incoming, day: other_events(incoming, day, keys_of_frame(incoming)),
    "facts near dates": lambda incoming, day: facts_near_dates(
        incoming_facts(incoming.withColumn(BATCH_DATE, F.col(EVENT_DATE)), RULES).localCheckpoint(), [day], RULES
    ),
}


@pytest.mark.parametrize("part", PARTS_OF_A_DAY)
def test_different_days_compile_to_the_same_code(spark: SparkSession, part: str) -> None:
    incoming = events_frame(spark, MARATHON).localCheckpoint()
    first, second = (code_of(PARTS_OF_A_DAY[part](incoming, FIRST_DAY + ONE_DAY * days)) for days in range(2))
    assert first == second


def test_a_date_literal_in_a_comparison_is_part_of_the_compiled_code(spark: SparkSession) -> None:
    incoming = events_frame(spark, MARATHON).localCheckpoint()
    first, second = (code_of(incoming.where(F.col(EVENT_DATE) == FIRST_DAY + ONE_DAY * days)) for days in range(2))
    assert first != second


def keys_of_frame(rows: DataFrame) -> DataFrame:
    return rows.select(USER, PRODUCT).distinct()


def code_of(rows: DataFrame) -> list[str]:
    """The lines of Java that Spark compiles for rows."""
    with ExitStack() as compiling:
        for name, value in COMPILED.items():
            compiling.enter_context(spark_property(rows.sparkSession, name, value))
        code = explained(rows, "codegen")
    lines = [line for line in code.splitlines() if re.match(r"/\* \d+ \*/", line)]
    assert lines
    return lines


# --- corrections -----------------------------------------------------------------------------------------------------


def changes_of(spark: SparkSession, story: Story) -> ChangeSet:
    """The changes from the existing table of a story to the expected one."""
    pending = [
        PendingBatch(day, LANDED if story.now.get(day) else None, may_exist=story.roles[day] is Role.LANDED_AGAIN)
        for day in story.days(Role.LANDED_AGAIN, Role.NEW)
    ]
    rows = sum(len(story.now.get(batch.day, ())) for batch in pending)
    return compute_changes(
        ExistingEvents(table_frame(spark, story.existing), sorted({event.at.date() for event in story.existing})),
        IncomingBatches(raw_frame(spark, story.now), pending, rows),
        RULES,
    )


def check_correction(spark: SparkSession, story: Story) -> None:
    """Check that a correction gives the table of one pass, and that the change of each row is right."""
    changes = changes_of(spark, story)
    rows: dict[str, Table] = defaultdict(dict)
    found = collected(changes.rows)
    for row in found:
        rows[row[CHANGE]][event_of(row)] = placed(row)
    appended = [] if changes.append_only is None else collected(changes.append_only.rows)
    inserted = rows[Change.INSERT] | {event_of(row): placed(row) for row in appended}

    before, updated, removed = story.existing, rows[Change.UPDATE], rows[Change.REMOVE]
    after = {event: row for event, row in before.items() if event not in removed}
    check_same(after | updated | inserted, story.expected, story.by_user)
    assert not inserted.keys() & before.keys(), "an inserted row exists already"
    assert updated.keys() | removed.keys() <= before.keys(), "an updated or removed row is not in the table"
    assert sum(map(len, rows.values())) == len(found), "a row is there twice"
    assert len(inserted) == len(rows[Change.INSERT]) + len(appended), "a row is inserted twice"
    assert not [event for event, row in updated.items() if row == before[event]], "an updated row is unchanged"
    assert changes.counts == counted(rows)


def counted(rows: Mapping[str, Table]) -> dict[Change, dict[date, int]]:
    return {
        change: dict(Counter(event.at.date() for event in rows[change]))
        for change in (Change.INSERT, Change.UPDATE, Change.REMOVE)
        if rows[change]
    }


def placed(row: Mapping[str, Any]) -> Placed:
    return Placed(row[SESSION_START], row[SESSION_END], row[DELIVERED_BY])


@pytest.mark.parametrize(
    "searched", [existing_transforms.MAX_SEARCHED_INSTANTS, 0], ids=["few in a bucket", "crowded buckets"]
)
def test_every_correction_on_a_small_grid_gives_the_table_of_one_pass(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch, searched: int
) -> None:
    monkeypatch.setattr(existing_transforms, "MAX_SEARCHED_INSTANTS", searched)
    again, new = date(2025, 9, 20), date(2025, 9, 21)
    roles = {again: Role.LANDED_AGAIN, new: Role.NEW}
    instants = [timedelta(0), TIMEOUT - MICROSECOND, TIMEOUT, 2 * TIMEOUT]
    begin = datetime(2025, 9, 19, 23, 55)
    # All combinations of what happens to a user action and to an IDE event at an instant.
    fates = list(product(("none", "existing", "incoming", "retracted"), ("none", "existing")))
    before: dict[date, list[Event]] = {again: []}
    now: dict[date, list[Event]] = {again: [], new: []}
    for number, history in enumerate(product(fates, repeat=len(instants))):
        for offset, fates_then in zip(instants, history, strict=True):
            for name, fate in zip("ax", fates_then, strict=True):
                event = Event(f"u{number}", name, "idea", begin + offset)
                if fate in {"existing", "retracted"}:
                    before[again].append(event)
                if fate in {"existing", "incoming"}:
                    now[new if fate == "incoming" else again].append(event)
    check_correction(spark, Story(roles, before, now))


def test_an_event_of_a_crowded_bucket_stays_in_a_session_without_actions_in_the_bucket(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(existing_transforms, "MAX_SEARCHED_INSTANTS", 0)
    applied, new = date(2025, 9, 20), date(2025, 9, 21)
    existing = [
        Event("ada", "a", "idea", datetime(2025, 9, 20, 9)),
        Event("ada", "x", "idea", datetime(2025, 9, 20, 9, 4)),
    ]
    late = Event("ada", "a", "idea", datetime(2025, 9, 20, 9, 8))
    roles = {applied: Role.APPLIED, new: Role.NEW}
    check_correction(spark, Story(roles, {applied: existing}, {applied: existing, new: [late]}))


@pytest.mark.parametrize("existing_first", [True, False])
def test_a_correction_updates_the_date_across_midnight_without_incoming_events_of_it(
    spark: SparkSession, existing_first: bool
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
    existing, incoming = (first, second) if existing_first else (second, first)
    roles = {applied: Role.APPLIED, new: Role.NEW}
    check_correction(spark, Story(roles, {applied: existing}, {applied: existing, new: incoming}))


@pytest.mark.parametrize(
    ("incoming_at", "retracted_at"),
    [
        (MARATHON[0].at - timedelta(minutes=4), None),
        (MARATHON[-1].at + timedelta(minutes=4), None),
        (MARATHON[400].at + timedelta(minutes=1), None),
        (None, MARATHON[0].at),
        (None, MARATHON[400].at),
        (MARATHON[-1].at + timedelta(minutes=4), MARATHON[0].at),
    ],
    ids=["starts sooner", "ends later", "same bounds", "starts later", "splits", "starts and ends later"],
)
def test_a_session_over_several_midnights_is_corrected_on_dates_without_incoming_events(
    spark: SparkSession, incoming_at: datetime | None, retracted_at: datetime | None
) -> None:
    again, new = date(2025, 9, 20), date(2025, 9, 21)
    roles = {again: Role.LANDED_AGAIN, new: Role.NEW}
    left = [event for event in MARATHON if event.at != retracted_at]
    incoming = [] if incoming_at is None else [Event("ada", "b", "idea", incoming_at)]
    check_correction(spark, Story(roles, {again: MARATHON}, {again: left, new: incoming}))


roles_of_batches = (
    st.lists(st.sampled_from(Role), min_size=len(BATCH_DAYS), max_size=len(BATCH_DAYS))
    .filter(lambda roles: len(set(roles)) == len(Role))
    .map(lambda roles: dict(zip(BATCH_DAYS, roles, strict=True)))
)


@many_histories
@given(seed=st.integers(0, 2**31), roles=roles_of_batches)
def test_any_correction_gives_the_table_of_one_pass(spark: SparkSession, seed: int, roles: dict[date, Role]) -> None:
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
    check_correction(spark, Story(roles, before, now))
