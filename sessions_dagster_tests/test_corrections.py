"""The effect of late and corrected batches on existing sessions: one property of the contract per case.

Every case has its own user, so that all of them share three runs: the batch of the 20th, the batch of the 21st with
late events, and the batch of the 20th again with other content.
"""

import re
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sessions_dagster.model.changes import SessionChange
from sessions_dagster.pipeline import apply, compute_changes
from sessions_dagster.pipeline.apply import ApplyReport
from sessions_dagster.spark.tuning import broadcast_if_small, spark_property
from sessions_dagster.storage import correction_log, write_changes
from sessions_dagster.storage.warehouse import Warehouse
from sessions_dagster_tests.builders import World, explained
from sessions_dagster_tests.oracle import Event, sessionize

FIRST, SECOND = date(2025, 9, 20), date(2025, 9, 21)

ADAPTS = "spark.sql.adaptive.enabled"

Bounds = tuple[str, str]


def u(clock: str, event: str = "a", day: int = 20) -> Event:
    """A user action of the 20th at a time of day."""
    hours, minutes, *seconds = clock.split(":")
    since_midnight = timedelta(hours=int(hours), minutes=int(minutes), seconds=float(seconds[0]) if seconds else 0)
    return Event("", event, "idea", datetime(2025, 9, day) + since_midnight)


def ide(clock: str, day: int = 20) -> Event:
    """An IDE event."""
    return u(clock, "x", day)


def of_ada(*events: Event) -> list[Event]:
    """The same events, of one user."""
    return [event._replace(user="ada") for event in events]


@dataclass(frozen=True)
class Case:
    """The batches of a user, and the expected sessions after each run, given as times of day."""

    first: Sequence[Event]
    late: Sequence[Event]
    sessions_first: Sequence[Bounds]
    sessions_late: Sequence[Bounds]
    first_again: Sequence[Event] | None = None
    sessions_again: Sequence[Bounds] | None = None


CASES = {
    "a late user action extends a session at its end": Case(
        [u("09:00")], [u("09:04")], [("09:00", "09:05")], [("09:00", "09:09")]
    ),
    "a late user action extends a session at its start": Case(
        [u("09:04")], [u("09:00")], [("09:04", "09:09")], [("09:00", "09:09")]
    ),
    "a late user action merges two sessions": Case(
        [u("09:00"), u("09:08")], [u("09:04")], [("09:00", "09:05"), ("09:08", "09:13")], [("09:00", "09:13")]
    ),
    "late user actions merge a chain of sessions": Case(
        [u("09:00"), u("09:08"), u("09:16")],
        [u("09:04"), u("09:12")],
        [("09:00", "09:05"), ("09:08", "09:13"), ("09:16", "09:21")],
        [("09:00", "09:21")],
    ),
    "a user action exactly five minutes later starts a session of its own": Case(
        [u("09:00")], [u("09:05")], [("09:00", "09:05")], [("09:00", "09:05"), ("09:05", "09:10")]
    ),
    "a user action a microsecond sooner does not start a session": Case(
        [u("09:00")], [u("09:04:59.999999")], [("09:00", "09:05")], [("09:00", "09:09:59.999999")]
    ),
    "a late session includes an IDE event that was in no session": Case(
        [ide("09:03"), ide("09:20")], [u("09:00")], [], [("09:00", "09:05")]
    ),
    "a late session includes an IDE event at its very end": Case(
        [ide("09:05")], [u("09:00")], [], [("09:00", "09:05")]
    ),
    "an IDE event moves to a late session that starts at its instant": Case(
        [u("09:00"), ide("09:05")], [u("09:05")], [("09:00", "09:05")], [("09:00", "09:05"), ("09:05", "09:10")]
    ),
    "a late IDE event gets its session and changes none": Case(
        [u("09:00"), u("09:03")], [ide("09:07")], [("09:00", "09:08")], [("09:00", "09:08")]
    ),
    "an event delivered again changes nothing": Case(
        [u("09:00"), ide("09:01")], [u("09:00"), ide("09:01")], [("09:00", "09:05")], [("09:00", "09:05")]
    ),
    "a session crosses midnight when the next day arrives": Case(
        [u("23:58")], [u("00:02", day=21)], [("23:58", "00:03")], [("23:58", "00:07")]
    ),
    "a late action before midnight merges sessions of two days": Case(
        [u("00:01"), u("23:53", day=19)],
        [u("23:57", day=19)],
        [("00:01", "00:06"), ("23:53", "23:58")],
        [("23:53", "00:06")],
    ),
    "a retracted action splits a session": Case(
        [u("09:00"), u("09:04"), u("09:08"), ide("09:10")],
        [],
        [("09:00", "09:13")],
        [("09:00", "09:13")],
        [u("09:00"), u("09:08"), ide("09:10")],
        [("09:00", "09:05"), ("09:08", "09:13")],
    ),
    "a retracted action shrinks a session and an IDE event after it is in none": Case(
        [u("09:00"), u("09:04"), ide("09:08")],
        [],
        [("09:00", "09:09")],
        [("09:00", "09:09")],
        [u("09:00"), ide("09:08")],
        [("09:00", "09:05")],
    ),
    "a correction removes all events of a user": Case(
        [u("09:00"), ide("09:01")], [], [("09:00", "09:05")], [("09:00", "09:05")], [], []
    ),
    "an event that another batch delivered too is not retracted": Case(
        [u("09:00"), u("09:04")], [u("09:04")], [("09:00", "09:09")], [("09:00", "09:09")], [], [("09:04", "09:09")]
    ),
    "a retracted action splits sessions that a late event had merged": Case(
        [u("09:00"), u("09:04"), u("09:12")],
        [u("09:08")],
        [("09:00", "09:09"), ("09:12", "09:17")],
        [("09:00", "09:17")],
        [u("09:00"), u("09:12")],
        [("09:00", "09:05"), ("09:08", "09:17")],
    ),
    "an event at the start of a removed session moves to the session that ends there": Case(
        [u("09:00"), u("09:05"), ide("09:05")],
        [],
        [("09:00", "09:05"), ("09:05", "09:10")],
        [("09:00", "09:05"), ("09:05", "09:10")],
        [u("09:00"), ide("09:05")],
        [("09:00", "09:05")],
    ),
}


@dataclass(frozen=True)
class Outcome:
    """The sessions of each user after each of the three runs, and the users whose rows differ from the oracle."""

    sessions: Sequence[dict[str, list[Bounds]]]
    wrong_users: Sequence[set[str]]
    reports: Sequence[ApplyReport]


@pytest.fixture(scope="module")
def outcome(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    # The setting outside of tests, with which a run decides itself where to turn it off.
    with spark_property(spark, ADAPTS, "true"):
        return three_runs(World(spark, tmp_path_factory.mktemp("corrections")))


def three_runs(world: World) -> Outcome:
    sessions, wrong, reports = [], [], []
    runs: list[tuple[date, dict[str, Sequence[Event]]]] = [
        (FIRST, {name: case.first for name, case in CASES.items()}),
        (SECOND, {name: case.late for name, case in CASES.items()}),
        (FIRST, {name: case.first if case.first_again is None else case.first_again for name, case in CASES.items()}),
    ]
    for day, batch in runs:
        world.land(day, [event._replace(user=name) for name, events in batch.items() for event in events])
        reports.append(world.materialize(SECOND))
        table = world.table()
        wrong.append({row.user for row in set(table) ^ sessionize(world.all_events())})
        found: dict[str, set[tuple[datetime, datetime]]] = {name: set() for name in CASES}
        for row in table:
            if row.start is not None and row.end is not None:
                found[row.user].add((row.start, row.end))
        sessions.append({name: sorted(map(_clock, bounds)) for name, bounds in found.items()})
    return Outcome(sessions, wrong, reports)


def _clock(bounds: tuple[datetime, datetime]) -> Bounds:
    start, end = (at.time().isoformat("auto").removesuffix(":00") for at in bounds)
    return start, end


@pytest.mark.parametrize("name", CASES)
def test_the_sessions_of_each_case_are_as_expected_after_each_run(outcome: Outcome, name: str) -> None:
    case = CASES[name]
    again = case.sessions_late if case.sessions_again is None else case.sessions_again
    expected = [sorted(case.sessions_first), sorted(case.sessions_late), sorted(again)]
    assert [after_run[name] for after_run in outcome.sessions] == expected


@pytest.mark.parametrize("name", CASES)
def test_every_row_equals_the_oracle_after_each_run(outcome: Outcome, name: str) -> None:
    assert [name in wrong for wrong in outcome.wrong_users] == [False, False, False]


def test_each_run_is_one_commit(outcome: Outcome) -> None:
    assert [report.version for report in outcome.reports] == [1, 2, 3]


def test_corrections_too_large_to_broadcast_give_the_same_table(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcome: Outcome
) -> None:
    joins: dict[str, set[str]] = {}

    def noted(name: str, look_up: Callable[..., DataFrame]) -> Callable[..., DataFrame]:
        def look_up_and_note(existing: DataFrame, *sought: Any) -> DataFrame:
            found = look_up(existing, *sought)
            joins[name] = joins.get(name, set()) | joins_of(found)
            return found

        return look_up_and_note

    lookups = ("facts_in_ranges", "facts_of_sessions", "dependent_rows")
    for name in lookups:
        monkeypatch.setattr(compute_changes, name, noted(name, getattr(compute_changes, name)))
    # The existing rows of a test are few enough for Spark to broadcast them.
    never = spark_property(spark, "spark.sql.autoBroadcastJoinThreshold", "-1")
    with spark_property(spark, "spark.sessions.broadcastRows", "1"), never:
        shuffled = three_runs(World(spark, tmp_path))
    assert joins == {name: {"SortMergeJoin"} for name in lookups}
    assert shuffled.wrong_users == [set(), set(), set()]
    assert shuffled.sessions == outcome.sessions


def test_the_rows_of_a_merge_are_broadcast_if_few(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hints: list[bool] = []

    def noted(rows: DataFrame, count: int) -> DataFrame:
        hinted = broadcast_if_small(rows, count)
        hints.append("strategy=broadcast" in explained(hinted, "extended"))
        return hinted

    monkeypatch.setattr(write_changes, "broadcast_if_small", noted)
    world = World(spark, tmp_path)
    for events in (of_ada(u("09:00"), u("09:04")), of_ada(u("09:00"))):
        world.land(FIRST, events)
        world.materialize(FIRST)
    assert hints == [True]


@pytest.mark.parametrize("is_removing", [False, True])
def test_a_row_is_not_replaced_by_another_one_with_the_same_hash(
    spark: SparkSession, tmp_path: Path, is_removing: bool
) -> None:
    action = u("09:00")
    others = [F.lit(action.event), F.lit(action.product)]
    users = (
        spark.range(300_000).select(F.md5(F.col("id").cast("string")).alias("user")).groupBy(F.hash("user", *others))
    )
    ada, bob = (
        action._replace(user=user)
        for user in users.agg(F.min("user").alias("one"), F.max("user").alias("other"))
        .where("one < other")
        .collect()[0][1:]
    )
    eve, dan = action._replace(user="eve"), action._replace(user="dan")
    numbers = spark.range(1).select(*[F.hash(F.lit(event.user), *others) for event in (ada, dan)]).collect()[0]
    dan = dan._replace(at=dan.at + timedelta(microseconds=numbers[0] - numbers[1]))
    world = World(spark, tmp_path)
    world.land(FIRST, [ada, eve])
    world.materialize(FIRST)
    # The change of eve's event replaces, or removes, rows of that date.
    if is_removing:
        world.land(FIRST, [ada, bob, dan])
    else:
        world.land(SECOND, [bob, dan, eve._replace(at=eve.at + timedelta(minutes=4))])
    world.materialize(SECOND)
    assert set(world.table()) == sessionize(world.all_events())


def joins_of(rows: DataFrame) -> set[str]:
    return set(re.findall(r"\w+Join\b", explained(rows, "simple")))


def test_the_report_counts_session_changes_by_kind(outcome: Outcome) -> None:
    first, late, again = outcome.reports
    assert first.session_changes == {}
    assert late.session_changes[SessionChange.MERGED] == 2 + 3 + 2 + 2
    assert again.session_changes[SessionChange.SPLIT] == 2
    assert again.session_changes[SessionChange.SHRUNK] == 2
    assert again.session_changes[SessionChange.REMOVED] == 2


def test_a_run_that_retracts_events_and_adds_a_new_date_counts_both(spark: SparkSession, tmp_path: Path) -> None:
    world = World(spark, tmp_path)
    for day, events in ((FIRST, of_ada(u("09:00"), u("12:00"))), (SECOND, [])):
        world.land(day, events)
        world.materialize(day)
    world.land(FIRST, of_ada(u("09:00")))
    world.land(SECOND, of_ada(u("23:50"), u("00:01", day=21), ide("00:02", day=21)))
    report = world.materialize(SECOND)
    assert set(world.table()) == sessionize(world.all_events())
    assert (report.inserted, report.deleted) == ({FIRST: 1, SECOND: 2}, {FIRST: 1})
    # The session that was removed on the 20th at 12:00 does not count.
    assert report.sessions_new == 2


def test_a_run_that_replaces_rows_and_adds_a_new_date_counts_both(spark: SparkSession, tmp_path: Path) -> None:
    world = World(spark, tmp_path)
    world.land(FIRST, of_ada(u("09:00")))
    world.materialize(FIRST)
    world.land(SECOND, of_ada(u("09:04"), u("09:00", day=21), u("12:00", day=21)))
    report = world.materialize(SECOND)
    assert set(world.table()) == sessionize(world.all_events())
    assert (report.inserted, report.updated) == ({FIRST: 1, SECOND: 2}, {FIRST: 1})
    assert report.sessions_new == 2


def test_landing_a_batch_without_events_of_its_day_again_unchanged_commits_nothing(
    spark: SparkSession, tmp_path: Path
) -> None:
    world = World(spark, tmp_path)
    for day, events in ((FIRST, of_ada(u("09:00"))), (SECOND, of_ada(u("12:00")))):
        world.land(day, events)
        world.materialize(day)
    version = DeltaTable(world.warehouse.sessionized_events).version()
    world.land(SECOND, of_ada(u("12:00")))
    report = world.materialize(SECOND)
    assert (report.committed, report.version) == (False, version)
    assert DeltaTable(world.warehouse.sessionized_events).version() == version


@pytest.mark.parametrize(
    ("events", "inserted", "sessions"),
    [
        pytest.param(
            [u("00:01", day=21), u("09:00", day=21)], {SECOND: 2}, 2, id="all of a key with events at midnight"
        ),
        pytest.param(
            [u("09:00", day=21), u("09:00", day=21)], {SECOND: 1}, 1, id="all append-only, and delivered twice"
        ),
        pytest.param([u("12:00")], {FIRST: 1}, 1, id="nothing of the day itself"),
    ],
)
def test_the_rows_of_a_new_date_are_counted_whether_append_only_or_not(
    spark: SparkSession, tmp_path: Path, events: Sequence[Event], inserted: dict[date, int], sessions: int
) -> None:
    world = World(spark, tmp_path)
    world.land(FIRST, of_ada(u("09:00")))
    world.materialize(FIRST)
    world.land(SECOND, of_ada(*events))
    report = world.materialize(SECOND)
    assert set(world.table()) == sessionize(world.all_events())
    assert report.inserted == inserted
    assert report.sessions_new == sessions


THREE_DAYS = [FIRST + timedelta(days=offset) for offset in range(3)]


@pytest.fixture(scope="module")
def corrected_day_by_day(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world whose runs each corrected all earlier days, with several tasks that look up and write rows."""
    world = World(spark, tmp_path_factory.mktemp("days"))
    users = [f"user {number}" for number in range(20)]
    with (
        spark_property(spark, "spark.sql.shuffle.partitions", "4"),
        spark_property(spark, "spark.sessions.rowsPerFile", "10"),
    ):
        for day in THREE_DAYS:
            # Each of these extends the existing session.
            late = [u("09:04", day=before.day) for before in THREE_DAYS if before < day]
            world.land(day, [event._replace(user=user) for event in (u("09:00", day=day.day), *late) for user in users])
            world.materialize(day)
    assert set(world.table()) == sessionize(world.all_events())
    return world


def test_a_run_writes_one_file_on_each_date_that_it_corrects(corrected_day_by_day: World) -> None:
    files = files_of_version(corrected_day_by_day.warehouse.sessionized_events, len(THREE_DAYS))
    *before, newest = [day.isoformat() for day in THREE_DAYS]
    dates = sorted(re.findall("event_date=([0-9-]+)", " ".join(files)))
    assert [day for day in dates if day != newest] == before


def test_a_batch_that_lands_again_during_a_run_is_applied_by_the_next_run(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(spark, tmp_path)
    # As on an object store, where no lock keeps a landing from happening during a run.
    monkeypatch.setattr(Warehouse, "writing", lambda *_: nullcontext())
    world.land(FIRST, of_ada(u("23:58")))
    world.materialize(FIRST)
    world.land(SECOND, of_ada(u("09:00", day=21)))

    def landing_again(*log: Any) -> Any:
        world.land(SECOND, of_ada(u("00:01", day=21), u("09:00", day=21)))
        return log_corrections(*log)

    log_corrections = correction_log.write_ahead
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(apply, "write_ahead", landing_again)
        world.materialize(SECOND)
    world.materialize(SECOND)
    assert set(world.table()) == sessionize(world.all_events())


def test_the_number_of_files_of_the_correction_log_follows_the_number_of_rows(corrected_day_by_day: World) -> None:
    # The last run extended 40 sessions. There is at most one file for each of two cores.
    assert len(files_of_version(corrected_day_by_day.warehouse.session_corrections, len(THREE_DAYS) - 1)) == 2


def files_of_version(table_uri: str, version: int) -> set[str]:
    """The files that the commit of a version added, except files that only got a deletion vector."""
    before, after = (set(DeltaTable(table_uri, version=each).file_uris()) for each in (version - 1, version))
    return after - before
