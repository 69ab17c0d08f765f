"""The audit finds every row that is not what `raw_events` says, whoever changed it, and writes nothing."""

from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable, QueryBuilder, write_deltalake
from pyspark.sql import SparkSession

from sessions_dagster.__main__ import main
from sessions_dagster.config import SessionsConfig
from sessions_dagster.defs import build_defs
from sessions_dagster.errors import AuditError, SliceError, one_line
from sessions_dagster.pipeline.audit import AuditReport, audit
from sessions_dagster.pipeline.comparison import (
    EVENTS_WITH_RAW,
    MAX_SHOWN,
    SESSIONS_WITH_EVENTS,
    SESSIONS_WITH_RAW,
    Comparison,
    DateRange,
    Difference,
    Differences,
)
from sessions_dagster.pipeline.difference_lines import audit_lines
from sessions_dagster.pipeline.refresh_sessions import refresh_sessions
from sessions_dagster.transforms.differences import DifferenceKind
from sessions_dagster_tests.builders import World
from sessions_dagster_tests.histories import FIRST_DAY, deliveries
from sessions_dagster_tests.hostile import TEXTS
from sessions_dagster_tests.oracle import Event
from sessions_dagster_tests.test_carried_columns import DAYS as DAYS_OF_CARRYING
from sessions_dagster_tests.test_carried_columns import Carrying, u

TABLES = ("raw_events", "rejected_events", "sessionized_events", "session_corrections", "sessions")
LAST_DAY = FIRST_DAY + timedelta(days=4)
MIDNIGHT = datetime(FIRST_DAY.year, FIRST_DAY.month, FIRST_DAY.day) + timedelta(days=2)
NIGHT_OWL = [
    Event("owl", event, "idea", MIDNIGHT + timedelta(minutes=minute))
    for event, minute in (("a", -10), ("c", -6), ("b", -2), ("a", 2), ("x", 3))
]
"""A session across a midnight. Without its `c` it falls apart."""

LONER = Event("owl", "x", "idea", MIDNIGHT + timedelta(hours=5))


def generated_world(spark: SparkSession, folder: Path) -> World:
    """Generated histories, delivered late, twice and again, and a session that every test knows."""
    world = World(spark, folder)
    dealt = [each for seed in range(40) for each in deliveries(seed)]
    batches: dict[date, list[Event]] = {MIDNIGHT.date(): [*NIGHT_OWL, LONER]}
    for each in dealt:
        if each.batch <= LAST_DAY:
            batches.setdefault(each.batch, []).append(each.event)
    first = min(batches)
    world.land(first, batches[first][::2])
    world.materialize(first)
    world.refresh()
    for day in sorted(batches):
        world.land(day, batches[day])
    world.materialize(first, LAST_DAY)
    world.refresh()
    return world


@pytest.fixture(scope="module")
def healthy(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> World:
    return generated_world(spark, tmp_path_factory.mktemp("healthy"))


@pytest.fixture
def world(healthy: World, tmp_path: Path) -> World:
    return healthy.copy_to(tmp_path)


def versions(world: World) -> dict[str, int]:
    """The versions of all tables."""
    return {name: DeltaTable(f"{world.warehouse.root}/{name}").version() for name in TABLES}


def found(report: AuditReport) -> dict[Comparison, dict[str, int]]:
    """The counts of a report, without the comparisons that found nothing."""
    counts = report.differences.counts
    return {compared: {kind.value: rows for kind, rows in kinds.items()} for compared, kinds in counts.items() if kinds}


def rows_of(table_uri: str, where: str) -> pa.Table:
    """Some rows of a table, as delta-rs reads them."""
    query = QueryBuilder().register("rows", DeltaTable(table_uri)).execute(f"SELECT * FROM rows WHERE {where}")
    return pa.table(query.read_all())


def delete(table_uri: str, where: str) -> None:
    DeltaTable(table_uri).delete(where)


def change(table_uri: str, where: str, times: int = 1, **to: str) -> None:
    """Change columns to expressions of SQL, as somebody may do by hand: the rows are deleted and appended again."""
    selected = ", ".join(
        f"{to[field.name]} AS {field.name}" if field.name in to else field.name
        for field in DeltaTable(table_uri).schema().fields
    )
    query = QueryBuilder().register("rows", DeltaTable(table_uri))
    changed = pa.table(query.execute(f"SELECT {selected} FROM rows WHERE {where}").read_all())
    assert changed.num_rows
    schema = rows_of(table_uri, "false").schema
    delete(table_uri, where)
    write_deltalake(table_uri, pa.concat_tables([changed.cast(schema)] * times), mode="append")


def double(table_uri: str, where: str) -> None:
    rows = rows_of(table_uri, where)
    assert rows.num_rows
    write_deltalake(table_uri, rows, mode="append")


OWL = "user_id = 'owl' AND event_id = 'c'"
"""A user action in the middle of the session, on the first of its two dates."""

OWLS_SESSION = "user_id = 'owl'"


class Damage(NamedTuple):
    """What somebody does to a table, and what the audit has to find."""

    table: str
    does: Callable[[str], None]
    finds: dict[Comparison, dict[str, int]]


def both(kinds: dict[str, int]) -> dict[Comparison, dict[str, int]]:
    return {SESSIONS_WITH_RAW: kinds, SESSIONS_WITH_EVENTS: kinds}


DAMAGES = {
    "an event deleted": Damage(
        "sessionized_events",
        lambda uri: delete(uri, OWL),
        {EVENTS_WITH_RAW: {"missing": 1}, SESSIONS_WITH_EVENTS: {"different": 1}},
    ),
    "an event twice": Damage(
        "sessionized_events",
        lambda uri: double(uri, OWL),
        {EVENTS_WITH_RAW: {"extra": 1}, SESSIONS_WITH_EVENTS: {"different": 1}},
    ),
    "an event nobody delivered": Damage(
        "sessionized_events",
        lambda uri: write_deltalake(
            uri, rows_of(uri, OWL).set_column(1, "event_id", pa.array(["z"], pa.string())), mode="append"
        ),
        {EVENTS_WITH_RAW: {"extra": 1}, SESSIONS_WITH_EVENTS: {"different": 1}},
    ),
    "the bounds of a session": Damage(
        "sessionized_events",
        lambda uri: change(uri, OWL, session_end_ts="session_end_ts + INTERVAL '1' MINUTE"),
        {EVENTS_WITH_RAW: {"different": 1}, SESSIONS_WITH_EVENTS: {"different": 1}},
    ),
    "an event put out of its session": Damage(
        "sessionized_events",
        lambda uri: change(uri, OWL, session_start_ts="NULL", session_end_ts="NULL", session_id="NULL"),
        {EVENTS_WITH_RAW: {"different": 1}, SESSIONS_WITH_EVENTS: {"different": 1}},
    ),
    "a session id": Damage(
        "sessionized_events",
        lambda uri: change(uri, OWL, session_id="'owl#idea#never'"),
        {EVENTS_WITH_RAW: {"different": 1}},
    ),
    "the batches of an event": Damage(
        "sessionized_events",
        lambda uri: change(uri, OWL, delivered_by="3"),
        {EVENTS_WITH_RAW: {"different": 1}},
    ),
    "the user of an event": Damage(
        "sessionized_events",
        lambda uri: change(uri, OWL, user_id="'OWL'"),
        {EVENTS_WITH_RAW: {"missing": 1, "extra": 1}, SESSIONS_WITH_EVENTS: {"different": 1, "missing": 1}},
    ),
    "a session deleted": Damage("sessions", lambda uri: delete(uri, OWLS_SESSION), both({"missing": 1})),
    "a session twice": Damage("sessions", lambda uri: double(uri, OWLS_SESSION), both({"extra": 1})),
    "a session twice and changed": Damage(
        "sessions",
        lambda uri: change(uri, OWLS_SESSION, times=2, events="7"),
        both({"different": 1, "extra": 1}),
    ),
    "the count of a session": Damage(
        "sessions", lambda uri: change(uri, OWLS_SESSION, user_actions="user_actions + 1"), both({"different": 1})
    ),
    "the date of a session": Damage(
        "sessions", lambda uri: change(uri, OWLS_SESSION, session_date="DATE '2025-09-01'"), both({"different": 1})
    ),
    "the start of a session": Damage(
        "sessions",
        lambda uri: change(uri, OWLS_SESSION, session_start_ts="session_start_ts + INTERVAL '1' MINUTE"),
        both({"missing": 1, "extra": 1}),
    ),
    "a landed row deleted": Damage(
        "raw_events",
        lambda uri: delete(uri, OWL),
        {EVENTS_WITH_RAW: {"extra": 1, "different": 4}, SESSIONS_WITH_RAW: {"different": 1, "missing": 1}},
    ),
    "a landed row added": Damage(
        "raw_events",
        lambda uri: write_deltalake(
            uri, rows_of(uri, OWL).set_column(1, "event_id", pa.array(["y"], pa.string())), mode="append"
        ),
        {EVENTS_WITH_RAW: {"missing": 1}, SESSIONS_WITH_RAW: {"different": 1}},
    ),
}


def test_nothing_is_found_after_a_generated_history_and_nothing_is_written(world: World) -> None:
    before = versions(world)
    report = audit(world.spark, world.warehouse)
    assert found(report) == {}
    assert (report.count, report.pending, report.differences.first) == (0, (), [])
    report.check()
    assert versions(world) == before


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_change_by_hand_is_found_and_left(world: World, damage: Damage) -> None:
    damage.does(f"{world.warehouse.root}/{damage.table}")
    before = versions(world)
    report = audit(world.spark, world.warehouse)
    assert found(report) == damage.finds
    with pytest.raises(AuditError, match=r"Nothing was changed\. Run rebuild"):
        report.check()
    assert versions(world) == before
    assert {each.user_id.lower() for each in report.differences.first} == {"owl"}


def test_a_session_that_differs_from_both_tables_is_one_row_that_differs() -> None:
    one = {DifferenceKind.DIFFERENT: 1}
    both_compared = Differences({EVENTS_WITH_RAW: {}, SESSIONS_WITH_RAW: one, SESSIONS_WITH_EVENTS: one}, [])
    by_events_alone = Differences({EVENTS_WITH_RAW: {}, SESSIONS_WITH_RAW: {}, SESSIONS_WITH_EVENTS: one}, [])
    for differences in (both_compared, by_events_alone):
        report = AuditReport(None, differences, (), False, {}, 0)
        assert report.count == 1
        with pytest.raises(AuditError):
            report.check()


@pytest.mark.parametrize("text", TEXTS)
def test_an_id_stays_in_its_line_whatever_is_in_it(text: str) -> None:
    found = Difference(
        "extra", "sessions", "raw_events", FIRST_DAY, text, text, text, str(MIDNIGHT), 1, None, f"country {text}"
    )
    report = AuditReport(None, Differences({}, [found]), (), False, {}, 0)
    _, row = audit_lines(report)
    assert one_line(row) == row
    assert row.count(one_line(text).strip()) == 4


def test_a_row_that_is_delivered_twice_is_no_difference(world: World) -> None:
    double(world.warehouse.raw_events, OWL)
    assert found(audit(world.spark, world.warehouse)) == {}


def test_a_range_is_compared_with_what_all_rows_say(world: World) -> None:
    day_before, day = (MIDNIGHT - timedelta(days=1)).date(), MIDNIGHT.date()
    delete(world.warehouse.sessionized_events, OWL)
    assert found(audit(world.spark, world.warehouse, DateRange(day, LAST_DAY))) == {
        SESSIONS_WITH_EVENTS: {"different": 1}
    }
    assert found(audit(world.spark, world.warehouse, DateRange(FIRST_DAY, day_before))) == {
        EVENTS_WITH_RAW: {"missing": 1},
        SESSIONS_WITH_EVENTS: {"different": 1},
    }
    after = day + timedelta(days=1)
    assert found(audit(world.spark, world.warehouse, DateRange(after, after))) == {}


def test_of_many_differences_the_first_ones_are_told_and_all_are_counted(world: World) -> None:
    rows = len(world.table())
    delete(world.warehouse.sessionized_events, "true")
    report = audit(world.spark, world.warehouse)
    assert report.differences.counts[EVENTS_WITH_RAW] == {"missing": rows}
    assert len(report.differences.first) == MAX_SHOWN
    assert [each.timestamp for each in report.differences.first] == sorted(
        each.timestamp for each in report.differences.first
    )


def test_a_batch_that_is_not_applied_yet_is_named(world: World) -> None:
    day = LAST_DAY + timedelta(days=1)
    world.land(day, [Event("owl", "a", "idea", datetime(day.year, day.month, day.day, 9))])
    report = audit(world.spark, world.warehouse)
    assert report.pending == (day,)
    with pytest.raises(AuditError, match=f"not applied yet: {day}. Materialize sessionized_events"):
        report.check()


def test_a_batch_with_rows_of_several_landings_cannot_be_compared(world: World) -> None:
    later = rows_of(world.warehouse.raw_events, OWL)
    at = later.schema.get_field_index("landed_at")
    moved = pc.add(later.column(at), pa.scalar(timedelta(days=1)))
    write_deltalake(world.warehouse.raw_events, later.set_column(at, "landed_at", moved), mode="append")
    with pytest.raises(SliceError, match="has done that, and is no landing"):
        audit(world.spark, world.warehouse)


def run_audit(world: World, **dates: str) -> dg.ExecuteInProcessResult:
    config = SessionsConfig(start_date=FIRST_DAY, input_root=world.input.root, warehouse_root=world.warehouse.root)
    job = build_defs(config).resolve_job_def("audit")
    run_config = {"ops": {"audit_tables": {"config": dates}}} if dates else None
    return job.execute_in_process(run_config=run_config, raise_on_error=False)


def test_the_job_runs_with_its_defaults_and_fails_with_the_first_rows_if_there_are_differences(world: World) -> None:
    assert run_audit(world).success
    delete(world.warehouse.sessionized_events, OWL)
    result = run_audit(world)
    assert not result.success
    failed = result.failure_data_for_node("audit_tables")
    assert failed is not None
    failure = failed.user_failure_data
    assert failure is not None
    assert "Run rebuild" in str(failure.description)
    assert failure.metadata["differences"].value == 2
    table = failure.metadata["first_differences"]
    assert isinstance(table, dg.TableMetadataValue)
    (first, *_) = table.records
    assert (first.data["kind"], first.data["table"], first.data["user_id"]) == ("missing", "sessionized_events", "owl")
    assert run_audit(world, first_date=str(LAST_DAY), last_date=str(LAST_DAY)).success


@pytest.mark.parametrize("dates", [{"first_date": "2025-09-18"}, {"first_date": "2025-09-18", "last_date": "soon"}])
def test_the_job_refuses_half_a_range(tmp_path: Path, dates: dict[str, str]) -> None:
    config = SessionsConfig(start_date=FIRST_DAY, warehouse_root=tmp_path)
    job = build_defs(config).resolve_job_def("audit")
    result = job.execute_in_process(run_config={"ops": {"audit_tables": {"config": dates}}}, raise_on_error=False)
    assert "must be two dates" in str(result.failure_data_for_node("audit_tables"))


def test_the_command_tells_the_differences_and_its_exit_code_says_whether_there_are_any(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SESSIONS_START_DATE", str(FIRST_DAY))
    monkeypatch.setenv("SESSIONS_WAREHOUSE_ROOT", world.warehouse.root)
    assert main(["audit"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "sessionized_events compared with raw_events, all dates: no difference",
        "sessions compared with raw_events, all dates: no difference",
        "sessions compared with sessionized_events, all dates: no difference",
    ]
    delete(world.warehouse.sessionized_events, OWL)
    assert main(["audit", "--from", "2025-09-11", "--to", "2025-09-11"]) == 1
    said = capsys.readouterr()
    assert "sessionized_events compared with raw_events, 2025-09-11: 1 row missing" in said.out
    assert "Run rebuild" in said.err


def test_a_carried_value_is_the_one_of_the_newest_landing(spark: SparkSession, tmp_path: Path) -> None:
    world = Carrying(spark, tmp_path)
    day, next_day = DAYS_OF_CARRYING[:2]
    world.land(day, [u("10:00", "NL"), u("10:00", None), u("10:01", "FR"), u("10:02", None)])
    world.land(next_day, [u("10:01", "DE")])
    world.apply(day, next_day)
    refresh_sessions(spark, world.warehouse)
    assert found(audit(spark, world.warehouse)) == {}
    change(world.warehouse.sessionized_events, "country = 'DE'", country="'FR'")
    report = audit(spark, world.warehouse)
    assert found(report) == {EVENTS_WITH_RAW: {"different": 1}}
    (first,) = report.differences.first
    assert (first.expected, first.found) == (
        "session_start_ts 2025-09-20 10:00:00, country DE",
        "session_start_ts 2025-09-20 10:00:00, country FR",
    )
