"""How reports of `core` look in the Dagster UI: metadata of materializations and column schemas."""

from collections.abc import Sequence
from datetime import date
from typing import Any

import dagster as dg
from dagster_deltalake import DeltaTableResource
from pyspark.sql.types import StructType

from sessions_dagster.core.apply import ApplyReport
from sessions_dagster.core.contract import RejectReason
from sessions_dagster.core.correction import SessionChange
from sessions_dagster.core.landing import LandingReport
from sessions_dagster.core.summary import DaySummary
from sessions_dagster.lake.log import table_facts

Metadata = dict[str, Any]


def column_schema(schema: StructType) -> dg.TableSchema:
    """A table's columns with their descriptions, as the UI shows them."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                field.name,
                type=field.dataType.simpleString(),
                description=field.metadata["comment"],
                constraints=dg.TableColumnConstraints(nullable=field.nullable),
            )
            for field in schema
        ]
    )


def landing_metadata(report: LandingReport) -> Metadata:
    """What a partition of `raw_events` shows: the landing of one batch."""
    return {
        "dagster/row_count": report.accepted,
        "late_rows": report.late,
        "rejected_rows": sum(report.rejected.values()),
        **{f"rejected_{reason.value}": report.rejected.get(reason, 0) for reason in RejectReason},
        "input_files": report.files,
        "input_bytes": report.bytes,
        "delta_version": report.raw_events_version,
        "rejected_events_version": report.rejected_events_version,
        "seconds": round(report.seconds, 2),
    }


def correction_metadata(report: ApplyReport) -> Metadata:
    """What every partition of a run of `sessionized_events` shows: the run's one correction."""
    changes = {f"sessions_{kind.value}": report.session_changes.get(kind, 0) for kind in SessionChange}
    return {
        "committed": report.committed,
        "delta_version": report.version,
        "run_rows_inserted": sum(report.inserted.values()),
        "run_rows_updated": sum(report.updated.values()),
        "run_rows_deleted": sum(report.deleted.values()),
        "sessions_new": report.sessions_new,
        **changes,
        "batches_applied": _days(report.applied),
        "window_days_present": _days(report.present),
        "dates_touched": _days(report.dates_touched),
        "seconds": round(report.seconds, 2),
    }


def day_metadata(summary: DaySummary, report: ApplyReport) -> Metadata:
    """What a partition of `sessionized_events` shows of its own event date."""
    return {
        "dagster/row_count": summary.rows,
        "sessions": summary.sessions,
        "users": summary.users,
        "late_rows": summary.late_rows,
        "rows_inserted": report.inserted.get(summary.day, 0),
        "rows_updated": report.updated.get(summary.day, 0),
        "rows_deleted": report.deleted.get(summary.day, 0),
    }


def table_metadata(table: DeltaTableResource) -> Metadata:
    """Facts of a whole table, from its Delta log and without a JVM."""
    facts = table_facts(table.load())
    return {
        "table_uri": dg.MetadataValue.path(table.url),
        "table_version": facts.version,
        "table_files": facts.files,
        "table_bytes": facts.bytes,
        "table_partitions": facts.partitions,
        "table_rows_written": facts.rows_written,
    }


def _days(days: Sequence[date]) -> str:
    return ", ".join(day.isoformat() for day in days) or "none"
