"""The asset checks of `sessionized_events`: the quality rules and the landed window, for every partition of a run."""

import dataclasses
import warnings
from collections.abc import Collection, Iterator
from datetime import date
from typing import Any, Final

import dagster as dg

# Dagster exports the evaluation, but not this part of it.
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData as CheckedMaterialization,
)
from dagster_deltalake import DeltaTableResource
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from sessions_dagster.core.quality import Finding, Offender, Rule, check_dates, missing_batches
from sessions_dagster.core.session_table import rules_of_table
from sessions_dagster.lake.log import batch_days
from sessions_dagster.orchestration.assets import sessionized_events
from sessions_dagster.orchestration.partitions import daily_partitions
from sessions_dagster.orchestration.resources import LakeResource, SparkResource

WINDOW_IS_COMPLETE: Final = "window_is_complete"

BLOCKING_RULE: Final = Rule.SESSION_END
"""Where it is broken the run fails, and nothing downstream goes on with wrong sessions."""

_RULES: Final = {
    Rule.SESSION_END: "Every session starts at its first user action and ends the timeout after its last one; its rows "
    "agree on that.",
    Rule.UNIQUE_EVENTS: "No two rows agree in user, event, product and timestamp.",
    Rule.SESSION_BOUNDS: "User actions are in one session if they are less than the timeout apart and in two if not; "
    "an event inside a session's bounds is in that session, and every session_id agrees with the start.",
}

_OFFENDER_COLUMNS: Final = dg.TableSchema(columns=[dg.TableColumn(each.name) for each in dataclasses.fields(Offender)])


def _specs() -> list[dg.AssetCheckSpec]:
    def spec(name: str, description: str, *, blocking: bool) -> dg.AssetCheckSpec:
        return dg.AssetCheckSpec(
            name,
            asset=sessionized_events,
            description=description,
            blocking=blocking,
            partitions_def=daily_partitions,
        )

    with warnings.catch_warnings():
        # Partitioned checks are a preview; the tests hold Dagster to what we need of them.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return [
            *[spec(rule.value, text, blocking=rule is BLOCKING_RULE) for rule, text in _RULES.items()],
            spec(WINDOW_IS_COMPLETE, "Every batch of the window has landed at least once.", blocking=False),
        ]


SPECS: Final = _specs()


@dg.multi_asset_check(specs=SPECS)
def session_checks(
    context: dg.AssetCheckExecutionContext, spark: SparkResource, lake: LakeResource
) -> Iterator[dg.AssetCheckEvaluation | dg.Output[None]]:
    """Check all partitions of the run, a key or a range, in one pass over the table."""
    days = [date.fromisoformat(key) for key in context.partition_keys]
    uri = lake.warehouse.sessionized_events
    table = _load(lake.table(uri))
    if table is None:
        raise dg.Failure(
            f"There is no table {uri} to check yet. Materialize {sessionized_events.key.to_user_string()}."
        )
    version = table.version()
    events = spark.spark_session.read.format("delta").option("versionAsOf", version).load(uri)
    findings = check_dates(events, days[0], days[-1], rules_of_table(table))
    landed = _batch_days(lake, lake.warehouse.raw_events) | _batch_days(lake, lake.warehouse.rejected_events)

    # An evaluation of its own for every key. An AssetCheckResult would be the run's: in a run of a range it has no
    # partition, and to Dagster the checks of all keys stay planned and never done.
    targets = {day: _latest_materialization(context.instance, day) for day in days}
    for finding in findings:
        yield _rule_evaluation(finding, version, targets[finding.day])
    for day, target in targets.items():
        yield _window_evaluation(day, landed, target)
    for spec in SPECS:
        yield dg.Output(None, output_name=spec.get_python_identifier())


def _rule_evaluation(finding: Finding, version: int, target: CheckedMaterialization | None) -> dg.AssetCheckEvaluation:
    metadata: dict[str, Any] = {
        "checked": finding.checked,
        "offenders": finding.offenders,
        "delta_version": version,
    }
    if finding.examples:
        records = [dg.TableRecord(dataclasses.asdict(offender)) for offender in finding.examples]
        metadata["offending_rows"] = dg.MetadataValue.table(records, _OFFENDER_COLUMNS)
    what = "sessions" if finding.rule is Rule.SESSION_END else "rows"
    return dg.AssetCheckEvaluation(
        asset_key=sessionized_events.key,
        check_name=finding.rule.value,
        passed=finding.offenders == 0,
        severity=dg.AssetCheckSeverity.ERROR,
        blocking=finding.rule is BLOCKING_RULE,
        partition=finding.day.isoformat(),
        description=f"{finding.offenders:,} of {finding.checked:,} {what} offend.",
        metadata=metadata,
        target_materialization_data=target,
    )


def _window_evaluation(
    day: date, landed: Collection[date], target: CheckedMaterialization | None
) -> dg.AssetCheckEvaluation:
    missing = missing_batches(day, daily_partitions.start.date(), landed)
    days = ", ".join(batch.isoformat() for batch in missing)
    return dg.AssetCheckEvaluation(
        asset_key=sessionized_events.key,
        check_name=WINDOW_IS_COMPLETE,
        passed=not missing,
        severity=dg.AssetCheckSeverity.WARN,
        blocking=False,
        partition=day.isoformat(),
        description=f"Never landed, or without a row: {days}." if missing else "All batches of the window have landed.",
        metadata={"missing_batches": days or "none"},
        target_materialization_data=target,
    )


def _latest_materialization(instance: dg.DagsterInstance, day: date) -> CheckedMaterialization | None:
    """What a check of the day is a check of. Without it Dagster takes the check for outdated and forgets its status."""
    records_filter = dg.AssetRecordsFilter(sessionized_events.key, asset_partitions=[day.isoformat()])
    records = instance.fetch_materializations(records_filter, limit=1).records
    if not records:
        return None
    return CheckedMaterialization(
        storage_id=records[0].storage_id, run_id=records[0].run_id, timestamp=records[0].timestamp
    )


def _load(table: DeltaTableResource) -> DeltaTable | None:
    try:
        return table.load()
    except TableNotFoundError:
        return None


def _batch_days(lake: LakeResource, uri: str) -> set[date]:
    table = _load(lake.table(uri))
    return batch_days(table) if table else set()
