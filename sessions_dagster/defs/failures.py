"""What the Dagster instance knows of failures: runs that failed for good, and days whose checks have failed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

import dagster as dg
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus as RecordStatus
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionResolvedStatus as Status
from dagster._core.storage.dagster_run import RunRecord
from dagster._core.storage.tags import WILL_RETRY_TAG

_LOOK_BACK: Final = timedelta(minutes=1)
"""Clocks differ, and a change of a run may be seen later than a younger one."""

_MOST_RUNS: Final = 100
_PAGE: Final = 500
_BLOCKED: Final = "DagsterAssetCheckFailedError"

_OF_ASSETS: Final = {
    dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
    dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED,
}


@dataclass(frozen=True)
class FailedRun:
    """A run that failed and is not going to be tried again.

    Attributes:
        run: The run.
        error: The message of the error, as its step or Dagster raised it.
        step: The key of the step that failed; None if the run failed as a whole.
        is_blocked: Whether all that failed is a blocking check, which has a result of its own.
    """

    run: dg.DagsterRun
    error: str
    step: str | None
    is_blocked: bool


def newly_failed_runs(instance: dg.DagsterInstance, since: datetime) -> list[RunRecord]:
    """The runs that failed, in the order of their last changes, which may have been told of before.

    A run that Dagster is going to retry is not among them. If no retry follows after all, Dagster changes the run, and
    then it is.

    Args:
        instance: Knows what has run.
        since: The newest change that is known (UTC).
    """
    failed = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=since - _LOOK_BACK)
    records = instance.get_run_records(failed, limit=_MOST_RUNS, order_by="update_timestamp", ascending=True)
    return [record for record in records if record.dagster_run.tags.get(WILL_RETRY_TAG) != "true"]


def changed_at(record: RunRecord) -> datetime:
    """When a run was changed last (UTC)."""
    return record.update_timestamp.replace(tzinfo=UTC)


def failed_run(instance: dg.DagsterInstance, run: dg.DagsterRun) -> FailedRun:
    """What a run failed on: the error of its first failed step, or that of the run if no step failed."""
    of_steps = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    failures = [(entry, entry.dagster_event) for entry in of_steps if entry.dagster_event is not None]
    if failures:
        errors = [event.step_failure_data.error for _, event in failures]
        is_blocked = all(error is not None and error.cls_name == _BLOCKED for error in errors)
        _, event = failures[0]
        data = event.step_failure_data
        if data.user_failure_data is not None and data.user_failure_data.description:
            return FailedRun(run, data.user_failure_data.description, event.step_key, is_blocked)
        # Dagster wraps the error of a step into one of its own.
        error = data.error and (data.error.cause or data.error)
        return FailedRun(run, error.message if error else "The step failed.", event.step_key, is_blocked)
    of_run = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
    messages = [entry.dagster_event.message for entry in of_run if entry.dagster_event and entry.dagster_event.message]
    return FailedRun(run, messages[0] if messages else "The run failed.", None, is_blocked=False)


def assets_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> set[dg.AssetKey]:
    """The assets that a run was to materialize or to check."""
    logs = instance.all_logs(run.run_id, of_type=_OF_ASSETS)
    keys = {entry.dagster_event.asset_key for entry in logs if entry.dagster_event is not None}
    planned = {
        entry.dagster_event.asset_check_planned_data.asset_key
        for entry in logs
        if entry.dagster_event is not None
        and entry.dagster_event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED
    }
    return {key for key in {*keys, *planned} if key is not None}


def days_by_status(
    instance: dg.DagsterInstance, checks: Sequence[dg.AssetCheckKey], partitions: dg.PartitionsDefinition[str]
) -> dict[dg.AssetCheckKey, Mapping[Status, set[date]]]:
    """The days of some checks, by the status of their newest result. One that is outdated is not there.

    Args:
        instance: Has the results.
        checks: The checks.
        partitions: The days that there are.
    """
    states = instance.event_log_storage.get_asset_check_state([(key, partitions) for key in checks])
    return {
        key: {
            status: {date.fromisoformat(day) for day in subset.subset_value.get_partition_keys()}
            for status, subset in states[key].subsets.items()
        }
        for key in checks
    }


def failed_evaluations(
    instance: dg.DagsterInstance, check: dg.AssetCheckKey, days: Iterable[date]
) -> dict[date, tuple[str, dg.AssetCheckEvaluation]]:
    """The newest failed result of each of some days, with the id of its run.

    Args:
        instance: Has the results.
        check: The check.
        days: The days; those without a failed result are not in what is returned.
    """
    wanted = {day.isoformat() for day in days}
    found: dict[date, tuple[str, dg.AssetCheckEvaluation]] = {}
    cursor: int | None = None
    while wanted:
        page = instance.event_log_storage.get_asset_check_execution_history(
            check, limit=_PAGE, cursor=cursor, status={RecordStatus.FAILED}
        )
        for record in page:
            if record.partition in wanted and record.evaluation is not None:
                wanted.discard(record.partition)
                found[date.fromisoformat(record.partition)] = (record.run_id, record.evaluation)
        if len(page) < _PAGE:
            break
        cursor = page[-1].id
    return found
