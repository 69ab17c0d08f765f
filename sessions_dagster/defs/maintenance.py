"""The jobs `compaction` and `vacuum` and their schedules. The work is in `storage.maintenance`.

They are jobs and not assets, because "materialize all" must never mean a vacuum. What they did is observed on the
assets of the tables.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import dagster as dg
from pydantic import Field

from sessions_dagster.config import SessionsConfig
from sessions_dagster.defs.assets import WAREHOUSE_POOL, asset_key
from sessions_dagster.defs.metadata import Metadata
from sessions_dagster.defs.progress import watched_in_log
from sessions_dagster.defs.resources import resource_keys, resources_of
from sessions_dagster.defs.retries import retry_or_fail
from sessions_dagster.model.counts import number_of
from sessions_dagster.storage.maintenance import (
    CompactionReport,
    VacuumReport,
    checked_retention,
    compact,
    days_to_keep,
    set_retention,
    vacuum,
)
from sessions_dagster.storage.warehouse import Warehouse

_COMPACTION_JOB: Final = "compaction"
_VACUUM_JOB: Final = "vacuum"
JOBS: Final = (_COMPACTION_JOB, _VACUUM_JOB)
"""The names of the jobs, without the prefix of their product."""

_TAGS: Final = {"sessions/work": "maintenance"}
_EXAMPLES: Final = 10
_VACUUM_OP: Final = "vacuum_tables"


class VacuumConfig(dg.Config):
    """How a run of the job `vacuum` proceeds. Dagster's Launchpad opens with these fields and their defaults."""

    dry_run: bool = Field(default=True, description="Only report what would be removed. Set it to false to remove it.")
    retention_days: int = Field(
        # Not None: the Launchpad leaves out a field whose default is null.
        default=0,
        description="Keep the files of the tables for this long from now on, 7 days or more. With 0, and in a dry run, "
        "the tables' own property counts.",
    )


@dataclass(frozen=True)
class Maintenance:
    """The upkeep of a product.

    Attributes:
        jobs: `compaction` and `vacuum`.
        schedules: Their schedules, which are off until somebody turns them on.
    """

    jobs: tuple[dg.JobDefinition, ...]
    schedules: tuple[dg.ScheduleDefinition, ...]


def build_maintenance(config: SessionsConfig) -> Maintenance:
    """The jobs and the schedules that keep the tables of a product in order."""
    compaction, vacuum_job = _compaction(config), _vacuum(config)
    return Maintenance(
        jobs=(compaction, vacuum_job),
        schedules=(
            _schedule(config, "nightly_compaction", compaction, "0 3 * * *", "Every night at 03:00 UTC."),
            _schedule(
                config,
                "weekly_vacuum",
                vacuum_job,
                "0 4 * * 0",
                "Every Sunday at 04:00 UTC. It removes files, where a run by hand only reports them by default.",
                {"ops": {config.prefixed(_VACUUM_OP): {"config": {"dry_run": False}}}},
            ),
        ),
    )


def _compaction(config: SessionsConfig) -> dg.JobDefinition:
    @dg.op(
        name=config.prefixed("compact_tables"),
        pool=config.prefixed(WAREHOUSE_POOL),
        required_resource_keys=resource_keys(config),
    )
    def compact_tables(context: dg.OpExecutionContext) -> None:
        """Merge small files and purge deletion vectors on the dates touched since the last run, table by table."""
        with retry_or_fail(context):
            resources = resources_of(context, config)
            for uri in _tables(context, resources.warehouse):
                with watched_in_log(context, f"compacting {uri}"):
                    report = compact(resources.spark, resources.warehouse, uri)
                context.log.info(
                    f"compacted {uri}: {number_of(len(report.days), 'date')}, "
                    f"{number_of(report.before.files, 'file')} to {report.after.files:,}, "
                    f"{number_of(report.before.bytes, 'byte')} to {report.after.bytes:,}"
                )
                context.log_event(dg.AssetObservation(_asset(config, uri), metadata=_compaction_metadata(report)))

    @dg.job(name=config.prefixed(_COMPACTION_JOB), tags=_TAGS)
    def compaction() -> None:
        """Compacts what corrections have touched since the last run. Safe at any time; the rows stay as they are."""
        compact_tables()

    return compaction


def _vacuum(product: SessionsConfig) -> dg.JobDefinition:
    @dg.op(
        name=product.prefixed(_VACUUM_OP),
        pool=product.prefixed(WAREHOUSE_POOL),
        required_resource_keys=resource_keys(product),
    )
    def vacuum_tables(context: dg.OpExecutionContext, config: VacuumConfig) -> None:
        """Remove files that no kept version needs, and those that killed runs left, table by table."""
        with retry_or_fail(context):
            _vacuum_all(context, product, config)

    @dg.job(name=product.prefixed(_VACUUM_JOB), tags=_TAGS)
    def vacuum_job() -> None:
        """Removes files older than the tables' retention if `dry_run` is false. By default it only reports which."""
        vacuum_tables()

    return vacuum_job


def _vacuum_all(context: dg.OpExecutionContext, product: SessionsConfig, config: VacuumConfig) -> None:
    resources = resources_of(context, product)
    warehouse = resources.warehouse
    kept_for = days_to_keep(config.retention_days)
    if kept_for and config.dry_run:
        context.log.warning(
            "A dry run sets no retention, so it goes by what the tables say, and not by retention_days."
        )
    tables = _tables(context, warehouse)
    for uri in tables:
        if kept_for and not config.dry_run:
            with watched_in_log(context, f"setting the retention of {uri}"):
                set_retention(resources.spark, warehouse, uri, kept_for)
        # All tables are checked before the first one is vacuumed: if one is refused, nothing is removed.
        checked_retention(warehouse, uri)
    for uri in tables:
        with watched_in_log(context, f"looking for files of {uri} that no version needs"):
            report = vacuum(resources.spark, warehouse, uri, dry_run=config.dry_run)
        verb = "would remove" if config.dry_run else "removed"
        removed = number_of(len(report.removed), "file or empty folder", "files and empty folders")
        context.log.info(f"{uri}: {verb} {removed} older than {report.retention.days} days")
        context.log_event(dg.AssetObservation(_asset(product, uri), metadata=_vacuum_metadata(report, config)))


def _schedule(
    config: SessionsConfig,
    name: str,
    job: dg.JobDefinition,
    cron_schedule: str,
    description: str,
    run_config: Mapping[str, Any] | None = None,
) -> dg.ScheduleDefinition:
    return dg.ScheduleDefinition(
        name=config.prefixed(name),
        job=job,
        run_config=run_config,
        cron_schedule=cron_schedule,
        execution_timezone="UTC",
        description=f"{description} As with the sensor, it is for the user to turn it on.",
    )


def _tables(context: dg.OpExecutionContext, warehouse: Warehouse) -> list[str]:
    tables = [uri for uri in warehouse.tables if warehouse.open(uri) is not None]
    if not tables:
        context.log.info(f"There is no table in {warehouse.root} yet, so there is nothing to do.")
    return tables


def _asset(config: SessionsConfig, uri: str) -> dg.AssetKey:
    return asset_key(config, uri.rsplit("/", 1)[-1])


def _compaction_metadata(report: CompactionReport) -> Metadata:
    return {
        "compacted_dates": len(report.days),
        "files_before": report.before.files,
        "files_after": report.after.files,
        "bytes_before": report.before.bytes,
        "bytes_after": report.after.bytes,
        "deleted_rows_purged": report.before.rows_written - report.after.rows_written,
        "table_version": report.after.version,
    }


def _vacuum_metadata(report: VacuumReport, config: VacuumConfig) -> Metadata:
    return {
        "would_remove_files_and_folders" if config.dry_run else "removed_files_and_folders": len(report.removed),
        "examples": dg.MetadataValue.md("\n".join(f"- `{path}`" for path in report.removed[:_EXAMPLES]) or "none"),
        "retention_days": report.retention.days,
    }
