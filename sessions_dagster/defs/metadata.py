"""How the reports of `pipeline` look in Dagster's UI: metadata of materializations, and column schemas.

The keys are published names: the UI plots their values over the partitions, so they are not renamed. They are shown in
the order that they have here: the day first, then what the run did, and facts about machines and tables last.
"""

from collections.abc import Sequence
from datetime import date
from typing import Any, Final

import dagster as dg
from deltalake import DeltaTable
from pyspark.sql.types import StructType

from sessions_dagster.config import SessionsConfig
from sessions_dagster.defs.preview import batch_preview, day_preview
from sessions_dagster.errors import BatchError
from sessions_dagster.model.changes import SessionChange
from sessions_dagster.model.dates import date_list
from sessions_dagster.model.rejects import RejectReason
from sessions_dagster.pipeline.apply import ApplyReport
from sessions_dagster.pipeline.land import LandingReport
from sessions_dagster.pipeline.refresh_sessions import SessionsReport
from sessions_dagster.quality.day_statistics import DaySummary
from sessions_dagster.storage.delta_log import table_facts
from sessions_dagster.storage.filesystem import canonical
from sessions_dagster.storage.warehouse import Warehouse

Metadata = dict[str, Any]

DELIVERED: Final = "delivered"
"""Only of days that were never delivered: false."""

ROWS_OF_DAY: Final = "dagster/partition_row_count"
"""Dagster's name for the rows of a partition. Its `dagster/row_count` would be shown as that of the whole table."""

_UNITS: Final = ("kB", "MB", "GB", "TB")
_STEP: Final = 1000
_ROUNDED_UP: Final = 999.95
"""From here on a number with one decimal is the next unit: `1.0 MB` and not `1,000.0 kB`."""

INPUT_FINGERPRINT: Final = "input_fingerprint"
"""Which content of the batch's folder landed. The sensor lands a day again if its folder has another content."""


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


def definition_metadata(config: SessionsConfig, name: str, schema: StructType) -> Metadata:
    """What the definition of a table shows of it.

    Args:
        config: The product.
        name: The name of the asset without the prefix, which is that of the table as well.
        schema: The columns.
    """
    return {
        "dagster/column_schema": column_schema(schema),
        "dagster/table_name": ".".join(config.asset_key(name)),
        "dagster/uri": f"{Warehouse(config.warehouse_root).root}/{name}",
    }


def input_metadata(config: SessionsConfig) -> Metadata:
    """What the definition of the input folder shows."""
    return {"dagster/uri": canonical(config.input_root), "input_format": config.input_format}


def landing_settings(config: SessionsConfig) -> Metadata:
    """What the definition of `raw_events` shows of the settings that it goes by."""
    return {
        "input_root": dg.MetadataValue.path(config.input_root),
        "input_format": config.input_format,
        "epoch_unit": config.epoch_unit or "none",
        "bot_limit": "none" if config.bot_limit is None else config.bot_limit,
        "lateness_days": config.rules.lateness_days,
        **_carried_columns(config),
    }


def session_settings(config: SessionsConfig) -> Metadata:
    """What the definition of `sessionized_events` shows of the settings that it goes by."""
    return {
        "session_timeout_seconds": config.rules.timeout.total_seconds(),
        "user_action_ids": ", ".join(sorted(config.rules.user_action_ids)),
        "lateness_days": config.rules.lateness_days,
        **_carried_columns(config),
    }


def landing_metadata(report: LandingReport) -> Metadata:
    """What a partition of `raw_events` shows: the landing of one batch."""
    rejected = sum(report.rejected.values())
    return {
        "preview": dg.MetadataValue.md(batch_preview(report)),
        ROWS_OF_DAY: report.accepted,
        "late_rows": report.late,
        "late_share": _share(report.late, report.accepted),
        "rejected_rows": rejected,
        "rejected_share": _share(rejected, report.accepted + rejected),
        **{f"rejected_{name}": count for name, count in _rejected(report).items()},
        **({"left_out": ", ".join(report.left_out)} if report.left_out else {}),
        "input_size": _size(report.bytes),
        "input_files": report.files,
        "input_bytes": report.bytes,
        "seconds": round(report.seconds, 2),
        "delta_version": report.raw_events_version,
        "rejected_events_version": report.rejected_events_version,
        INPUT_FINGERPRINT: report.fingerprint,
    }


def rejected_metadata(report: LandingReport) -> Metadata:
    """What a partition of `rejected_events` shows: what landing one batch did not accept."""
    return {
        ROWS_OF_DAY: sum(report.rejected.values()),
        **_rejected(report),
        "delta_version": report.rejected_events_version,
    }


def failed_landing_metadata(error: BatchError, input_fingerprint: str | None) -> Metadata:
    """What a partition of `raw_events` shows if its batch could not be landed."""
    return {INPUT_FINGERPRINT: input_fingerprint, "error": str(error)}


def not_delivered_metadata() -> Metadata:
    """What a partition of `raw_events` shows that a backfill asked for, although its batch was never delivered."""
    return {DELIVERED: False, ROWS_OF_DAY: 0}


def apply_metadata(report: ApplyReport) -> Metadata:
    """What every partition of a run of `sessionized_events` shows of the correction that the run made."""
    changes = {f"run_sessions_{kind.value}": report.session_changes.get(kind, 0) for kind in SessionChange}
    updated, deleted = sum(report.updated.values()), sum(report.deleted.values())
    return {
        "run_rows_inserted": sum(report.inserted.values()),
        "run_rows_updated": updated,
        "run_rows_deleted": deleted,
        "run_rows_corrected": updated + deleted,
        "run_sessions_new": report.sessions_new,
        **changes,
        "batches_applied": _dates(report.applied),
        "window_days_present": _dates(report.present),
        "dates_touched": _dates(report.dates_touched),
        "run_seconds": round(report.seconds, 2),
        "committed": report.committed,
        "delta_version": report.version,
    }


def corrections_metadata(report: ApplyReport) -> Metadata:
    """What `session_corrections` shows of a run that added rows to it: how many sessions were corrected, by kind."""
    changes = {kind.value: count for kind, count in report.session_changes.items() if kind is not SessionChange.KEPT}
    return {**changes, "sessionized_events_version": report.version, "batches_applied": _dates(report.applied)}


def day_metadata(summary: DaySummary, report: ApplyReport) -> Metadata:
    """What a partition of `sessionized_events` shows of its own event date.

    Minutes are those of the sessions that start on it. Late rows are those so far: later batches bring more, and do not
    materialize the day again. Corrected rows are those that were there before the run and were written again, for
    another session or another batch that delivers them, or were deleted.

    Args:
        summary: The statistics of the event date.
        report: The run that materializes it.
    """
    updated, deleted = report.updated.get(summary.day, 0), report.deleted.get(summary.day, 0)
    return {
        "preview": dg.MetadataValue.md(day_preview(summary)),
        ROWS_OF_DAY: summary.rows,
        "sessions": summary.sessions,
        "users": summary.users,
        "session_minutes_median": round(summary.median_minutes, 2),
        "session_minutes_p95": round(summary.p95_minutes, 2),
        "late_rows": summary.late_rows,
        "late_share": _share(summary.late_rows, summary.rows),
        "rows_inserted": report.inserted.get(summary.day, 0),
        "rows_updated": updated,
        "rows_deleted": deleted,
        "rows_corrected": updated + deleted,
    }


def refresh_metadata(report: SessionsReport) -> Metadata:
    """What every partition of a run of `sessions` shows of what the run did."""
    return {
        "run_sessions_made_anew": report.rebuilt,
        "changed_dates": _dates(report.changed_dates),
        "run_seconds": round(report.seconds, 2),
        "committed": report.committed,
        "delta_version": report.version,
        "sessionized_events_version": report.events_version,
    }


def table_metadata(table_uri: str, table: DeltaTable) -> Metadata:
    """Facts of a whole table from its Delta log, without Spark.

    How many rows it has is not among them: the log knows only how many were written, deleted ones included.

    Args:
        table_uri: Where the table is, as it is shown to people.
        table: Its handle, at the version to show.
    """
    facts = table_facts(table)
    return {
        "dagster/uri": table_uri,
        "table_size": _size(facts.bytes),
        "dagster/size_bytes": facts.bytes,
        "table_files": facts.files,
        "table_partitions": facts.partitions,
        "table_rows_written": facts.rows_written,
        "table_version": facts.version,
    }


def _rejected(report: LandingReport) -> dict[str, int]:
    """The rows of each reason that rejected any."""
    return {reason.value: report.rejected[reason] for reason in RejectReason if report.rejected.get(reason)}


def _size(size: int) -> str:
    """A number of bytes as people read it: `312 bytes`, `1.4 MB`."""
    if size < _STEP:
        return "1 byte" if size == 1 else f"{size} bytes"
    power = next(
        power for power in range(1, len(_UNITS) + 1) if size < _ROUNDED_UP * _STEP**power or power == len(_UNITS)
    )
    return f"{size / _STEP**power:,.1f} {_UNITS[power - 1]}"


def _carried_columns(config: SessionsConfig) -> Metadata:
    columns = [f"{name} {type_}" for name, type_ in config.carried_columns.items()]
    return {"carried_columns": ", ".join(columns)} if columns else {}


def _share(part: int, whole: int) -> float:
    return round(part / whole, 6) if whole else 0.0


def _dates(days: Sequence[date]) -> str:
    return date_list(days) or "none"
