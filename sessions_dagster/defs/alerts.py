"""The sensor `alerts`: it tells somebody of runs that failed, of checks that failed, and of batches that are missing.

What is told, and only once: a run that failed for good; a day for which a check fails, until it has passed; and a day
whose batch is missing, until it has landed. `alerts` has the channels, and `failures` finds out what has failed.
"""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Final, Self

import dagster as dg
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionResolvedStatus as Status

from sessions_dagster.alerts.channels import Channel, built_in_channels
from sessions_dagster.alerts.message import Alert, first_sentence
from sessions_dagster.alerts.outbox import deliver
from sessions_dagster.config import SessionsConfig
from sessions_dagster.defs.assets import MATERIALIZED, RAW_EVENTS, asset_key
from sessions_dagster.defs.checks import WINDOW_IS_COMPLETE, event_check_specs, sessions_check_spec
from sessions_dagster.defs.failures import (
    FailedRun,
    assets_of,
    changed_at,
    days_by_status,
    failed_evaluations,
    failed_run,
    newly_failed_runs,
)
from sessions_dagster.defs.forget import FORGET_JOB
from sessions_dagster.defs.maintenance import JOBS
from sessions_dagster.defs.missing_batches import BATCHES_HAVE_LANDED, due_text, find_missing
from sessions_dagster.defs.partitions import daily_partitions
from sessions_dagster.defs.repair import JOBS as REPAIR_JOBS
from sessions_dagster.defs.resources import tables_without_run
from sessions_dagster.defs.run_history import days_of
from sessions_dagster.defs.slack import Slack
from sessions_dagster.model.counts import number_of
from sessions_dagster.model.dates import day_ranges, days_between, spans

SENSOR_NAME: Final = "alerts"
"""The name of the sensor, without the prefix of its product."""

_RUNS_REMEMBERED: Final = 200
_RANGES_TOLD: Final = 10


@dataclass
class Memory:
    """What the sensor knows from earlier ticks.

    Attributes:
        since: The newest change of a failed run that has been looked at (UTC).
        started: When the first tick was (UTC). What failed before it is not told of.
        runs: The ids of the newest failed runs that have been told of.
        days: By check, the days that have been told of and have not passed since.
        waiting: By channel, what could not be delivered yet.
    """

    since: datetime
    started: datetime
    runs: list[str] = field(default_factory=list)
    days: dict[str, set[date]] = field(default_factory=dict)
    waiting: dict[str, list[Alert]] = field(default_factory=dict)

    @classmethod
    def from_cursor(cls, cursor: str | None, now: datetime) -> Self:
        """Read the sensor's cursor. Without one, runs that failed before now are not told of.

        Raises:
            ValueError: If it is no cursor of this sensor.
        """
        if not cursor:
            return cls(since=now, started=now)
        try:
            stored = json.loads(cursor)
            return cls(
                since=_utc(stored["since"]),
                started=_utc(stored["started"]),
                runs=list(stored["runs"]),
                days={check: set(_days(ranges)) for check, ranges in stored["days"].items()},
                waiting={name: list(map(Alert.from_line, lines)) for name, lines in stored["waiting"].items()},
            )
        except (TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            raise ValueError(f"not a cursor of this sensor: {cursor[:100]}") from error

    def to_cursor(self) -> str:
        """The memory as JSON, with days as ranges."""
        stored: dict[str, Any] = {
            "since": self.since.isoformat(),
            "started": self.started.isoformat(),
            "runs": self.runs[-_RUNS_REMEMBERED:],
            "days": {
                check: [[str(first), str(last)] for first, last in spans(days)] for check, days in self.days.items()
            },
            "waiting": {name: [alert.to_line() for alert in alerts] for name, alerts in self.waiting.items()},
        }
        return json.dumps(stored, separators=(",", ":"))


def build_alerts_sensor(config: SessionsConfig) -> dg.SensorDefinition:
    """The sensor `alerts` of a product. It is off as long as there is no channel in the settings, and then on."""
    # Made here, so that a channel whose library is missing is an error of the start.
    channels = channels_of(config)
    names = ", ".join(channel.name for channel in channels)

    @dg.sensor(
        name=config.prefixed(SENSOR_NAME),
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING if channels else dg.DefaultSensorStatus.STOPPED,
        metadata={"channels": names or "none", "link": dg.MetadataValue.url(config.alerts.ui_url)},
    )
    def alerts(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        """Tells of failed runs, failed checks and missing batches, each once, through all channels of the settings.

        A run that is tried again is told of only if the last attempt fails as well. What a channel cannot deliver is
        tried again with the next tick.
        """
        if not channels:
            return dg.SensorResult(skip_reason="There is no channel in the settings, so nobody is told.")
        now = datetime.now(UTC)
        memory = _read_cursor(context.cursor, now, context.log)
        new = news(context.instance, config, memory, now)
        memory.waiting = deliver(memory.waiting, new, channels, context.log)
        told = f"{number_of(len(new), 'new alert')} for {names}" if new else "Nothing new to tell"
        again = ", ".join(f"{len(alerts)} by {name}" for name, alerts in memory.waiting.items())
        left = f"; to be tried again: {again}" if again else ""
        return dg.SensorResult(skip_reason=f"{told}{left}.", cursor=memory.to_cursor())

    return alerts


def channels_of(config: SessionsConfig) -> list[Channel]:
    """The channels that the settings ask for.

    Raises:
        SettingsError: If the library of one of them is not installed.
    """
    settings = config.alerts
    slack = (
        [Slack(settings.slack_channel, settings.slack_token)] if settings.slack_channel and settings.slack_token else []
    )
    return [*built_in_channels(settings), *slack]


def news(instance: dg.DagsterInstance, config: SessionsConfig, memory: Memory, now: datetime) -> list[Alert]:
    """What is to be told now. The memory is brought up to date, as if all of it were told.

    Args:
        instance: Knows what has run.
        config: The product.
        memory: What has been told before.
        now: The time, with a time zone.
    """
    return [
        *_of_runs(instance, config, memory),
        *_of_checks(instance, config, memory),
        *_of_missing_batches(instance, config, memory, now),
    ]


def _of_runs(instance: dg.DagsterInstance, config: SessionsConfig, memory: Memory) -> list[Alert]:
    jobs = {config.prefixed(name) for name in (*JOBS, *REPAIR_JOBS, FORGET_JOB)}
    found = []
    for record in newly_failed_runs(instance, memory.since):
        run = record.dagster_run
        memory.since = max(memory.since, changed_at(record))
        ended_before = record.end_time is not None and record.end_time < memory.started.timestamp()
        if run.run_id in memory.runs or ended_before:
            continue
        memory.runs.append(run.run_id)
        assets = assets_of(instance, run) & _assets(config)
        failed = failed_run(instance, run)
        # A blocking check has failed for days, and that is told of below.
        if (assets or run.job_name in jobs) and not failed.is_blocked:
            found.append(_run_alert(config, failed, assets))
    return found


def _run_alert(config: SessionsConfig, failed: FailedRun, assets: Iterable[dg.AssetKey]) -> Alert:
    run = failed.run
    of_step = [key for key in assets if key.to_python_identifier() == failed.step]
    return Alert(
        kind="failed_run",
        error=first_sentence(failed.error),
        partitions=tuple(day_ranges(days_of(run))),
        assets=tuple(sorted(key.to_user_string() for key in of_step or assets)),
        url=_run_url(config, run.run_id),
        job=run.job_name,
        run_id=run.run_id,
    )


def _of_checks(instance: dg.DagsterInstance, config: SessionsConfig, memory: Memory) -> list[Alert]:
    specs = [*event_check_specs(config), sessions_check_spec(config)]
    # A warning about a window: its cause, a missing batch, is told of by itself.
    keys = [spec.key for spec in specs if spec.name != WINDOW_IS_COMPLETE]
    found = []
    for key, days in days_by_status(instance, keys, daily_partitions(config)).items():
        new = _new_days(memory, key.name, days.get(Status.FAILED, set()), days.get(Status.SUCCEEDED, set()))
        by_run: dict[str, dict[date, str]] = {}
        for day, (run_id, evaluation) in failed_evaluations(instance, key, new).items():
            by_run.setdefault(run_id, {})[day] = evaluation.description or "The check failed."
        found += [_check_alert(instance, config, key, run_id, texts) for run_id, texts in by_run.items()]
    return found


def _check_alert(
    instance: dg.DagsterInstance, config: SessionsConfig, key: dg.AssetCheckKey, run_id: str, texts: Mapping[date, str]
) -> Alert:
    run = instance.get_run_by_id(run_id)
    return Alert(
        kind="failed_check",
        error=first_sentence(texts[max(texts)]),
        partitions=_ranges(texts),
        assets=(key.asset_key.to_user_string(),),
        url=_run_url(config, run_id) if run_id else _check_url(config, key),
        job=run.job_name if run else None,
        run_id=run_id or None,
        check=key.name,
    )


def _of_missing_batches(
    instance: dg.DagsterInstance, config: SessionsConfig, memory: Memory, now: datetime
) -> list[Alert]:
    missing = find_missing(instance, config, tables_without_run(config), now)
    new = _new_days(memory, BATCHES_HAVE_LANDED, set(missing.days), set(missing.due) - set(missing.days))
    if not new:
        return []
    key = dg.AssetCheckKey(asset_key(config, RAW_EVENTS), BATCHES_HAVE_LANDED)
    newest = max(new)
    has_not = f"The batch of {newest} has not landed, and was due on {due_text(config, newest)}."
    return [
        Alert(
            kind="missing_batches",
            error=str(missing) if missing.unknown is not None else has_not,
            partitions=_ranges(new),
            assets=(key.asset_key.to_user_string(),),
            url=_check_url(config, key),
            check=BATCHES_HAVE_LANDED,
        )
    ]


def _new_days(memory: Memory, check: str, failed: set[date], passed: set[date]) -> set[date]:
    """The days to tell of. Those that have passed are forgotten, so that they are told of if they fail once more."""
    told = memory.days.get(check, set()) - passed
    memory.days[check] = told | failed
    return failed - told


def _ranges(days: Iterable[date]) -> tuple[str, ...]:
    """The newest days, as Dagster writes them."""
    return tuple(day_ranges(days)[::-1][:_RANGES_TOLD])


def _assets(config: SessionsConfig) -> set[dg.AssetKey]:
    return {asset_key(config, name) for name in MATERIALIZED}


def _run_url(config: SessionsConfig, run_id: str) -> str:
    return f"{config.alerts.ui_url.rstrip('/')}/runs/{run_id}"


def _check_url(config: SessionsConfig, key: dg.AssetCheckKey) -> str:
    asset = "/".join(key.asset_key.path)
    return f"{config.alerts.ui_url.rstrip('/')}/assets/{asset}?view=checks&checkDetail={key.name}"


def _days(ranges: Sequence[Sequence[str]]) -> list[date]:
    return [day for first, last in ranges for day in days_between(date.fromisoformat(first), date.fromisoformat(last))]


def _utc(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"{text} has no time zone")
    return at


def _read_cursor(cursor: str | None, now: datetime, log: logging.Logger) -> Memory:
    try:
        return Memory.from_cursor(cursor, now)
    except ValueError as error:
        log.warning("Starting without a cursor, so what fails now may be told of once more: %s", error)
        return Memory.from_cursor(None, now)
