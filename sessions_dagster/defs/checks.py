"""The asset checks: the quality rules of the tables and the landed window, for every partition of a run.

What belongs here is how a finding looks to Dagster. The rules are in `quality`, and `pipeline.check_tables` runs them.
"""

import dataclasses
import warnings
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any, Final

import dagster as dg

# Dagster exports the evaluation, but not what follows.
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData as CheckedMaterialization,
)
from dagster._core.event_api import PartitionKeyFilter
from dagster._core.storage.asset_check_execution_record import COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES

from sessions_dagster.config import SessionsConfig
from sessions_dagster.defs.assets import SESSIONIZED_EVENTS, SESSIONS, asset_key
from sessions_dagster.defs.partitions import daily_partitions, days_of_step
from sessions_dagster.defs.progress import watched_in_log
from sessions_dagster.defs.resources import resource_keys, resources_of
from sessions_dagster.defs.retries import retry_or_fail
from sessions_dagster.model.counts import number_of
from sessions_dagster.model.dates import ONE_DAY, counted, date_list, days_between
from sessions_dagster.pipeline.check_tables import check_events, check_sessions, missing_by_date, table_to_check
from sessions_dagster.quality.events import SESSION_RULES, Finding, Offender, Rule
from sessions_dagster.quality.sessions import SessionsFinding, WrongSession
from sessions_dagster.storage.warehouse import Warehouse

WINDOW_IS_COMPLETE: Final = "window_is_complete"
SESSIONS_AGREE: Final = "sessions_agree_with_sessionized_events"

BLOCKING_RULE: Final = Rule.SESSION_END
"""If it is broken the run fails, so that nothing downstream continues with wrong sessions."""

_MISSING_BATCHES: Final = "missing_batches"

_RULES: Final = {
    Rule.SESSION_END: "Every session starts at its first user action and ends the timeout after its last one; its rows "
    "agree on that.",
    Rule.UNIQUE_EVENTS: "No two rows agree in user, event, product and timestamp.",
    Rule.SESSION_BOUNDS: "User actions are in one session if they are less than the timeout apart and in two if not; "
    "an event inside a session's bounds is in that session, and every session_id agrees with the start.",
}

Results = Iterator[dg.AssetCheckEvaluation | dg.Output[None]]


def event_check_specs(config: SessionsConfig) -> list[dg.AssetCheckSpec]:
    """The checks of `sessionized_events`."""
    rules = [
        _spec(config, SESSIONIZED_EVENTS, rule.value, text, blocking=rule is BLOCKING_RULE)
        for rule, text in _RULES.items()
    ]
    window = "Every batch of the window has landed."
    return [*rules, _spec(config, SESSIONIZED_EVENTS, WINDOW_IS_COMPLETE, window)]


def sessions_check_spec(config: SessionsConfig) -> dg.AssetCheckSpec:
    """The check of `sessions`."""
    text = "The sessions that start on the day are those of `sessionized_events`, with all columns."
    return _spec(config, SESSIONS, SESSIONS_AGREE, text)


def build_checks(config: SessionsConfig) -> list[dg.AssetChecksDefinition]:
    """The checks of a product: one step for all of `sessionized_events`, and one for `sessions`."""
    return [_session_checks(config), _sessions_check(config)]


def _session_checks(config: SessionsConfig) -> dg.AssetChecksDefinition:
    specs = event_check_specs(config)

    @dg.multi_asset_check(
        specs=specs,
        name=config.prefixed("session_checks"),
        can_subset=True,
        required_resource_keys=resource_keys(config),
    )
    def session_checks(context: dg.AssetCheckExecutionContext) -> Results:
        """Check all partitions of the run, a key or a range, with one query over the table.

        It checks all rules, whichever of them are selected: one rule alone takes nearly as long.
        """
        with retry_or_fail(context), (resources := resources_of(context, config)).warehouse.looking_once():
            warehouse = resources.warehouse
            days = _days(context, config)
            # Before Spark starts: if the table is missing there is nothing to start it for.
            table_to_check(warehouse, warehouse.sessionized_events)
            with watched_in_log(context, f"checking {counted(days, 'day', 'days')}"):
                found = check_events(resources.spark, warehouse, days[0], days[-1], config.start_date)
            # Dagster has no partition for an AssetCheckResult in a run of a range, and would show the checks of all
            # its keys as planned for ever. So each key gets an evaluation of its own.
            targets = _targets(context, asset_key(config, SESSIONIZED_EVENTS), days)
            evaluations = [
                *[_rule_evaluation(config, finding, found.version, targets[finding.day]) for finding in found.findings],
                *[_window_evaluation(config, day, found.missing_batches[day], targets[day]) for day in days],
                *_later_windows(context, config, warehouse, days[-1]),
            ]
            selected = {key.name for key in context.selected_asset_check_keys}
            yield from [evaluation for evaluation in evaluations if evaluation.check_name in selected]
            yield from [_done(spec) for spec in specs if spec.name in selected]

    return session_checks


def _sessions_check(config: SessionsConfig) -> dg.AssetChecksDefinition:
    spec = sessions_check_spec(config)

    @dg.multi_asset_check(
        specs=[spec], name=config.prefixed("sessions_check"), required_resource_keys=resource_keys(config)
    )
    def sessions_check(context: dg.AssetCheckExecutionContext) -> Results:
        """Compare the sessions of all partitions of the run with their events, with one query over both tables."""
        with retry_or_fail(context), (resources := resources_of(context, config)).warehouse.looking_once():
            warehouse = resources.warehouse
            days = _days(context, config)
            for uri in (warehouse.sessionized_events, warehouse.sessions):
                table_to_check(warehouse, uri)
            with watched_in_log(context, f"checking sessions of {counted(days, 'day', 'days')}"):
                found = check_sessions(resources.spark, warehouse, days[0], days[-1])
            targets = _targets(context, asset_key(config, SESSIONS), days)
            for finding in found.findings:
                yield _sessions_evaluation(config, finding, found.version, targets[finding.day])
            yield _done(spec)

    return sessions_check


def _spec(
    config: SessionsConfig, asset: str, name: str, description: str, *, blocking: bool = False
) -> dg.AssetCheckSpec:
    with warnings.catch_warnings():
        # Partitioned checks are a preview of Dagster's; our tests verify what we need of them.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return dg.AssetCheckSpec(
            name,
            asset=asset_key(config, asset),
            description=description,
            blocking=blocking,
            partitions_def=daily_partitions(config),
        )


def _done(spec: dg.AssetCheckSpec) -> dg.Output[None]:
    return dg.Output(None, output_name=spec.get_python_identifier())


def _later_windows(
    context: dg.AssetCheckExecutionContext, config: SessionsConfig, warehouse: Warehouse, last: date
) -> list[dg.AssetCheckEvaluation]:
    """The windows of days after a run of which the run has landed a batch, if their last result says something else.

    Nobody would repeat these checks, and a warning would stay for ever when its cause is gone.
    """
    days = days_between(last + ONE_DAY, last + config.rules.lateness_days * ONE_DAY)
    missing = missing_by_date(warehouse, days, config.start_date, config.rules)
    recorded = {day: _recorded_window(context.instance, config, day) for day in days}
    outdated = [day for day in days if recorded[day] not in {None, _missing_text(missing[day])}]
    targets = _targets(context, asset_key(config, SESSIONIZED_EVENTS), outdated)
    return [_window_evaluation(config, day, missing[day], targets[day]) for day in outdated]


def _recorded_window(instance: dg.DagsterInstance, config: SessionsConfig, day: date) -> str | None:
    """Which batches are missing according to the newest check of the window of a day; None if it was never checked."""
    # Dagster has no public way to ask for the result of a partition.
    history = instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(asset_key(config, SESSIONIZED_EVENTS), WINDOW_IS_COMPLETE),
        limit=1,
        status=COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES,
        partition_filter=PartitionKeyFilter(key=day.isoformat()),
    )
    evaluation = history[0].evaluation if history else None
    return None if evaluation is None else str(evaluation.metadata[_MISSING_BATCHES].value)


def _days(context: dg.AssetCheckExecutionContext, config: SessionsConfig) -> list[date]:
    """The partitions of the run.

    Raises:
        PartitionsError: If they are not days that a run may have.
        Failure: If it has none, as a run of checks that was launched in Dagster's UI.
    """
    if not (context.has_partition_key or context.has_partition_key_range):
        raise dg.Failure(
            "This run has no partition: Dagster's UI cannot yet execute the checks of partitioned assets on their own. "
            "Materialize the partitions once more instead. If everything is applied, that changes nothing and checks "
            "them.",
            allow_retries=False,
        )
    return days_of_step(context, config)


def _rule_evaluation(
    config: SessionsConfig, finding: Finding, version: int, target: CheckedMaterialization | None
) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=asset_key(config, SESSIONIZED_EVENTS),
        check_name=finding.rule.value,
        passed=finding.offenders == 0,
        severity=dg.AssetCheckSeverity.ERROR,
        blocking=finding.rule is BLOCKING_RULE,
        partition=finding.day.isoformat(),
        description=_offenders_text(finding, "session" if finding.rule in SESSION_RULES else "row"),
        metadata=_finding_metadata(finding, version, Offender),
        target_materialization_data=target,
    )


def _sessions_evaluation(
    config: SessionsConfig, finding: SessionsFinding, version: int, target: CheckedMaterialization | None
) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=asset_key(config, SESSIONS),
        check_name=SESSIONS_AGREE,
        passed=finding.offenders == 0,
        severity=dg.AssetCheckSeverity.ERROR,
        blocking=False,
        partition=finding.day.isoformat(),
        description=_offenders_text(finding, "session"),
        metadata=_finding_metadata(finding, version, WrongSession),
        target_materialization_data=target,
    )


def _window_evaluation(
    config: SessionsConfig, day: date, missing: Sequence[date], target: CheckedMaterialization | None
) -> dg.AssetCheckEvaluation:
    text = _missing_text(missing)
    return dg.AssetCheckEvaluation(
        asset_key=asset_key(config, SESSIONIZED_EVENTS),
        check_name=WINDOW_IS_COMPLETE,
        passed=not missing,
        severity=dg.AssetCheckSeverity.WARN,
        blocking=False,
        partition=day.isoformat(),
        description=f"Never landed, or without rows since: {text}."
        if missing
        else "All batches of the window have landed.",
        metadata={_MISSING_BATCHES: text},
        target_materialization_data=target,
    )


def _offenders_text(finding: Finding | SessionsFinding, what: str) -> str:
    verb = "offends" if finding.offenders == 1 else "offend"
    return f"{finding.offenders:,} of {number_of(finding.checked, what)} {verb}."


def _missing_text(missing: Sequence[date]) -> str:
    return date_list(missing) or "none"


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


def _targets(
    context: dg.AssetCheckExecutionContext, key: dg.AssetKey, days: Sequence[date]
) -> Mapping[date, CheckedMaterialization | None]:
    """The newest materialization of each day. Without it Dagster takes a check to be outdated, and forgets its status.

    Args:
        context: The context of the check.
        key: The checked asset.
        days: The checked partitions.
    """
    return {day: _newest_materialization(context.instance, key, day) for day in days}


def _newest_materialization(instance: dg.DagsterInstance, key: dg.AssetKey, day: date) -> CheckedMaterialization | None:
    return newest_materialization(instance, dg.AssetRecordsFilter(key, asset_partitions=[day.isoformat()]))


def newest_materialization(
    instance: dg.DagsterInstance, of: dg.AssetKey | dg.AssetRecordsFilter
) -> CheckedMaterialization | None:
    """The newest materialization of an asset or of some partitions, as the evaluation of a check refers to it."""
    records = instance.fetch_materializations(of, limit=1).records
    if not records:
        return None
    return CheckedMaterialization(
        storage_id=records[0].storage_id, run_id=records[0].run_id, timestamp=records[0].timestamp
    )
