"""Upkeep in the graph: the jobs `compaction` and `vacuum`, and their schedules. The work is in `core.maintenance`.

Jobs, not assets: to materialize all assets must never mean to vacuum. What they did is observed on the tables' assets.
"""

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

import dagster as dg
from deltalake import DeltaTable
from pydantic import Field

from sessions_dagster.core.maintenance import (
    CompactionReport,
    VacuumReport,
    checked_retention,
    compact,
    set_retention,
    vacuum,
)
from sessions_dagster.orchestration.metadata import Metadata
from sessions_dagster.orchestration.resources import LakeResource, SparkResource
from sessions_dagster.orchestration.writing import WAREHOUSE_POOL, retried

_TAGS: Final = {"sessions/work": "maintenance"}
_EXAMPLES: Final = 10


class VacuumConfig(dg.Config):
    """How a run of the job `vacuum` goes about it."""

    dry_run: bool = Field(default=False, description="Only say what would be removed.")
    retention_days: int | None = Field(
        default=None,
        description="Let the tables keep files for so long from now on, 7 days or more; by default as they say, "
        "and in a dry run.",
    )


@dg.op(pool=WAREHOUSE_POOL)
@retried
def compact_tables(context: dg.OpExecutionContext, spark: SparkResource, lake: LakeResource) -> None:
    """Merge small files and purge deletion vectors on the dates touched since the last time, table by table."""
    for uri in _tables(lake):
        report = compact(spark.spark_session, lake.warehouse, uri)
        context.log.info(
            f"compacted {uri}: {len(report.days)} dates, {report.before.files:,} files to {report.after.files:,}, "
            f"{report.before.bytes:,} bytes to {report.after.bytes:,}"
        )
        context.log_event(dg.AssetObservation(_asset(uri), metadata=_compaction_metadata(report)))


@dg.op(pool=WAREHOUSE_POOL)
@retried
def vacuum_tables(
    context: dg.OpExecutionContext, config: VacuumConfig, spark: SparkResource, lake: LakeResource
) -> None:
    """Remove files that no kept version needs, and those that killed runs left, table by table."""
    tables = list(_tables(lake))
    for uri in tables:
        if config.retention_days is not None and not config.dry_run:
            set_retention(spark.spark_session, lake.warehouse, uri, timedelta(days=config.retention_days))
        # Of all tables before the first one is vacuumed: where one is refused nothing is removed.
        checked_retention(uri)
    for uri in tables:
        report = vacuum(spark.spark_session, lake.warehouse, uri, dry_run=config.dry_run)
        verb = "would remove" if config.dry_run else "removed"
        context.log.info(
            f"{uri}: {verb} {len(report.removed):,} files and empty folders older than {report.retention.days} days"
        )
        context.log_event(dg.AssetObservation(_asset(uri), metadata=_vacuum_metadata(report, config)))


@dg.job(tags=_TAGS)
def compaction() -> None:
    """Compacts what corrections have touched since the last time. Safe at any time; rows stay as they are."""
    compact_tables()


@dg.job(name="vacuum", tags=_TAGS)
def vacuum_job() -> None:
    """Removes files older than the tables' retention. With `dry_run: true` it only says which."""
    vacuum_tables()


SCHEDULES: Final = [
    dg.ScheduleDefinition(
        name="nightly_compaction",
        job=compaction,
        cron_schedule="0 3 * * *",
        execution_timezone="UTC",
        description="Every night at 03:00 UTC. As with the sensor, it is for the user to turn it on.",
    ),
    dg.ScheduleDefinition(
        name="weekly_vacuum",
        job=vacuum_job,
        cron_schedule="0 4 * * 0",
        execution_timezone="UTC",
        description="Every Sunday at 04:00 UTC. As with the sensor, it is for the user to turn it on.",
    ),
]


def _tables(lake: LakeResource) -> Iterator[str]:
    return (uri for uri in lake.warehouse.tables if DeltaTable.is_deltatable(uri))


def _asset(uri: str) -> dg.AssetKey:
    return dg.AssetKey(uri.rsplit("/", 1)[-1])


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
