"""The sensor that asks for a run when a batch folder is new or has changed.

What is in the folders is listed by `lake.arrivals`, what has been done is known to `history`, and which days and runs
follow from both is ruled in `arrival_plan`. Here the three meet.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from textwrap import shorten
from typing import Final

import dagster as dg
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    SENSOR_NAME_TAG,
)

from sessions_dagster.lake.arrivals import (
    BatchContent,
    BatchFolders,
    Completeness,
    NotReady,
    batch_contents,
    batch_folders,
    why_not_ready,
)
from sessions_dagster.lake.places import InputRoot, StorageError
from sessions_dagster.orchestration.arrival_plan import (
    MAX_OPEN_RUNS,
    GivenUp,
    Memory,
    RunPlan,
    Wanted,
    plan_runs,
    tell,
    tell_days,
)
from sessions_dagster.orchestration.assets import raw_events, sessionized_events, sessions
from sessions_dagster.orchestration.history import (
    days_of,
    days_of_backfills,
    is_under_way,
    landings,
    newest_run,
    open_runs,
    refusals,
)
from sessions_dagster.orchestration.partitions import daily_partitions
from sessions_dagster.orchestration.resources import ArrivalsResource, LakeResource

SENSOR_NAME: Final = "new_batches"

BATCHES_TAG: Final = "sessions/batches"
"""The tag by which the list of runs says which batches a run that the sensor asked for is about."""

_ERROR_TOLD: Final = 200

_FAILED: Final = "not asked for again until the folder changes, as the run failed or was cancelled"
_UNDER_WAY: Final = "in a run under way"
_IN_BACKFILL: Final = "in a backfill under way"
_LATER: Final = "to be asked for later"

_Reasons = dict[str, list[str]]


@dataclass(frozen=True)
class Tick:
    """What a tick comes to.

    Attributes:
        plans: The runs to ask for.
        cursor: What to remember.
        told: What was left alone, and why.
    """

    plans: list[RunPlan]
    cursor: str
    told: str


@dg.sensor(
    name=SENSOR_NAME,
    asset_selection=dg.AssetSelection.assets(raw_events, sessionized_events, sessions),
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.STOPPED,
)
def new_batches(context: dg.SensorEvaluationContext, lake: LakeResource, arrivals: ArrivalsResource) -> dg.SensorResult:
    """Lands and applies a batch when its folder `date=YYYY-MM-DD/` is new or has changed, as soon as it is complete.

    Neighbouring days go into one run. If that fails and names no batch, each of the days goes into a run of its own. A
    content that a run failed on by itself is not tried again until the folder changes; to try it all the same, execute
    the run again or materialize the day by hand. Resetting the cursor repeats nothing that is done; a content that a
    run failed on may be tried once more.
    """
    tick = evaluate(context.instance, context.cursor, lake.input, arrivals.completeness, datetime.now(UTC), context.log)
    if not tick.plans:
        return dg.SensorResult(skip_reason=tick.told, cursor=tick.cursor)
    context.log.info(tick.told)
    return dg.SensorResult(run_requests=[_request(plan) for plan in tick.plans], cursor=tick.cursor)


def evaluate(
    instance: dg.DagsterInstance,
    cursor: str | None,
    root: InputRoot,
    completeness: Completeness,
    now: datetime,
    log: logging.Logger,
) -> Tick:
    """Find out which batches are to be landed.

    Args:
        instance: Knows what has run.
        cursor: What the last tick left to remember.
        root: Where the batches arrive.
        completeness: When a folder is complete.
        now: The time, with a time zone.
        log: Is told of a cursor that cannot be read.

    Raises:
        OSError: If the input root is there but cannot be listed.
        StorageError: If the storage fails.
    """
    memory = _remember(cursor, log)
    told: _Reasons = {reason: [] for reason in (_FAILED, _LATER, _UNDER_WAY, _IN_BACKFILL, *NotReady)}
    runs = open_runs(instance, raw_events.key)
    under_way = {day for run in runs for day in days_of(run)} | _settle_asked(instance, memory)
    told[_UNDER_WAY] = tell_days(under_way)
    # Between its runs a backfill has landed days without their sessions, and is not done with them.
    in_backfills = days_of_backfills(instance, raw_events.key)
    told[_IN_BACKFILL] = tell_days(in_backfills)
    free_runs = MAX_OPEN_RUNS - sum(run.tags.get(SENSOR_NAME_TAG) == SENSOR_NAME for run in runs)
    if free_runs <= 0:
        return Tick([], memory.to_cursor(), f"{MAX_OPEN_RUNS} runs are to finish first; {tell(told)}")
    try:
        folders = batch_folders(root, daily_partitions.start.date(), now)
    except FileNotFoundError:
        return Tick([], memory.to_cursor(), f"There is no input folder {root.root} yet.")
    for reason, names in folders.ignored.items():
        told[reason] += names

    memory.forget_all_but(folders.days)
    contents = batch_contents(root, memory.take_turns(folders.days.keys() - under_way - in_backfills))
    ready = _ready(contents, folders, memory, completeness, now, told)
    plans = plan_runs(_wanted(instance, ready, memory, told))
    told[_LATER] = tell_days(day for plan in plans[free_runs:] for day in plan.days)
    for plan in plans[:free_runs]:
        memory.ask(plan)
    memory.trim()
    asked = tell_days(day for plan in plans[:free_runs] for day in plan.days)
    looked = f"{len(contents)} of {len(folders.days)} batch folders in {root.root} looked into"
    found = {"Asked for": [*asked, looked]} if plans else {"Nothing new": [looked]}
    return Tick(plans[:free_runs], memory.to_cursor(), tell(found | told))


def _remember(cursor: str | None, log: logging.Logger) -> Memory:
    try:
        return Memory.from_cursor(cursor)
    except ValueError as error:
        log.warning("Starting without a cursor, which lands nothing again: %s", error)
        return Memory()


def _settle_asked(instance: dg.DagsterInstance, memory: Memory) -> set[date]:
    """Take note of the runs asked for that are finished. Returns the days of those that are not."""
    under_way: set[date] = set()
    for run_key, days in list(memory.asked.items()):
        run = newest_run(instance, run_key)
        if run is not None and is_under_way(run):
            under_way |= days.keys()
            continue
        del memory.asked[run_key]
        if run is not None and run.is_failure_or_canceled:
            _settle_failed(instance, memory, run, days)
    return under_way


def _settle_failed(instance: dg.DagsterInstance, memory: Memory, run: dg.DagsterRun, days: Mapping[date, str]) -> None:
    """Give up what a run failed on. What only shared a run with it is asked for again."""
    if len(days) == 1 or run.status == dg.DagsterRunStatus.CANCELED:
        for day, fingerprint in days.items():
            memory.give_up(day, GivenUp(fingerprint, run.run_id))
        return
    refused = refusals(instance, raw_events.key, days)
    # The refused ones are given up when they are looked at. Without any, nothing says which days are to blame.
    if not any(refused[day].fingerprint == days[day] for day in refused):
        memory.alone.update(days)


def _ready(
    contents: Mapping[date, BatchContent | OSError | StorageError],
    folders: BatchFolders,
    memory: Memory,
    completeness: Completeness,
    now: datetime,
    told: _Reasons,
) -> dict[date, str]:
    """The fingerprints of the complete folders that are not known to be done."""
    ready: dict[date, str] = {}
    for day, content in contents.items():
        if not isinstance(content, BatchContent):
            told[NotReady.UNLISTABLE].append(f"{day} ({shorten(str(content), _ERROR_TOLD)})")
            memory.reopen(day)
        elif not memory.is_done(day, content.fingerprint):
            reason = why_not_ready(content, folders.days[day], completeness, now)
            if reason is None:
                ready[day] = content.fingerprint
            else:
                told[reason].append(day.isoformat())
                memory.reopen(day)
    return ready


def _wanted(
    instance: dg.DagsterInstance, ready: Mapping[date, str], memory: Memory, told: _Reasons
) -> dict[date, Wanted]:
    """The contents to be landed: those that have not landed, and that no run has failed on."""
    landed = landings(instance, raw_events.key, sessions.key, ready)
    refused = refusals(instance, raw_events.key, ready)
    wanted: dict[date, Wanted] = {}
    for day, fingerprint in ready.items():
        if day in refused and refused[day].fingerprint == fingerprint:
            memory.give_up(day, GivenUp(fingerprint, refused[day].run_id))
        failed = memory.given_up.get(day)
        landing = landed.get(day)
        if landing is not None and landing.fingerprint == fingerprint and landing.has_sessions:
            memory.finish(day, fingerprint)
        elif failed is not None and failed.fingerprint == fingerprint:
            told[_FAILED].append(f"{day} (run {failed.run_id[:8]})")
        else:
            memory.reopen(day)
            wanted[day] = Wanted(
                fingerprint,
                after=landing.storage_id if landing else 0,
                is_alone=memory.alone.get(day) == fingerprint,
            )
    return wanted


def _request(plan: RunPlan) -> dg.RunRequest:
    (batches,) = tell_days(plan.days)
    told = {BATCHES_TAG: batches}
    if plan.first == plan.last:
        return dg.RunRequest(plan.run_key, partition_key=str(plan.first), tags=told)
    days = {ASSET_PARTITION_RANGE_START_TAG: str(plan.first), ASSET_PARTITION_RANGE_END_TAG: str(plan.last)}
    return dg.RunRequest(plan.run_key, tags=told | days)
