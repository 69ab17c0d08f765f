"""The asset checks in Dagster: the results for each partition of a run, and the failures that stop a run."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionResolvedStatus as Status
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from sessions_dagster.config import SessionsConfig
from sessions_dagster.defs import build_defs, retries
from sessions_dagster.defs.checks import WINDOW_IS_COMPLETE, event_check_specs, sessions_check_spec
from sessions_dagster.defs.partitions import daily_partitions
from sessions_dagster.pipeline import check_tables
from sessions_dagster.quality.events import Rule
from sessions_dagster.storage.warehouse import Warehouse

ANY_CONFIG = SessionsConfig(start_date="2025-01-01")
SPECS = event_check_specs(ANY_CONFIG)
SESSIONS_SPEC = sessions_check_spec(ANY_CONFIG)
EVENTS = dg.AssetKey("sessionized_events")

DAYS = [date(2025, 9, 17) + timedelta(days=offset) for offset in range(6)]
KEYS = [day.isoformat() for day in DAYS]
"""The window of the last of them is complete; the windows of the others include days that never landed."""


@dataclass(frozen=True)
class World:
    """A warehouse with a batch for each day, and the Dagster instance of its runs."""

    spark: SparkSession
    instance: dg.DagsterInstance
    defs: dg.Definitions
    events: str

    def run(
        self, first: str, last: str, *, checks_only: bool, specs: Sequence[dg.AssetCheckSpec] = SPECS
    ) -> dg.ExecuteInProcessResult:
        """A run of a range, or of one key if the range has one day, as started from the command line."""
        job = self.defs.resolve_implicit_global_asset_job_def()
        if checks_only:
            job = job.get_subset(asset_selection=set(), asset_check_selection={spec.key for spec in specs})
        of_range = {ASSET_PARTITION_RANGE_START_TAG: first, ASSET_PARTITION_RANGE_END_TAG: last}
        return job.execute_in_process(
            instance=self.instance,
            raise_on_error=False,
            **({"partition_key": first} if first == last else {"tags": of_range}),
        )

    def statuses(self, check: str) -> dict[Status, list[str]]:
        """The partition keys of a check by status, as the UI shows them."""
        key = dg.AssetCheckKey(EVENTS, check)
        partitions = daily_partitions(ANY_CONFIG)
        state = self.instance.event_log_storage.get_asset_check_state([(key, partitions)])[key]
        keys = {status: sorted(subset.subset_value.get_partition_keys()) for status, subset in state.subsets.items()}
        return {status: of_status for status, of_status in keys.items() if of_status}

    def damage(self, statement: str) -> None:
        """Run a statement that damages the rows of `sessionized_events`."""
        self.spark.sql(statement.replace("EVENTS", f"delta.`{self.events}`"))


def evaluations(result: dg.ExecuteInProcessResult) -> dict[tuple[str, str | None], dg.AssetCheckEvaluation]:
    found = result.get_asset_check_evaluations()
    by_key = {(each.check_name, each.partition): each for each in found}
    assert len(by_key) == len(found), "a check has two results for one key"
    return by_key


def write_batch(input_root: Path, day: date, events: list[tuple[str, str]]) -> None:
    folder = input_root / f"date={day}"
    folder.mkdir(parents=True)
    columns = {
        "user_id": ["u" for _ in events],
        "event_id": [event for event, _ in events],
        "product_code": ["idea" for _ in events],
        "timestamp": [f"{day} {at}" for _, at in events],
    }
    pq.write_table(pa.table(columns), folder / "events.parquet")


@pytest.fixture(scope="module")
def world(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("checks")
    for day in DAYS:
        write_batch(folder / "input", day, [("a", "00:01:00"), ("x", "12:00:00"), ("b", "23:57:00")])
    config = SessionsConfig(start_date="2025-01-01", input_root=folder / "input", warehouse_root=folder / "warehouse")
    events = Warehouse(config.warehouse_root).sessionized_events
    return World(spark, dg.DagsterInstance.ephemeral(), build_defs(config), events)


@dataclass(frozen=True)
class Seen:
    """The result of a run, and the statuses of all checks after it."""

    result: dg.ExecuteInProcessResult
    statuses: dict[str, dict[Status, list[str]]]

    @classmethod
    def of(cls, world: World, result: dg.ExecuteInProcessResult) -> "Seen":
        """Read the statuses now."""
        return cls(result, {spec.name: world.statuses(spec.name) for spec in SPECS})


@pytest.fixture(scope="module")
def range_run(world: World) -> Seen:
    """All days materialized as a range, and checked."""
    return Seen.of(world, world.run(KEYS[0], KEYS[-1], checks_only=False))


@pytest.fixture(scope="module")
def damaged_range_run(world: World, range_run: Seen) -> Seen:
    """All days checked again, after one of them was damaged."""
    world.damage(
        "UPDATE EVENTS SET session_end_ts = session_end_ts + INTERVAL 1 DAY "
        f"WHERE event_date = '{KEYS[0]}' AND event_id = 'a'"
    )
    return Seen.of(world, world.run(KEYS[0], KEYS[-1], checks_only=True))


@pytest.fixture(scope="module")
def doubled_key_run(world: World, damaged_range_run: Seen) -> Seen:
    """One day checked alone, after its events were doubled."""
    world.damage(f"INSERT INTO EVENTS SELECT * FROM EVENTS WHERE event_date = '{KEYS[-1]}'")
    return Seen.of(world, world.run(KEYS[-1], KEYS[-1], checks_only=True))


@pytest.mark.parametrize("rule", list(Rule))
def test_every_key_of_a_range_has_its_own_result(range_run: Seen, rule: Rule) -> None:
    assert range_run.result.success
    assert [evaluations(range_run.result)[rule, key].passed for key in KEYS] == [True] * len(KEYS)
    assert range_run.statuses[rule] == {Status.SUCCEEDED: KEYS}


def test_a_result_shows_how_many_rows_were_checked(range_run: Seen) -> None:
    found = evaluations(range_run.result)
    checked = {rule: found[rule, KEYS[1]].metadata["checked"].value for rule in Rule}
    assert checked == {Rule.SESSION_END: 2, Rule.UNIQUE_EVENTS: 3, Rule.SESSION_BOUNDS: 3}


def test_missing_days_of_the_window_are_named_and_do_not_stop_the_run(range_run: Seen) -> None:
    assert range_run.statuses[WINDOW_IS_COMPLETE] == {Status.SUCCEEDED: KEYS[-1:], Status.FAILED: KEYS[:-1]}
    of_second_last = evaluations(range_run.result)[WINDOW_IS_COMPLETE, KEYS[-2]]
    assert of_second_last.severity == dg.AssetCheckSeverity.WARN
    assert of_second_last.metadata["missing_batches"].value == "2025-09-16"


def test_a_wrong_session_end_fails_the_check_of_its_key_and_the_run(damaged_range_run: Seen) -> None:
    assert not damaged_range_run.result.success
    assert damaged_range_run.statuses[Rule.SESSION_END] == {Status.FAILED: KEYS[:1], Status.SUCCEEDED: KEYS[1:]}
    assert evaluations(damaged_range_run.result)[Rule.SESSION_END, KEYS[0]].blocking


def test_offending_rows_are_shown_as_a_table(damaged_range_run: Seen) -> None:
    metadata = evaluations(damaged_range_run.result)[Rule.SESSION_END, KEYS[0]].metadata
    table = metadata["offending_rows"]
    assert isinstance(table, dg.TableMetadataValue)
    assert metadata["offenders"].value == len(table.records) == 1
    assert dict(table.records[0].data) == {
        "user_id": "u",
        "event_id": "a",
        "product_code": "idea",
        "timestamp": "2025-09-17 00:01:00",
        "session_start_ts": "2025-09-17 00:01:00",
        "session_end_ts": "2025-09-18 00:06:00",
        "problem": "the session's last user action plus the timeout is 2025-09-17 00:06:00",
    }


def test_duplicate_events_fail_the_check_of_their_key_but_not_the_run(doubled_key_run: Seen) -> None:
    assert doubled_key_run.result.success
    assert doubled_key_run.statuses[Rule.UNIQUE_EVENTS] == {Status.FAILED: KEYS[-1:], Status.SUCCEEDED: KEYS[:-1]}


def test_each_check_has_one_result_in_a_run_of_one_key(doubled_key_run: Seen) -> None:
    assert set(evaluations(doubled_key_run.result)) == {(spec.name, KEYS[-1]) for spec in SPECS}


@pytest.mark.parametrize(
    ("work", "specs"), [("check_dates", SPECS), ("compare_sessions", [SESSIONS_SPEC])], ids=["events", "sessions"]
)
def test_checks_are_repeated_after_lost_executors_with_one_result_for_each_key(
    world: World,
    range_run: Seen,
    monkeypatch: pytest.MonkeyPatch,
    work: str,
    specs: Sequence[dg.AssetCheckSpec],
) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT_SECONDS", 0)
    done = getattr(check_tables, work)
    lost = iter([PySparkException("Job aborted due to stage failure: ExecutorLostFailure (executor 2 exited)")])

    def work_after_a_loss(*args: Any) -> Any:
        for error in lost:
            raise error
        return done(*args)

    monkeypatch.setattr(check_tables, work, work_after_a_loss)
    result = world.run(KEYS[0], KEYS[1], checks_only=True, specs=specs)
    assert len(result.filter_events(lambda event: event.is_step_restarted)) == 1
    assert evaluations(result).keys() == {(spec.name, key) for spec in specs for key in KEYS[:2]}


@pytest.mark.parametrize("spec", [SPECS[0], SESSIONS_SPEC], ids=["events", "sessions"])
def test_checks_without_a_partition_fail_with_an_instruction(spec: dg.AssetCheckSpec) -> None:
    job = build_defs(ANY_CONFIG).resolve_implicit_global_asset_job_def()
    checks_alone = job.get_subset(asset_selection=set(), asset_check_selection={spec.key})
    result = checks_alone.execute_in_process(instance=dg.DagsterInstance.ephemeral(), raise_on_error=False)
    (failed,) = result.get_step_failure_events()
    assert "Materialize the partitions once more" in str(failed.step_failure_data.user_failure_data)


def test_a_check_of_a_missing_table_fails_with_an_instruction(spark: SparkSession, tmp_path: Path) -> None:
    world = World(
        spark,
        dg.DagsterInstance.ephemeral(),
        build_defs(SessionsConfig(start_date="2025-01-01", warehouse_root=tmp_path)),
        str(tmp_path),
    )
    result = world.run(KEYS[0], KEYS[0], checks_only=True)
    assert not result.success
    failures = [event.step_failure_data.user_failure_data for event in result.get_step_failure_events()]
    assert ["Materialize sessionized_events" in str(failure) for failure in failures] == [True]
