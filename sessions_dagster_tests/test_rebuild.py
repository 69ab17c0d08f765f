"""The rebuild makes the tables what one pass over `raw_events` gives, and the daily runs go on from there."""

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.snap.snap_to_yaml import default_values_yaml_from_type_snap
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from sessions_dagster.__main__ import main
from sessions_dagster.config import SessionsConfig
from sessions_dagster.defs import build_defs
from sessions_dagster.errors import ConcurrentWriteError, RebuildError, RulesMismatchError
from sessions_dagster.model.rules import SessionRules
from sessions_dagster.pipeline import rebuild as rebuild_module
from sessions_dagster.pipeline.audit import audit
from sessions_dagster.pipeline.comparison import EVENTS_WITH_RAW, SESSIONS_WITH_RAW, DateRange
from sessions_dagster.pipeline.pending import days_in_sessions
from sessions_dagster.pipeline.rebuild import RebuildReport, rebuild
from sessions_dagster.spark.tuning import spark_property
from sessions_dagster.storage.delta_tables import append
from sessions_dagster.storage.rebuilt_events import replace_events
from sessions_dagster.storage.sessionized_events import rules_of_table
from sessions_dagster.transforms.differences import DifferenceKind
from sessions_dagster_tests.builders import World, sessions_of
from sessions_dagster_tests.histories import FIRST_DAY
from sessions_dagster_tests.oracle import Event, sessionize
from sessions_dagster_tests.test_audit import (
    DAMAGES,
    LAST_DAY,
    MIDNIGHT,
    OWL,
    change,
    delete,
    double,
    generated_world,
    versions,
)

RULES = SessionRules()
OTHER_RULES = {
    "timeout": SessionRules(timeout=timedelta(minutes=10)),
    "user actions": SessionRules(user_action_ids=frozenset({"a", "x"})),
    "lateness": SessionRules(lateness_days=9),
}
NEXT_DAY = LAST_DAY + timedelta(days=1)


@pytest.fixture(scope="module")
def healthy(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> World:
    return generated_world(spark, tmp_path_factory.mktemp("healthy"))


@pytest.fixture
def world(healthy: World, tmp_path: Path) -> World:
    return healthy.copy_to(tmp_path)


def run(world: World, days: DateRange | None = None, *, dry_run: bool = False) -> RebuildReport:
    """A rebuild with the rules of the world."""
    return rebuild(world.spark, world.warehouse, world.rules, days=days, dry_run=dry_run)


def check_against_oracle(world: World) -> None:
    """Check that both tables are what one pass of the oracle gives by the rules of the world."""
    rules = world.rules
    accepted = [
        event for batch, events in world.landed.items() for event in events if rules.can_deliver(batch, event.at.date())
    ]
    expected = sessionize(accepted, rules.timeout, rules.user_action_ids)
    rows, sessions = world.table(), world.sessions()
    assert len(rows) == len(expected)
    assert set(rows) == expected
    assert len(sessions) == len(set(sessions))
    assert set(sessions) == sessions_of(expected, rules.user_action_ids)
    assert audit(world.spark, world.warehouse).count == 0


def go_on(world: World) -> None:
    """What a daily run does, with an event that is late for a session that crosses a midnight."""
    at = datetime(NEXT_DAY.year, NEXT_DAY.month, NEXT_DAY.day, 9)
    late = Event("owl", "a", "idea", MIDNIGHT + timedelta(minutes=6))
    world.land(NEXT_DAY, [Event("owl", "a", "idea", at), late])
    report = world.materialize(NEXT_DAY)
    assert (report.applied, report.pending_elsewhere) == ((NEXT_DAY,), ())
    world.refresh()


def test_a_rebuild_of_tables_that_are_right_makes_no_commit(world: World) -> None:
    before = versions(world)
    report = run(world)
    assert (report.count, report.is_applied) == (0, True)
    assert versions(world) == before


@pytest.mark.parametrize("rules", OTHER_RULES.values(), ids=OTHER_RULES)
def test_a_rebuild_with_other_rules_is_what_one_pass_by_them_gives(world: World, rules: SessionRules) -> None:
    before, corrections = versions(world), world.corrections()
    world.rules = rules
    told = run(world, dry_run=True)
    assert versions(world) == before
    done = run(world)
    assert told.differences == done.differences
    assert (done.old_rules, done.rules) == (RULES, rules)
    assert rules_of_table(DeltaTable(world.warehouse.sessionized_events)) == rules
    assert versions(world)["sessionized_events"] == before["sessionized_events"] + 1
    assert versions(world)["sessions"] == before["sessions"] + 1
    check_against_oracle(world)
    assert world.corrections() == corrections
    assert days_in_sessions(world.warehouse, world.landed) == set(world.landed)
    after = versions(world)
    assert run(world).count == 0
    assert versions(world) == after
    go_on(world)
    check_against_oracle(world)


def test_other_rules_are_told_of_by_what_becomes_of_rows_and_sessions(world: World) -> None:
    expected = sessionize(world.all_events(), timedelta(minutes=10))
    now, then = sessions_of(world.table()), sessions_of(expected)
    keys_now, keys_then = ({(row.user, row.product, row.start) for row in rows} for rows in (now, then))
    world.rules = OTHER_RULES["timeout"]
    report = run(world, dry_run=True)
    counts = report.differences.counts
    assert counts[EVENTS_WITH_RAW] == {DifferenceKind.DIFFERENT: len(expected - set(world.table()))}
    assert counts[SESSIONS_WITH_RAW][DifferenceKind.DIFFERENT] == len(keys_now & keys_then)
    assert counts[SESSIONS_WITH_RAW].get(DifferenceKind.EXTRA, 0) == len(keys_now - keys_then)
    assert report.differences.first


def test_some_dates_with_other_rules_are_only_told(world: World) -> None:
    world.rules = OTHER_RULES["timeout"]
    days, before = DateRange(FIRST_DAY, FIRST_DAY), versions(world)
    assert run(world, days, dry_run=True).count
    with pytest.raises(RulesMismatchError, match=r"a table has one set of rules\. Nothing was written\."):
        run(world, days)
    assert versions(world) == before


def test_a_daily_run_with_other_rules_names_the_rebuild(world: World) -> None:
    world.rules = OTHER_RULES["timeout"]
    with pytest.raises(RulesMismatchError, match="rebuild"):
        world.materialize(LAST_DAY)
    world.rules = OTHER_RULES["lateness"]
    with pytest.raises(RulesMismatchError, match="rebuild"):
        world.land(LAST_DAY, world.landed[LAST_DAY])


def test_rows_that_more_lateness_accepts_are_named_by_their_batch(world: World) -> None:
    old = Event("owl", "a", "idea", MIDNIGHT - timedelta(days=7))
    older = Event("owl", "a", "idea", MIDNIGHT - timedelta(days=20))
    day = MIDNIGHT.date()
    world.land(day, [*world.landed[day], old, older])
    world.materialize(day)
    world.rules = OTHER_RULES["lateness"]
    assert run(world).accepted_now == {day: 1}
    world.land(day, world.landed[day])
    world.materialize(day)
    world.refresh()
    check_against_oracle(world)


@pytest.mark.parametrize(
    "damage",
    ["an event put out of its session", "a landed row deleted"],
)
def test_what_somebody_changed_is_as_raw_events_says_after_a_rebuild(world: World, damage: str) -> None:
    table, does, _ = DAMAGES[damage]
    does(f"{world.warehouse.root}/{table}")
    corrections = world.corrections()
    run(world)
    assert audit(world.spark, world.warehouse).count == 0
    assert world.corrections() == corrections
    if table != "raw_events":
        go_on(world)
        check_against_oracle(world)


def damage_both(world: World) -> None:
    delete(world.warehouse.sessionized_events, OWL)
    double(world.warehouse.sessions, "user_id = 'owl'")


RANGE_DAMAGES: dict[str, Callable[[World], None]] = {
    "both tables": damage_both,
    "the bounds of a session": lambda world: change(
        world.warehouse.sessions, "user_id = 'owl'", session_end_ts="session_end_ts - INTERVAL '1' DAY"
    ),
    "the date of a session": lambda world: change(
        world.warehouse.sessions, "user_id = 'owl'", session_date="DATE '2025-09-01'", last_date="DATE '2025-09-01'"
    ),
}


@pytest.mark.parametrize("does", RANGE_DAMAGES.values(), ids=RANGE_DAMAGES)
def test_a_range_is_put_right_and_no_other_date(world: World, does: Callable[[World], None]) -> None:
    does(world)
    before = versions(world)["sessions"]
    elsewhere = f"event_date = DATE '{LAST_DAY}'"
    delete(world.warehouse.sessionized_events, elsewhere)
    # What other dates lack is taken over by `sessions` as it is: a refresh follows the events.
    day = (MIDNIGHT - timedelta(days=1)).date()
    run(world, DateRange(day, day))
    assert versions(world)["sessions"] == before + 1
    on_day = [row for row in world.table() if row.at.date() == day]
    assert len(on_day) == len(set(on_day))
    assert set(on_day) == {row for row in sessionize(world.all_events()) if row.at.date() == day}
    assert not [row for row in world.table() if row.at.date() == LAST_DAY]
    assert set(world.sessions()) == sessions_of(world.table())
    run(world)
    check_against_oracle(world)


def test_a_range_is_extended_to_the_sessions_that_have_to_change(world: World) -> None:
    delete(world.warehouse.raw_events, OWL)
    day_before, day = (MIDNIGHT - timedelta(days=1)).date(), MIDNIGHT.date()
    report = run(world, DateRange(day, day))
    assert report.days == DateRange(day_before, day)
    assert audit(world.spark, world.warehouse).count == 0


def test_less_lateness_is_refused(world: World) -> None:
    world.rules = SessionRules(lateness_days=1)
    before = versions(world)
    with pytest.raises(RulesMismatchError, match=r"landed with 5 days of lateness.*Nothing was written"):
        run(world, dry_run=True)
    assert versions(world) == before


@pytest.mark.parametrize("rules", [RULES, OTHER_RULES["timeout"]], ids=["same rules", "other rules"])
def test_dates_that_get_no_row_become_empty_whatever_the_session_is_set_to(world: World, rules: SessionRules) -> None:
    never = "DATE '2025-01-01'"
    change(world.warehouse.sessionized_events, OWL, event_date=never)
    change(world.warehouse.sessions, "user_id = 'owl'", session_date=never)
    world.rules = rules
    with spark_property(world.spark, "spark.sql.sources.partitionOverwriteMode", "dynamic"):
        run(world)
    check_against_oracle(world)


def test_a_writer_of_before_is_refused_after_the_rules_were_swapped(world: World) -> None:
    uri = world.warehouse.sessionized_events
    stale = DeltaTable(uri)
    world.rules = OTHER_RULES["timeout"]
    run(world)
    rows = world.spark.read.format("delta").load(uri).limit(1)
    with pytest.raises(ConcurrentWriteError):
        append(stale, uri, rows)
    check_against_oracle(world)


def test_rows_are_not_swapped_in_if_another_run_has_written_since(world: World) -> None:
    uri = world.warehouse.sessionized_events
    before = DeltaTable(uri).version()
    go_on(world)
    rows = world.spark.read.format("delta").load(uri).limit(1)
    for rules in (RULES, OTHER_RULES["timeout"]):
        with pytest.raises(ConcurrentWriteError):
            replace_events(DeltaTable(uri, version=before), uri, rows, rules, {}, None, {})
    check_against_oracle(world)


def test_a_range_is_not_rebuilt_while_a_batch_is_pending_and_all_dates_are(world: World) -> None:
    world.land(NEXT_DAY, [Event("owl", "a", "idea", datetime(NEXT_DAY.year, NEXT_DAY.month, NEXT_DAY.day, 9))])
    with pytest.raises(RebuildError, match=f"not applied: {NEXT_DAY}. Nothing was written"):
        run(world, DateRange(FIRST_DAY, FIRST_DAY))
    run(world)
    check_against_oracle(world)
    assert not world.materialize(NEXT_DAY).committed


def test_lost_tables_are_made_again(world: World, tmp_path: Path) -> None:
    for name in ("sessionized_events", "sessions"):
        Path(world.warehouse.root, name).rename(tmp_path / f"lost_{name}")
    again = World(world.spark, tmp_path)
    again.landed = world.landed
    corrections = again.corrections()
    run(again)
    check_against_oracle(again)
    assert again.corrections() == corrections
    go_on(again)
    check_against_oracle(again)


@pytest.mark.parametrize("step", ["replace_events", "set_lateness", "remake_sessions"])
def test_an_interrupted_rebuild_is_finished_by_the_next_one(
    world: World, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    before = versions(world)
    world.rules = replace(OTHER_RULES["timeout"], lateness_days=9)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(rebuild_module, step, die)
        with pytest.raises(KeyboardInterrupt):
            run(world)
    if step == "replace_events":
        assert versions(world) == before
    for rules in (RULES, world.rules):
        if rules_of_table(DeltaTable(world.warehouse.sessionized_events)) != rules:
            with pytest.raises(RulesMismatchError):
                World.materialize(_with_rules(world, rules), LAST_DAY)
    run(world)
    check_against_oracle(world)


def _with_rules(world: World, rules: SessionRules) -> World:
    other = World(world.spark, Path(world.warehouse.root).parent, rules)
    other.landed = world.landed
    return other


def job_of(world: World) -> dg.JobDefinition:
    config = SessionsConfig(start_date=FIRST_DAY, input_root=world.input.root, warehouse_root=world.warehouse.root)
    return build_defs(config).resolve_job_def("rebuild")


def test_the_job_tells_by_default_and_writes_if_it_is_told_to(world: World) -> None:
    delete(world.warehouse.sessionized_events, OWL)
    before = versions(world)
    assert job_of(world).execute_in_process().success
    assert versions(world) == before
    config = {"ops": {"rebuild_tables": {"config": {"dry_run": False}}}}
    result = job_of(world).execute_in_process(run_config=config)
    observed = [event.asset_observation_data.asset_observation for event in result.get_asset_observation_events()]
    assert {each.metadata["differences"].value for each in observed} == {1}
    assert {each.metadata["written"].value for each in observed} == {True}
    check_against_oracle(world)


def test_the_launchpad_opens_with_a_dry_run_of_all_dates(tmp_path: Path) -> None:
    job = build_defs(SessionsConfig(start_date=FIRST_DAY, warehouse_root=tmp_path)).resolve_job_def("rebuild")
    snapshot = job.get_job_snapshot()
    schema, root = snapshot.config_schema_snapshot, snapshot.mode_def_snaps[0].root_config_key
    assert root is not None
    shown = default_values_yaml_from_type_snap(schema, schema.get_config_snap(root))
    assert re.search(r"rebuild_tables:\s+config:\s+dry_run: true\s+first_date: ''\s+last_date: ''", shown)


def test_the_command_tells_first_and_writes_with_apply(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SESSIONS_START_DATE", str(FIRST_DAY))
    monkeypatch.setenv("SESSIONS_WAREHOUSE_ROOT", world.warehouse.root)
    monkeypatch.setenv("SESSIONS_TIMEOUT_SECONDS", "600")
    before = versions(world)
    assert main(["rebuild"]) == 0
    told = capsys.readouterr().out
    assert "built with a timeout of 0:05:00" in told
    assert "rebuilt with a timeout of 0:10:00" in told
    assert "--apply" in told
    assert versions(world) == before
    assert main(["rebuild", "--apply"]) == 0
    assert "The tables are rebuilt" in capsys.readouterr().out
    world.rules = OTHER_RULES["timeout"]
    check_against_oracle(world)
    assert main(["rebuild"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "The tables are what raw_events says."
