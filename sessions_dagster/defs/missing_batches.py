"""The check `batches_have_landed`, which is red as long as the batch of any day has not landed by its deadline.

Two things evaluate it: a run that lands batches, and the sensor `missing_batches`, because a batch that does not come
starts no run. The sensor is on from the start, and needs no Spark and no run.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

import dagster as dg
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus as Status

from sessions_dagster.config import SessionsConfig
from sessions_dagster.defs.assets import RAW_EVENTS, asset_key
from sessions_dagster.defs.checks import Results, newest_materialization
from sessions_dagster.defs.metadata import DELIVERED
from sessions_dagster.defs.resources import resource_keys, resources_of, tables_without_run
from sessions_dagster.defs.retries import retry_or_fail
from sessions_dagster.model.counts import number_of
from sessions_dagster.model.dates import day_ranges
from sessions_dagster.pipeline.deadlines import due_at, due_batches
from sessions_dagster.storage.landed_batches import landed_days
from sessions_dagster.storage.warehouse import Warehouse

BATCHES_HAVE_LANDED: Final = "batches_have_landed"
"""The name of the check. It has no partitions: Dagster stores only one result for a partition outside of runs."""

SENSOR_NAME: Final = "missing_batches"
"""The name of the sensor, without the prefix of its product."""

_RANGES_SHOWN: Final = 10
_DAYS_SHOWN: Final = 100


@dataclass(frozen=True)
class Missing:
    """The batches that should have landed and have not.

    Attributes:
        due: The dates of all batches that should have landed, in order.
        days: The dates of those that have not, in order.
        unknown: Why the tables could not be asked; None if they could, or did not have to be. Then the days are those
            that Dagster has not seen landing.
    """

    due: Sequence[date]
    days: Sequence[date]
    unknown: str | None = None

    def __str__(self) -> str:
        """A sentence that names the days, the newest first."""
        if not self.due:
            return "No batch is due yet."
        if not self.days and len(self.due) == 1:
            return f"The batch of {self.due[-1]}, the only one that is due, has landed."
        if not self.days:
            return f"All {len(self.due)} batches that are due have landed, the newest of them of {self.due[-1]}."
        if self.unknown is not None:
            return f"It is not known whether the batches of {_shown(self.days)} have landed: {self.unknown}"
        due = number_of(len(self.due), "batch that is due", "batches that are due")
        have = "has" if len(self.days) == 1 else "have"
        return f"{len(self.days):,} of {due} {have} not landed: {_shown(self.days)}."


def batches_check_spec(config: SessionsConfig) -> dg.AssetCheckSpec:
    """The check `batches_have_landed` of `raw_events`."""
    return dg.AssetCheckSpec(
        BATCHES_HAVE_LANDED,
        asset=asset_key(config, RAW_EVENTS),
        description="The batch of every day has landed, at the latest "
        f"{number_of(config.landing_deadline_hours, 'hour')} after the day is over (UTC).",
    )


def build_batches_check(config: SessionsConfig) -> dg.AssetChecksDefinition:
    """The check as a step of the runs that land batches."""
    spec = batches_check_spec(config)

    @dg.multi_asset_check(
        specs=[spec], name=config.prefixed("batches_check"), required_resource_keys=resource_keys(config)
    )
    def batches_check(context: dg.AssetCheckExecutionContext) -> Results:
        """Look which batches are missing, of all days and not only of those of the run."""
        with retry_or_fail(context):
            tables = nullcontext(resources_of(context, config).warehouse)
            missing = find_missing(context.instance, config, tables, datetime.now(UTC))
            if missing.due:
                yield evaluation_of(context.instance, config, missing)
            yield dg.Output(None, output_name=spec.get_python_identifier())

    return batches_check


def build_missing_batches_sensor(config: SessionsConfig) -> dg.SensorDefinition:
    """The sensor `missing_batches` of a product. It is on unless somebody turns it off."""

    @dg.sensor(
        name=config.prefixed(SENSOR_NAME),
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
        metadata={"landing_deadline_hours": config.landing_deadline_hours},
    )
    def missing_batches(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        """Turns the check `batches_have_landed` red when a batch has not landed by its deadline, and green when it has.

        It starts no run, and looks at all days since the start date, whether the sensor `new_batches` is on or not.
        """
        missing = find_missing(context.instance, config, tables_without_run(config), datetime.now(UTC))
        changed = changed_evaluation(context.instance, config, missing)
        return dg.SensorResult(asset_events=[changed] if changed else [], skip_reason=str(missing))

    return missing_batches


def find_missing(
    instance: dg.DagsterInstance, config: SessionsConfig, tables: AbstractContextManager[Warehouse], now: datetime
) -> Missing:
    """Find the batches that should have landed and have not.

    A batch has landed if the tables have it, or if Dagster has seen it landing: its rows may have been removed since. A
    backfill also materializes days that were never delivered, and says so in the metadata.

    Args:
        instance: Knows what has been materialized.
        config: The product.
        tables: Gives its tables.
        now: The time, with a time zone.
    """
    due = due_batches(config.start_date, _deadline(config), now)
    seen = {date.fromisoformat(key) for key in instance.get_materialized_partitions(asset_key(config, RAW_EVENTS))}
    try:
        with tables as warehouse:
            in_tables = landed_days(warehouse, due)
    except Exception as error:
        # Whatever the tables cannot be read for, it must not look as if all were well.
        return Missing(due, [day for day in due if day not in seen], f"the tables cannot be read: {error}")
    elsewhere = [day for day in due if day not in in_tables]
    return Missing(due, [day for day in elsewhere if day not in seen or not _was_delivered(instance, config, day)])


def changed_evaluation(
    instance: dg.DagsterInstance, config: SessionsConfig, missing: Missing
) -> dg.AssetCheckEvaluation | None:
    """The result of the check; None if Dagster has it already, or if no batch is due.

    Args:
        instance: Has the results so far.
        config: The product.
        missing: What is missing now.
    """
    if not missing.due:
        return None
    now = evaluation_of(instance, config, missing)
    last = _last_result(instance, now.asset_check_key)
    # A result that is older than the newest materialization counts as outdated, and its status is not shown.
    is_known = (
        last is not None
        and (last.passed, last.description) == (now.passed, now.description)
        and last.target_materialization_data == now.target_materialization_data
    )
    return None if is_known else now


def evaluation_of(instance: dg.DagsterInstance, config: SessionsConfig, missing: Missing) -> dg.AssetCheckEvaluation:
    """The result of the check, with a table of the missing days and their deadlines.

    Args:
        instance: Knows the newest materialization.
        config: The product.
        missing: What is missing; there must be batches that are due.
    """
    key = asset_key(config, RAW_EVENTS)
    metadata: dict[str, dg.MetadataValue] = {
        "missing_batches": dg.MetadataValue.int(len(missing.days)),
        "due_batches": dg.MetadataValue.int(len(missing.due)),
    }
    if missing.days:
        newest = list(reversed(missing.days))[:_DAYS_SHOWN]
        records = [dg.TableRecord({"batch": str(day), "was_due": due_text(config, day)}) for day in newest]
        metadata = {"newest_missing_batches": dg.MetadataValue.table(records), **metadata}
    return dg.AssetCheckEvaluation(
        asset_key=key,
        check_name=BATCHES_HAVE_LANDED,
        passed=not missing.days,
        severity=dg.AssetCheckSeverity.ERROR,
        blocking=False,
        description=str(missing),
        metadata=metadata,
        target_materialization_data=newest_materialization(instance, key),
    )


def due_text(config: SessionsConfig, day: date) -> str:
    """When the batch of a day must have landed, for a message."""
    return f"{due_at(day, _deadline(config)):%Y-%m-%d at %H:%M} UTC"


def _was_delivered(instance: dg.DagsterInstance, config: SessionsConfig, day: date) -> bool:
    """Whether the newest materialization of a day is the landing of a batch."""
    of_day = dg.AssetRecordsFilter(asset_key(config, RAW_EVENTS), asset_partitions=[day.isoformat()])
    newest = [each.asset_materialization for each in instance.fetch_materializations(of_day, limit=1).records]
    return any(each is not None and DELIVERED not in each.metadata for each in newest)


def _last_result(instance: dg.DagsterInstance, key: dg.AssetCheckKey) -> dg.AssetCheckEvaluation | None:
    """The result that Dagster shows; None if it shows none, or that a run has failed before it came to the check."""
    history = instance.event_log_storage.get_asset_check_execution_history
    newest = history(key, limit=1)
    if newest and newest[0].status is Status.PLANNED:
        run = instance.get_run_by_id(newest[0].run_id)
        if run is None or run.is_finished:
            return None
    results = history(key, limit=1, status={Status.FAILED, Status.SUCCEEDED})
    return results[0].evaluation if results else None


def _shown(days: Sequence[date]) -> str:
    ranges = day_ranges(days)[::-1]
    more = len(ranges) - _RANGES_SHOWN
    return ", ".join(ranges[:_RANGES_SHOWN]) + (
        f" and {number_of(more, 'earlier stretch', 'earlier stretches')}" if more > 0 else ""
    )


def _deadline(config: SessionsConfig) -> timedelta:
    return timedelta(hours=config.landing_deadline_hours)
