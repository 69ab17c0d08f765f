"""The assets in Dagster: runs of days and ranges, the window, metadata per partition, errors that change no table."""

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from sessions_dagster.config import SessionsConfig
from sessions_dagster.defs import build_defs, retries
from sessions_dagster.defs.assets import SessionsAssets, build_assets
from sessions_dagster.defs.metadata import INPUT_FINGERPRINT
from sessions_dagster.defs.partitions import upstream_window
from sessions_dagster.defs.retries import MAX_RETRIES
from sessions_dagster.defs.sensors import evaluate
from sessions_dagster.input.folders import batch_fingerprint
from sessions_dagster.model.rules import SessionRules
from sessions_dagster.storage.delta_log import partition_dates
from sessions_dagster_tests.builders import NEEDS_A_FILE_THAT_FAILS, World, fail_to_read, write_batch
from sessions_dagster_tests.oracle import Event, sessionize

DAYS = ("2025-09-18", "2025-09-19", "2025-09-20")
BAD_DAY = date(2025, 9, 19)
RAW, SESSIONS = dg.AssetKey("raw_events"), dg.AssetKey("sessionized_events")


def _action(day: int, hour: int, minute: int) -> Event:
    return Event("ada", "a", "idea", datetime(2025, 9, day, hour, minute))


BATCHES = {
    "2025-09-18": [_action(18, 9, 0)],
    "2025-09-19": [_action(19, 23, 58), _action(18, 9, 4)],
    "2025-09-20": [_action(20, 0, 1), _action(18, 8, 57)],
}


def _ada() -> Any:
    return sessionize(event for batch in BATCHES.values() for event in batch)


class Graph:
    """The assets on a small warehouse, with a Dagster instance that stores their runs."""

    def __init__(self, spark: SparkSession, folder: Path) -> None:
        self.world = World(spark, folder)
        self.instance = dg.DagsterInstance.ephemeral()
        for day, events in BATCHES.items():
            write_batch(events, Path(self.world.input.batch_folder(date.fromisoformat(day))))

    def config(self, **settings: Any) -> SessionsConfig:
        """The settings of a product on this warehouse."""
        roots = {"input_root": self.world.input.root, "warehouse_root": self.world.warehouse.root}
        return SessionsConfig(**{"start_date": "2025-01-01", **roots, **settings})

    def run(
        self, first: str, last: str, assets: Sequence[dg.AssetKey] = (RAW, SESSIONS), **settings: Any
    ) -> dg.ExecuteInProcessResult:
        """Materialize `raw_events` and `sessionized_events`, or other assets, for a day or a range."""
        key: dict[str, Any] = (
            {"partition_key": first}
            if first == last
            else {"tags": {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}}
        )
        job = build_defs(self.config(**settings)).resolve_implicit_global_asset_job_def()
        return job.execute_in_process(instance=self.instance, raise_on_error=False, asset_selection=assets, **key)

    def metadata(self, asset: dg.AssetKey, day: str) -> Mapping[str, Any]:
        """The newest metadata of a partition."""
        records = self.instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=asset, asset_partitions=[day]), limit=1
        ).records
        materialization = records[0].asset_materialization
        assert materialization is not None
        return {name: value.value for name, value in materialization.metadata.items()}


@pytest.fixture(scope="module")
def by_key(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Graph:
    graph = Graph(spark, tmp_path_factory.mktemp("by_key"))
    for day in DAYS:
        assert graph.run(day, day).success
    return graph


@pytest.fixture(scope="module")
def by_range(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Graph:
    graph = Graph(spark, tmp_path_factory.mktemp("by_range"))
    assert graph.run(DAYS[0], DAYS[-1]).success
    return graph


def _assets(**settings: Any) -> SessionsAssets:
    return build_assets(SessionsConfig(start_date="2025-01-01", **settings))


def test_sessionized_events_depends_on_a_window_of_batches_around_its_date() -> None:
    mapping = _assets().sessionized_events.get_partition_mapping(RAW)
    assert mapping == upstream_window(SessionRules()) == dg.TimeWindowPartitionMapping(start_offset=-5, end_offset=0)


@pytest.mark.parametrize("lateness_days", [0, 7, 30])
def test_the_window_is_as_long_as_the_lateness_of_the_rules(lateness_days: int) -> None:
    mapping = _assets(rules=SessionRules(lateness_days=lateness_days)).sessionized_events.get_partition_mapping(RAW)
    assert mapping == dg.TimeWindowPartitionMapping(start_offset=-lateness_days, end_offset=0)


@pytest.mark.parametrize("asset", ["raw_events", "sessionized_events", "sessions"])
def test_a_place_where_no_tables_can_be_fails_a_step_at_once(asset: str) -> None:
    job = build_defs(SessionsConfig(start_date="2025-01-01")).resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(
        instance=dg.DagsterInstance.ephemeral(),
        raise_on_error=False,
        asset_selection=[dg.AssetKey(asset)],
        partition_key=DAYS[0],
        run_config={"resources": {"lake": {"config": {"input_root": "input", "warehouse_root": "s3://a[b/lake"}}}},
    )
    (failed,) = result.get_step_failure_events()
    assert "Tables cannot be in s3://a[b/lake" in str(failed.step_failure_data.user_failure_data)


def test_a_range_is_materialized_in_one_run() -> None:
    assert {asset.backfill_policy for asset in _assets().materializable} == {dg.BackfillPolicy.single_run()}


def test_an_asset_links_to_the_function_that_computes_it() -> None:
    assets = _assets()
    for spec in [*(asset.get_asset_spec() for asset in assets.materializable), assets.rejected_events]:
        (reference,) = spec.metadata["dagster/code_references"].code_references
        assert isinstance(reference, dg.LocalFileCodeReference)
        assert Path(reference.file_path).parts[-2:] == ("defs", "assets.py")
        assert reference.line_number is not None
        function = "raw_events" if spec is assets.rejected_events else spec.key.path[-1]
        lines = Path(reference.file_path).read_text().splitlines()[reference.line_number - 1 :]
        assert next(line.split()[1] for line in lines if line.lstrip().startswith("def ")).startswith(f"{function}(")


def test_the_definitions_show_their_settings() -> None:
    rules = SessionRules(timedelta(minutes=10), frozenset({"b", "a"}), lateness_days=7)
    assets = _assets(rules=rules, bot_limit=0, carried_columns={"country": "string"})
    of_landing, of_sessions = (
        {name: getattr(value, "value", value) for name, value in asset.get_asset_spec().metadata.items()}
        for asset in (assets.raw_events, assets.sessionized_events)
    )
    assert (of_landing["bot_limit"], of_landing["lateness_days"]) == ("none", 7)
    assert (of_sessions["session_timeout_seconds"], of_sessions["user_action_ids"]) == (600, "a, b")
    assert of_landing["carried_columns"] == of_sessions["carried_columns"] == "country string"


def test_runs_of_single_days_give_the_same_table_as_one_pass(by_key: Graph) -> None:
    assert set(by_key.world.table()) == _ada()


def test_a_range_gives_the_same_table_as_one_pass_in_one_commit(by_range: Graph) -> None:
    assert set(by_range.world.table()) == _ada()
    assert by_range.metadata(SESSIONS, DAYS[0])["delta_version"] == 1


def test_a_range_run_materializes_every_partition_of_both_assets(by_range: Graph) -> None:
    for asset in (RAW, SESSIONS):
        assert by_range.instance.get_materialized_partitions(asset) == set(DAYS)


def test_the_log_of_a_range_shows_the_progress_of_the_run(by_range: Graph) -> None:
    (run,) = by_range.instance.get_runs()
    messages = [entry.user_message for entry in by_range.instance.all_logs(run.run_id)]
    assert any(line.startswith("landed batch 2025-09-19 (2 of 3): 2 rows, 0 rejected, ") for line in messages)


def test_each_partition_has_its_own_metadata(by_range: Graph) -> None:
    rows = [by_range.metadata(SESSIONS, day)["dagster/partition_row_count"] for day in DAYS]
    landed = [by_range.metadata(RAW, day)["dagster/partition_row_count"] for day in DAYS]
    assert (rows, landed) == ([3, 1, 1], [1, 2, 2])


def test_the_metadata_of_a_late_batch_counts_its_corrections(by_key: Graph) -> None:
    metadata = by_key.metadata(SESSIONS, DAYS[-1])
    assert metadata["run_rows_inserted"] == 2
    assert metadata["run_rows_updated"] == 3
    assert metadata["run_sessions_extended"] == 2
    assert metadata["dates_touched"] == "2025-09-18...2025-09-20"
    assert metadata["window_days_present"] == f"{DAYS[0]}...{DAYS[-1]}"


def test_a_daily_run_reports_the_lateness_of_its_batch_and_the_corrected_share(by_key: Graph) -> None:
    assert by_key.metadata(RAW, DAYS[-1])["late_share"] == 0.5
    assert "| 2 days | 1 | 50.0% |" in by_key.metadata(RAW, DAYS[-1])["preview"]
    assert by_key.metadata(SESSIONS, DAYS[-1])["run_rows_corrected"] == 3


def test_the_metadata_has_the_version_of_the_table(by_key: Graph) -> None:
    assert by_key.metadata(SESSIONS, DAYS[-1])["table_version"] == 3


def test_rejected_events_and_session_corrections_have_their_own_metadata(by_key: Graph) -> None:
    assert by_key.instance.get_materialized_partitions(dg.AssetKey("rejected_events")) == set(DAYS)
    corrected = by_key.instance.get_latest_materialization_event(dg.AssetKey("session_corrections"))
    assert corrected is not None
    assert corrected.asset_materialization is not None
    assert corrected.asset_materialization.metadata["extended"].value == 2


def test_a_missing_batch_fails_the_run_and_does_not_change_the_tables(by_key: Graph) -> None:
    before = by_key.world.table()
    result = by_key.run("2025-09-21", "2025-09-21")
    assert not result.success
    assert sorted(by_key.world.table(), key=str) == sorted(before, key=str)


def test_a_run_with_other_rules_than_the_table_fails(by_key: Graph) -> None:
    result = by_key.run(DAYS[-1], DAYS[-1], rules=SessionRules(timedelta(minutes=10)))
    message = str(result.failure_data_for_node("sessionized_events"))
    assert "0:05:00" in message
    assert "0:10:00" in message
    assert "warehouse" in message


@pytest.fixture(scope="module")
def with_a_bad_batch(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Graph:
    """A range whose middle day has a broken batch."""
    graph = Graph(spark, tmp_path_factory.mktemp("with_a_bad_batch"))
    Path(graph.world.input.batch_folder(BAD_DAY), "broken.parquet").write_text("no Parquet")
    result = graph.run(DAYS[0], DAYS[-1])
    assert "broken.parquet" in str(result.failure_data_for_node("raw_events"))
    return graph


def _garble(file: Path, _: pytest.MonkeyPatch) -> None:
    file.write_text("no JSON")


@NEEDS_A_FILE_THAT_FAILS
@pytest.mark.parametrize(("spoil", "restarts"), [(fail_to_read, MAX_RETRIES), (_garble, 0)])
def test_a_landing_is_retried_after_a_storage_failure_but_not_for_a_bad_batch(
    spark: SparkSession,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Path, pytest.MonkeyPatch], None],
    restarts: int,
) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT_SECONDS", 0)
    world = World(spark, tmp_path)
    folder = Path(world.input.batch_folder(BAD_DAY))
    folder.mkdir(parents=True)
    spoil(folder / "events.json", monkeypatch)
    config = SessionsConfig(
        start_date="2025-01-01",
        input_root=world.input.root,
        warehouse_root=world.warehouse.root,
        input_format="json",
    )
    job = build_defs(config).resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(
        instance=dg.DagsterInstance.ephemeral(),
        raise_on_error=False,
        asset_selection=[RAW],
        partition_key=str(BAD_DAY),
    )
    assert not result.success
    assert len(result.filter_events(lambda event: event.is_step_restarted)) == restarts


def _requested_by_sensor(graph: Graph) -> list[list[date]]:
    config = graph.config(settle_seconds=0)
    tick = evaluate(graph.instance, None, config, datetime.now(UTC), logging.getLogger(__name__))
    return [list(plan.days) for plan in tick.plans]


def test_the_sensor_requests_no_run_for_materialized_days(by_range: Graph) -> None:
    by_range.run(DAYS[0], DAYS[-1], assets=[dg.AssetKey("sessions")])
    assert _requested_by_sensor(by_range) == []


def test_a_bad_batch_in_a_range_does_not_stop_the_other_batches_from_landing(with_a_bad_batch: Graph) -> None:
    table = DeltaTable(with_a_bad_batch.world.warehouse.raw_events)
    assert partition_dates(table) == [date(2025, 9, 18), date(2025, 9, 20)]


def test_the_good_batches_of_a_range_with_bad_ones_are_materialized(with_a_bad_batch: Graph) -> None:
    assert with_a_bad_batch.instance.get_materialized_partitions(RAW) == {"2025-09-18", "2025-09-20"}
    assert with_a_bad_batch.metadata(RAW, "2025-09-20")["dagster/partition_row_count"] == 2


def test_a_range_with_missing_batches_fails_with_an_error_that_names_all_of_them(by_key: Graph) -> None:
    message = str(by_key.run("2025-09-21", "2025-09-22").failure_data_for_node("raw_events"))
    assert "date=2025-09-21" in message
    assert "date=2025-09-22" in message


def test_a_bad_batch_is_recorded_as_an_observation_with_its_content(with_a_bad_batch: Graph) -> None:
    of_bad_day = dg.AssetRecordsFilter(RAW, asset_partitions=[str(BAD_DAY)])
    observation = with_a_bad_batch.instance.fetch_observations(of_bad_day, limit=1).records[0].asset_observation
    assert observation is not None
    fingerprint = batch_fingerprint(with_a_bad_batch.world.input, BAD_DAY)
    assert observation.metadata[INPUT_FINGERPRINT].value == fingerprint
    assert "broken.parquet" in str(observation.metadata["error"].value)


def test_the_sensor_requests_the_days_around_a_bad_batch(with_a_bad_batch: Graph) -> None:
    assert _requested_by_sensor(with_a_bad_batch) == [[date(2025, 9, 18)], [date(2025, 9, 20)]]
