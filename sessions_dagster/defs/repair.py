"""The jobs `audit` and `rebuild`. The work is in `pipeline.audit` and `pipeline.rebuild`."""

from datetime import date
from typing import Final

import dagster as dg
from pydantic import Field

from sessions_dagster.config import SessionsConfig
from sessions_dagster.defs.assets import WAREHOUSE_POOL, asset_key
from sessions_dagster.defs.metadata import Metadata
from sessions_dagster.defs.progress import watched_in_log
from sessions_dagster.defs.resources import resource_keys, resources_of
from sessions_dagster.defs.retries import retry_or_fail
from sessions_dagster.errors import AuditError, PartitionsError
from sessions_dagster.pipeline.audit import AuditReport, audit
from sessions_dagster.pipeline.comparison import SESSIONIZED_EVENTS, SESSIONS, DateRange, Differences
from sessions_dagster.pipeline.difference_lines import COLUMNS, audit_lines, cells, rebuild_lines
from sessions_dagster.pipeline.rebuild import RebuildReport, rebuild

_AUDIT_JOB: Final = "audit"
_REBUILD_JOB: Final = "rebuild"
JOBS: Final = (_AUDIT_JOB, _REBUILD_JOB)
"""The names of the jobs, without the prefix of their product."""

_TAGS: Final = {"sessions/work": "repair"}


class DatesConfig(dg.Config):
    """The event dates that a run is about. Dagster's Launchpad opens with these fields and their defaults."""

    # Not None: the Launchpad leaves out a field whose default is null.
    first_date: str = Field(default="", description="The first event date, such as 2025-09-18. Empty: all dates.")
    last_date: str = Field(default="", description="The last event date, included. Empty: all dates.")

    def days(self) -> DateRange | None:
        """The dates; None: all.

        Raises:
            PartitionsError: If they are not two dates in order.
        """
        if not self.first_date and not self.last_date:
            return None
        try:
            days = DateRange(date.fromisoformat(self.first_date), date.fromisoformat(self.last_date))
        except ValueError:
            raise PartitionsError(
                "first_date and last_date must be two dates such as 2025-09-18, or both empty for all dates, not "
                f"{self.first_date!r} and {self.last_date!r}."
            ) from None
        if days.first > days.last:
            raise PartitionsError(f"first_date ({days.first}) is after last_date ({days.last}).")
        return days


class RebuildConfig(DatesConfig):
    """How a run of the job `rebuild` proceeds. Dagster's Launchpad opens with these fields and their defaults."""

    dry_run: bool = Field(default=True, description="Only tell what would change. Set it to false to change it.")


def build_repair_jobs(config: SessionsConfig) -> tuple[dg.JobDefinition, ...]:
    """The jobs that find what is wrong with the tables of a product, and put it right."""
    return _audit(config), _rebuild(config)


def _audit(product: SessionsConfig) -> dg.JobDefinition:
    @dg.op(
        name=product.prefixed("audit_tables"),
        pool=product.prefixed(WAREHOUSE_POOL),
        required_resource_keys=resource_keys(product),
    )
    def audit_tables(context: dg.OpExecutionContext, config: DatesConfig) -> None:
        """Compare the tables with one pass over raw_events. The step fails if they differ, and writes nothing."""
        with retry_or_fail(context):
            resources = resources_of(context, product)
            days = config.days()
            with watched_in_log(context, "comparing the tables with one pass over raw_events"):
                report = audit(resources.spark, resources.warehouse, days)
            context.log.info("\n".join(audit_lines(report)))
            metadata = audit_metadata(report)
            for table in (SESSIONIZED_EVENTS, SESSIONS):
                context.log_event(dg.AssetObservation(asset_key(product, table), metadata=metadata))
            try:
                report.check()
            except AuditError as error:
                raise dg.Failure(str(error), metadata, allow_retries=False) from error

    @dg.job(name=product.prefixed(_AUDIT_JOB), tags=_TAGS)
    def audit_job() -> None:
        """Compares sessionized_events and sessions with one pass over raw_events. It writes nothing."""
        audit_tables()

    return audit_job


def _rebuild(product: SessionsConfig) -> dg.JobDefinition:
    @dg.op(
        name=product.prefixed("rebuild_tables"),
        pool=product.prefixed(WAREHOUSE_POOL),
        required_resource_keys=resource_keys(product),
    )
    def rebuild_tables(context: dg.OpExecutionContext, config: RebuildConfig) -> None:
        """Make the tables anew from raw_events by the rules of the settings, or tell what that would change."""
        with retry_or_fail(context):
            resources = resources_of(context, product)
            days = config.days()
            with watched_in_log(context, "making the tables anew from raw_events"):
                report = rebuild(
                    resources.spark,
                    resources.warehouse,
                    product.rules,
                    product.carried_columns,
                    days,
                    dry_run=config.dry_run,
                    deletion_vectors=product.deletion_vectors,
                )
            context.log.info("\n".join(rebuild_lines(report)))
            for table in (SESSIONIZED_EVENTS, SESSIONS):
                context.log_event(dg.AssetObservation(asset_key(product, table), metadata=_rebuild_metadata(report)))

    @dg.job(name=product.prefixed(_REBUILD_JOB), tags=_TAGS)
    def rebuild_job() -> None:
        """Makes two tables anew from raw_events if `dry_run` is false. By default it only tells what would change."""
        rebuild_tables()

    return rebuild_job


def _rebuild_metadata(report: RebuildReport) -> Metadata:
    return {
        "written": report.is_applied,
        "differences": report.count,
        **difference_metadata(report.differences),
        "rules": str(report.rules),
        "too_late_before": sum(report.accepted_now.values()),
        **{f"{table}_version": version for table, version in report.versions.items()},
        "seconds": round(report.seconds, 2),
    }


def audit_metadata(report: AuditReport) -> Metadata:
    """What a run of the audit shows."""
    return {
        "differences": report.count,
        **difference_metadata(report.differences),
        **{f"{table}_version": version for table, version in report.versions.items()},
        "seconds": round(report.seconds, 2),
    }


def difference_metadata(differences: Differences) -> Metadata:
    """The counts of differences by what was compared and by kind, and the first of them as a table."""
    counts = {
        f"{table}_{kind.value}_by_{compared_with}": count
        for (table, compared_with), kinds in differences.counts.items()
        for kind, count in kinds.items()
    }
    if not differences.first:
        return counts
    schema = dg.TableSchema([dg.TableColumn(name) for name in COLUMNS])
    records = [dg.TableRecord(dict(zip(COLUMNS, cells(each), strict=True))) for each in differences.first]
    return {**counts, "first_differences": dg.MetadataValue.table(records, schema)}
