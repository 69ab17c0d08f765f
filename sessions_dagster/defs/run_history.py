"""What the Dagster instance knows of batches and the tables do not: which could not land, and which runs are under way.

The sensor looks here before it requests a run, so that nothing is requested twice even if its cursor was lost.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final

import dagster as dg
from dagster._core.execution.backfill import BULK_ACTION_TERMINAL_STATUSES, BulkActionsFilter, BulkActionStatus
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
    RUN_KEY_TAG,
    SENSOR_NAME_TAG,
)

from sessions_dagster.defs.metadata import INPUT_FINGERPRINT
from sessions_dagster.model.dates import days_between

_PAGE: Final = 1000

_Fetch = Callable[..., dg.EventRecordsResult]


@dataclass(frozen=True)
class FailedLanding:
    """The newest failure to land a batch.

    Attributes:
        fingerprint: The content that could not be landed; None if it is not known.
        run_id: The run that failed on it.
    """

    fingerprint: str | None
    run_id: str


def landed_contents(
    instance: dg.DagsterInstance, raw_events: dg.AssetKey, days: Collection[date]
) -> dict[date, str | None]:
    """The fingerprint of the newest materialization of each of the days that has one; None if it is not known.

    Only for batches that an older version landed: it did not leave their fingerprints in the tables.

    Args:
        instance: Knows what has run.
        raw_events: The key of the asset whose partitions are the batches.
        days: The batches to look up.
    """
    found = _newest(instance.fetch_materializations, raw_events, days)
    return {day: _fingerprint(record.asset_materialization) for day, record in found.items()}


def failed_landings(
    instance: dg.DagsterInstance, raw_events: dg.AssetKey, days: Collection[date]
) -> dict[date, FailedLanding]:
    """The newest failure to land each of the days that has one. The arguments are those of `landed_contents`."""
    found = _newest(instance.fetch_observations, raw_events, days)
    return {day: FailedLanding(_fingerprint(record.asset_observation), record.run_id) for day, record in found.items()}


def open_runs(instance: dg.DagsterInstance, asset: dg.AssetKey, sensor_name: str) -> list[dg.DagsterRun]:
    """The queued and the running runs that are to materialize partitions of the asset, or that a sensor requested."""
    runs = instance.get_runs(dg.RunsFilter(statuses=NOT_FINISHED_STATUSES))
    return [run for run in runs if is_of_sensor(run, sensor_name) or asset in (run.asset_selection or {asset})]


def is_of_sensor(run: dg.DagsterRun, sensor_name: str) -> bool:
    """Whether a sensor requested the run, or the run that it is a retry of."""
    return run.tags.get(SENSOR_NAME_TAG) == sensor_name


def days_of_backfills(instance: dg.DagsterInstance, asset: dg.AssetKey) -> set[date]:
    """The days of the asset that unfinished backfills are to materialize, in one run or in several."""
    statuses = [status for status in BulkActionStatus if status not in BULK_ACTION_TERMINAL_STATUSES]
    backfills = instance.get_backfills(filters=BulkActionsFilter(statuses=statuses))
    targets = [each.asset_backfill_data.target_subset for each in backfills if each.asset_backfill_data is not None]
    subsets = [target.partitions_subsets_by_asset_key[asset] for target in targets if asset in target.asset_keys]
    return {date.fromisoformat(key) for subset in subsets for key in subset.get_partition_keys()}


def days_of(run: dg.DagsterRun) -> list[date]:
    """The days of a run of one key or of a range; none if it has no partition."""
    first = run.tags.get(PARTITION_NAME_TAG) or run.tags.get(ASSET_PARTITION_RANGE_START_TAG)
    last = run.tags.get(PARTITION_NAME_TAG) or run.tags.get(ASSET_PARTITION_RANGE_END_TAG)
    if first is None or last is None:
        return []
    return days_between(date.fromisoformat(first), date.fromisoformat(last))


def newest_run(instance: dg.DagsterInstance, sensor_name: str, run_key: str) -> dg.DagsterRun | None:
    """The run that a sensor requested with a run key, or the newest retry of it.

    Args:
        instance: Knows what has run.
        sensor_name: The sensor. The sensors of two products can use the same run key.
        run_key: The run key.
    """
    tags = {SENSOR_NAME_TAG: sensor_name, RUN_KEY_TAG: run_key}
    runs = instance.get_runs(dg.RunsFilter(tags=tags), limit=1)
    return runs[0] if runs else None


def is_under_way(run: dg.DagsterRun) -> bool:
    """Whether it is queued or running, or has failed and Dagster is going to retry it."""
    return not run.is_finished or run.is_complete_and_waiting_to_retry


def may_pass(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether a run failed only because the retries of its steps ran out (see `retries`), as if the storage fails.

    Args:
        instance: Knows what has run.
        run: A run that has failed.
    """
    logs = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    errors = [entry.dagster_event.step_failure_data.error for entry in logs if entry.dagster_event is not None]
    return bool(errors) and all(error is not None and error.cls_name == dg.RetryRequested.__name__ for error in errors)


def ended_at(instance: dg.DagsterInstance, run: dg.DagsterRun) -> datetime | None:
    """When a run ended (UTC); None if Dagster does not know it."""
    record = instance.get_run_record_by_id(run.run_id)
    return None if record is None or record.end_time is None else datetime.fromtimestamp(record.end_time, UTC)


def _newest(fetch: _Fetch, asset: dg.AssetKey, days: Collection[date]) -> dict[date, dg.EventLogRecord]:
    found: dict[date, dg.EventLogRecord] = {}
    for record in _records(fetch, asset, days):
        if record.partition_key is not None:
            found.setdefault(date.fromisoformat(record.partition_key), record)
        if len(found) == len(days):
            break
    return found


def _records(fetch: _Fetch, asset: dg.AssetKey, days: Collection[date]) -> Iterator[dg.EventLogRecord]:
    """The events of some partitions, the newest first."""
    if not days:
        return
    of_days = dg.AssetRecordsFilter(asset, asset_partitions=[day.isoformat() for day in days])
    page = fetch(of_days, limit=_PAGE)
    yield from page.records
    while page.has_more:
        page = fetch(of_days, limit=_PAGE, cursor=page.cursor)
        yield from page.records


def _fingerprint(event: dg.AssetMaterialization | dg.AssetObservation | None) -> str | None:
    value = event.metadata.get(INPUT_FINGERPRINT) if event else None
    return value.value if isinstance(value, dg.TextMetadataValue) else None
