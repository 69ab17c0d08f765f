"""How reports of `core` look in the Dagster UI: metadata of materializations and column schemas."""

import inspect
from collections.abc import Sequence
from datetime import date
from typing import Any, Final

import dagster as dg
from dagster._core.definitions.decorators.op_decorator import DecoratedOpFunction
from dagster_deltalake import DeltaTableResource
from pyspark.sql.types import StructType

from sessions_dagster.core.apply import ApplyReport
from sessions_dagster.core.batch import BatchError
from sessions_dagster.core.contract import RejectReason
from sessions_dagster.core.correction import SessionChange
from sessions_dagster.core.landing import LandingReport
from sessions_dagster.core.sessions import SessionsReport
from sessions_dagster.core.summary import DaySummary
from sessions_dagster.lake.log import table_facts
from sessions_dagster.orchestration.preview import batch_preview, day_preview

Metadata = dict[str, Any]

INPUT_FINGERPRINT: Final = "input_fingerprint"
"""Which content of the batch's folder it was; the sensor asks for a day again where the folder has another one."""


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


def with_code_reference(asset: dg.AssetsDefinition) -> dg.AssetsDefinition:
    """The asset with a link to the function that makes it."""
    reference = code_reference(asset)
    return asset.map_asset_specs(lambda spec: spec.merge_attributes(metadata=reference))


def code_reference(asset: dg.AssetsDefinition) -> Metadata:
    """The link to the function that makes an asset.

    Dagster's own `with_source_code_references` names the file of a wrapper, where the function has one.
    """
    compute = asset.op.compute_fn
    step = inspect.unwrap(compute.decorated_fn if isinstance(compute, DecoratedOpFunction) else compute)
    reference = dg.LocalFileCodeReference(
        file_path=inspect.getfile(step), line_number=inspect.getsourcelines(step)[1], label=step.__name__
    )
    return {"dagster/code_references": dg.CodeReferencesMetadataValue(code_references=[reference])}


def landing_metadata(report: LandingReport, input_fingerprint: str | None) -> Metadata:
    """What a partition of `raw_events` shows: the landing of one batch."""
    rejected = sum(report.rejected.values())
    return {
        "preview": dg.MetadataValue.md(batch_preview(report)),
        INPUT_FINGERPRINT: input_fingerprint,
        "dagster/row_count": report.accepted,
        "late_rows": report.late,
        "late_share": _share(report.late, report.accepted),
        "rejected_rows": rejected,
        "rejected_share": _share(rejected, report.accepted + rejected),
        **{f"rejected_{reason.value}": report.rejected.get(reason, 0) for reason in RejectReason},
        "input_files": report.files,
        "input_bytes": report.bytes,
        "delta_version": report.raw_events_version,
        "rejected_events_version": report.rejected_events_version,
        "seconds": round(report.seconds, 2),
    }


def rejected_metadata(report: LandingReport) -> Metadata:
    """What a partition of `rejected_events` shows: what landing one batch did not accept."""
    return {
        "dagster/row_count": sum(report.rejected.values()),
        **{reason.value: report.rejected.get(reason, 0) for reason in RejectReason},
        "delta_version": report.rejected_events_version,
    }


def landing_told(report: LandingReport) -> str:
    """What the log says of the landing of one batch."""
    return f"{report.accepted:,} rows, {sum(report.rejected.values()):,} rejected, {report.seconds:.1f} s"


def refusal_metadata(error: BatchError, input_fingerprint: str | None) -> Metadata:
    """What a partition of `raw_events` shows where its batch could not be landed."""
    return {INPUT_FINGERPRINT: input_fingerprint, "error": str(error)}


def correction_metadata(report: ApplyReport) -> Metadata:
    """What every partition of a run of `sessionized_events` shows: the run's one correction."""
    changes = {f"run_sessions_{kind.value}": report.session_changes.get(kind, 0) for kind in SessionChange}
    updated, deleted = sum(report.updated.values()), sum(report.deleted.values())
    return {
        "committed": report.committed,
        "delta_version": report.version,
        "run_rows_inserted": sum(report.inserted.values()),
        "run_rows_updated": updated,
        "run_rows_deleted": deleted,
        "run_rows_corrected": updated + deleted,
        "run_sessions_new": report.sessions_new,
        **changes,
        "batches_applied": _days(report.applied),
        "window_days_present": _days(report.present),
        "dates_touched": _days(report.dates_touched),
        "run_seconds": round(report.seconds, 2),
    }


def corrections_metadata(report: ApplyReport) -> Metadata:
    """What `session_corrections` shows of a run that added to it: how many sessions written before became what."""
    changes = {kind.value: count for kind, count in report.session_changes.items() if kind is not SessionChange.KEPT}
    return {**changes, "sessionized_events_version": report.version, "batches_applied": _days(report.applied)}


def correction_told(report: ApplyReport) -> str:
    """What the log says of a run's correction."""
    if not report.applied:
        return f"the table reflects all of the {len(report.present)} landed batches of the window already"
    rows = ", ".join(
        f"{sum(changes.values()):,} rows {how}"
        for how, changes in (("inserted", report.inserted), ("updated", report.updated), ("deleted", report.deleted))
    )
    return f"applied {len(report.applied)} batches ({_days(report.applied)}): {rows}, {report.seconds:.1f} s"


def day_metadata(summary: DaySummary, report: ApplyReport) -> Metadata:
    """What a partition of `sessionized_events` shows of its own event date.

    Minutes are those of the sessions that start on it. Late rows are those so far: later batches bring more, and do not
    materialize the day again. Corrected rows are those that were there before the run and were written again, for
    another session or another batch that delivers them, or are gone.
    """
    updated, deleted = report.updated.get(summary.day, 0), report.deleted.get(summary.day, 0)
    return {
        "preview": dg.MetadataValue.md(day_preview(summary)),
        "dagster/row_count": summary.rows,
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


def following_metadata(report: SessionsReport) -> Metadata:
    """What every partition of a run of `sessions` shows: what the run brought in step."""
    return {
        "committed": report.committed,
        "delta_version": report.version,
        "sessionized_events_version": report.events_version,
        "run_sessions_made_anew": report.made,
        "changed_dates": _days(report.changed_dates),
        "run_seconds": round(report.seconds, 2),
    }


def following_told(report: SessionsReport) -> str:
    """What the log says of what a run of `sessions` brought in step."""
    if not report.committed:
        return f"in step with version {report.events_version} of sessionized_events already"
    return (
        f"in step with version {report.events_version} of sessionized_events: {report.made:,} sessions made anew over "
        f"{len(report.changed_dates)} changed dates, {report.seconds:.1f} s"
    )


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


def _share(part: int, whole: int) -> float:
    return round(part / whole, 6) if whole else 0.0


def _days(days: Sequence[date]) -> str:
    return ", ".join(day.isoformat() for day in days) or "none"
