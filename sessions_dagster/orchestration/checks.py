"""The asset checks: the quality rules of the tables and the landed window, for every partition of a run."""

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
from pyspark.sql import DataFrame

from sessions_dagster.core.quality import Finding, Offender, Rule, check_dates, missing_batches
from sessions_dagster.core.session_quality import SessionsFinding, WrongSession, compare_sessions
from sessions_dagster.core.session_table import rules_of_table
from sessions_dagster.core.settings import compiled_if_worth, rows_around
from sessions_dagster.lake.log import batch_days, version_followed
from sessions_dagster.lake.places import place_of
from sessions_dagster.orchestration.assets import sessionized_events, sessions
from sessions_dagster.orchestration.partitions import daily_partitions
from sessions_dagster.orchestration.resources import LakeResource, SparkResource
from sessions_dagster.orchestration.writing import retried_check

WINDOW_IS_COMPLETE: Final = "window_is_complete"
SESSIONS_AGREE: Final = "sessions_agree_with_sessionized_events"

BLOCKING_RULE: Final = Rule.SESSION_END
"""Where it is broken the run fails, and nothing downstream goes on with wrong sessions."""

_RULES: Final = {
    Rule.SESSION_END: "Every session starts at its first user action and ends the timeout after its last one; its rows "
    "agree on that.",
    Rule.UNIQUE_EVENTS: "No two rows agree in user, event, product and timestamp.",
    Rule.SESSION_BOUNDS: "User actions are in one session if they are less than the timeout apart and in two if not; "
    "an event inside a session's bounds is in that session, and every session_id agrees with the start.",
}


def _spec(asset: dg.AssetsDefinition, name: str, description: str, *, blocking: bool = False) -> dg.AssetCheckSpec:
    with warnings.catch_warnings():
        # Partitioned checks are a preview; the tests hold Dagster to what we need of them.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return dg.AssetCheckSpec(
            name, asset=asset, description=description, blocking=blocking, partitions_def=daily_partitions
        )


SPECS: Final = [
    *[_spec(sessionized_events, rule.value, text, blocking=rule is BLOCKING_RULE) for rule, text in _RULES.items()],
    _spec(sessionized_events, WINDOW_IS_COMPLETE, "Every batch of the window has landed, and not without a row."),
]

SESSIONS_SPEC: Final = _spec(
    sessions, SESSIONS_AGREE, "The sessions that start on the day are those of `sessionized_events`, with all columns."
)


@dg.multi_asset_check(specs=SPECS, can_subset=True)
@retried_check
def session_checks(
    context: dg.AssetCheckExecutionContext, spark: SparkResource, lake: LakeResource
) -> Iterator[dg.AssetCheckEvaluation | dg.Output[None]]:
    """Check all partitions of the run, a key or a range, in one pass over the table.

    Whichever of the rules are asked for, the pass judges them all: on its own a rule costs nearly as much.
    """
    asked = {key.name for key in context.selected_asset_check_keys}
    days = _days(context)
    table = _load_or_fail(lake, sessionized_events)
    version = table.version()
    with compiled_if_worth(spark.spark_session, rows_around(days, place_of(table.table_uri))):
        findings = check_dates(_at_version(spark, table), days[0], days[-1], rules_of_table(table))
    landed = _batch_days(lake, lake.warehouse.raw_events) | _batch_days(lake, lake.warehouse.rejected_events)

    # An evaluation of its own for every key. An AssetCheckResult would be the run's: in a run of a range it has no
    # partition, and to Dagster the checks of all keys stay planned and never done.
    targets = {day: _latest_materialization(context.instance, sessionized_events, day) for day in days}
    evaluations = [
        *[_rule_evaluation(finding, version, targets[finding.day]) for finding in findings],
        *[_window_evaluation(day, landed, target) for day, target in targets.items()],
    ]
    yield from [evaluation for evaluation in evaluations if evaluation.check_name in asked]
    yield from [dg.Output(None, output_name=spec.get_python_identifier()) for spec in SPECS if spec.name in asked]


@dg.multi_asset_check(specs=[SESSIONS_SPEC])
@retried_check
def sessions_check(
    context: dg.AssetCheckExecutionContext, spark: SparkResource, lake: LakeResource
) -> Iterator[dg.AssetCheckEvaluation | dg.Output[None]]:
    """Hold the sessions of all partitions of the run against the events, in one pass."""
    days = _days(context)
    events_table, table = _load_or_fail(lake, sessionized_events), _load_or_fail(lake, sessions)
    followed = version_followed(table, events_table)
    if followed is not None:
        # That the events have gone on since is for the next run of `sessions`, and no fault of its rows.
        events_table.load_as_version(followed)
    with compiled_if_worth(spark.spark_session, rows_around(days, place_of(events_table.table_uri))):
        findings = compare_sessions(
            _at_version(spark, table),
            _at_version(spark, events_table),
            days[0],
            days[-1],
            rules_of_table(events_table),
        )
    for finding in findings:
        target = _latest_materialization(context.instance, sessions, finding.day)
        yield _sessions_evaluation(finding, table.version(), target)
    yield dg.Output(None, output_name=SESSIONS_SPEC.get_python_identifier())


def _days(context: dg.AssetCheckExecutionContext) -> list[date]:
    """The partitions of the run.

    Raises:
        Failure: If it has none, as a run of checks that was launched in Dagster's UI.
    """
    if not (context.has_partition_key or context.has_partition_key_range):
        raise dg.Failure(
            "This run has no partition: Dagster's UI cannot yet execute the checks of partitioned assets on their own. "
            "Materialize the partitions once more instead. Where all is applied that changes nothing, and checks them.",
            allow_retries=False,
        )
    return [date.fromisoformat(key) for key in context.partition_keys]


def _rule_evaluation(finding: Finding, version: int, target: CheckedMaterialization | None) -> dg.AssetCheckEvaluation:
    what = "sessions" if finding.rule is Rule.SESSION_END else "rows"
    return dg.AssetCheckEvaluation(
        asset_key=sessionized_events.key,
        check_name=finding.rule.value,
        passed=finding.offenders == 0,
        severity=dg.AssetCheckSeverity.ERROR,
        blocking=finding.rule is BLOCKING_RULE,
        partition=finding.day.isoformat(),
        description=f"{finding.offenders:,} of {finding.checked:,} {what} offend.",
        metadata=_finding_metadata(finding, version, Offender),
        target_materialization_data=target,
    )


def _sessions_evaluation(
    finding: SessionsFinding, version: int, target: CheckedMaterialization | None
) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=sessions.key,
        check_name=SESSIONS_AGREE,
        passed=finding.offenders == 0,
        severity=dg.AssetCheckSeverity.ERROR,
        blocking=False,
        partition=finding.day.isoformat(),
        description=f"{finding.offenders:,} of {finding.checked:,} sessions offend.",
        metadata=_finding_metadata(finding, version, WrongSession),
        target_materialization_data=target,
    )


def _finding_metadata(finding: Finding | SessionsFinding, version: int, example: type) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "checked": finding.checked,
        "offenders": finding.offenders,
        "delta_version": version,
    }
    if finding.examples:
        columns = [dg.TableColumn(each.name) for each in dataclasses.fields(example)]
        records = [dg.TableRecord(dataclasses.asdict(offender)) for offender in finding.examples]
        metadata["offending_rows"] = dg.MetadataValue.table(records, dg.TableSchema(columns=columns))
    return metadata


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


def _latest_materialization(
    instance: dg.DagsterInstance, asset: dg.AssetsDefinition, day: date
) -> CheckedMaterialization | None:
    """What a check of the day is a check of. Without it Dagster takes the check for outdated and forgets its status."""
    records_filter = dg.AssetRecordsFilter(asset.key, asset_partitions=[day.isoformat()])
    records = instance.fetch_materializations(records_filter, limit=1).records
    if not records:
        return None
    return CheckedMaterialization(
        storage_id=records[0].storage_id, run_id=records[0].run_id, timestamp=records[0].timestamp
    )


def _load_or_fail(lake: LakeResource, asset: dg.AssetsDefinition) -> DeltaTable:
    name = asset.key.to_user_string()
    uri = f"{lake.warehouse.root}/{name}"
    table = _load(lake.table(uri))
    if table is None:
        raise dg.Failure(f"There is no table {uri} to check yet. Materialize {name}.")
    return table


def _load(table: DeltaTableResource) -> DeltaTable | None:
    try:
        return table.load()
    except TableNotFoundError:
        return None


def _at_version(spark: SparkResource, table: DeltaTable) -> DataFrame:
    rows = spark.spark_session.read.format("delta").option("versionAsOf", table.version())
    return rows.load(place_of(table.table_uri))


def _batch_days(lake: LakeResource, uri: str) -> set[date]:
    table = _load(lake.table(uri))
    return batch_days(table) if table else set()
