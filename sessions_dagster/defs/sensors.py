"""The sensor that requests a run when a batch folder is new or has changed.

What is in the folders is listed by `input.folders`, what has been done is known to `run_history`, and which days and
runs follow from both is decided in `run_planning`. Here the three meet.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from textwrap import shorten
from typing import Final

import dagster as dg
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    SENSOR_NAME_TAG,
)

from sessions_dagster.config import SessionsConfig
from sessions_dagster.defs.assets import MATERIALIZED, RAW_EVENTS, SESSIONS, asset_key
from sessions_dagster.defs.run_history import (
    days_of,
    days_of_backfills,
    failed_landings,
    is_under_way,
    landings,
    newest_run,
    open_runs,
)
from sessions_dagster.defs.run_planning import (
    MAX_OPEN_RUNS,
    GivenUp,
    Memory,
    RunPlan,
    Wanted,
    day_ranges,
    plan_runs,
    reasons_line,
)
from sessions_dagster.errors import StorageError
from sessions_dagster.input.folders import (
    BatchContent,
    BatchFolders,
    Completeness,
    InputRoot,
    NotReady,
    batch_contents,
    batch_folders,
    why_not_ready,
)

SENSOR_NAME: Final = "new_batches"
"""The name of the sensor, without the prefix of its product."""

BATCHES_TAG: Final = "sessions/batches"
"""The tag of a requested run that shows its batches in the list of runs."""

_ERROR_LENGTH: Final = 200

_FAILED: Final = "not asked for again until the folder changes, as the run failed or was cancelled"
_UNDER_WAY: Final = "in a run under way"
_IN_BACKFILL: Final = "in a backfill under way"
_LATER: Final = "to be asked for later"


@dataclass(frozen=True)
class Tick:
    """What a tick results in.

    Attributes:
        plans: The runs to request.
        cursor: What to remember.
        summary: What was left alone, and why.
    """

    plans: list[RunPlan]
    cursor: str
    summary: str


def build_sensor(config: SessionsConfig) -> dg.SensorDefinition:
    """The sensor `new_batches` of a product. It is off until somebody turns it on."""

    @dg.sensor(
        name=config.prefixed(SENSOR_NAME),
        asset_selection=[asset_key(config, name) for name in MATERIALIZED],
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.STOPPED,
        metadata={
            "input_root": dg.MetadataValue.path(config.input_root),
            "settle_seconds": config.settle_seconds,
            "require_success_marker": config.require_success_marker,
        },
    )
    def new_batches(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        """Lands and applies a batch when its folder `date=YYYY-MM-DD/` is new or has changed and is complete.

        Consecutive days go into one run. If it fails and names no batch, each of its days gets a run of its own. A
        content that failed in a run of its own is not requested again until the folder changes; to try it all the same,
        execute the run again or materialize the day by hand. Resetting the cursor repeats nothing that is done, but a
        content that a run failed on may be tried once more.
        """
        tick = evaluate(context.instance, context.cursor, config, datetime.now(UTC), context.log)
        if not tick.plans:
            return dg.SensorResult(skip_reason=tick.summary, cursor=tick.cursor)
        context.log.info(tick.summary)
        return dg.SensorResult(run_requests=[_request(plan) for plan in tick.plans], cursor=tick.cursor)

    return new_batches


def evaluate(
    instance: dg.DagsterInstance,
    cursor: str | None,
    config: SessionsConfig,
    now: datetime,
    log: logging.Logger,
) -> Tick:
    """Find out which batches are to be landed.

    Args:
        instance: Knows what has run.
        cursor: What the last tick left to remember.
        config: The product: where its batches arrive, and when a folder is complete.
        now: The time, with a time zone.
        log: Gets a warning if the cursor cannot be read.

    Returns:
        The runs to request, and what to remember and to show.

    Raises:
        OSError: If the input root exists but cannot be listed.
        StorageError: If the storage fails.
    """
    return _Evaluation(instance, config, now, _read_cursor(cursor, log)).tick()


@dataclass
class _Evaluation:
    """A tick while it is evaluated.

    Attributes:
        instance: Knows what has run.
        config: The product.
        now: The time, with a time zone.
        memory: What earlier ticks remembered. It is brought up to date.
        reasons: What is left alone so far: names of folders, days or ranges of days, by the reason.
    """

    instance: dg.DagsterInstance
    config: SessionsConfig
    now: datetime
    memory: Memory
    reasons: dict[str, list[str]] = field(
        # In the order in which they are shown.
        default_factory=lambda: {reason: [] for reason in (_FAILED, _LATER, _UNDER_WAY, _IN_BACKFILL, *NotReady)}
    )

    @property
    def raw_events(self) -> dg.AssetKey:
        """The key of the asset whose partitions are the batches."""
        return asset_key(self.config, RAW_EVENTS)

    @property
    def sensor_name(self) -> str:
        """The name of the sensor with the prefix of its product."""
        return self.config.prefixed(SENSOR_NAME)

    def tick(self) -> Tick:
        """Evaluate it."""
        root = InputRoot(self.config.input_root)
        runs = open_runs(self.instance, self.raw_events)
        under_way = {day for run in runs for day in days_of(run)} | self._settle_requested_runs()
        # Between its runs a backfill has landed days without their sessions, and is not done with them.
        in_backfills = days_of_backfills(self.instance, self.raw_events)
        self._leave_alone(_UNDER_WAY, day_ranges(under_way))
        self._leave_alone(_IN_BACKFILL, day_ranges(in_backfills))
        free_runs = MAX_OPEN_RUNS - sum(run.tags.get(SENSOR_NAME_TAG) == self.sensor_name for run in runs)
        if free_runs <= 0:
            return self._nothing(f"{MAX_OPEN_RUNS} runs are to finish first; {reasons_line(self.reasons)}")
        try:
            folders = batch_folders(root, self.config.start_date, self.now)
        except FileNotFoundError:
            return self._nothing(f"There is no input folder {root.root} yet.")
        for reason, names in folders.ignored.items():
            self._leave_alone(reason, names)

        self.memory.forget_all_but(folders.days)
        contents = batch_contents(root, self.memory.take_turns(folders.days.keys() - under_way - in_backfills))
        plans = plan_runs(self._wanted(self._ready(contents, folders)))
        looked = f"{len(contents)} of {len(folders.days)} batch folders in {root.root} looked into"
        return self._request(plans, free_runs, looked)

    def _request(self, plans: list[RunPlan], free_runs: int, looked: str) -> Tick:
        """Request as many of the runs as there may be, and leave the others for later."""
        requested, later = plans[:free_runs], plans[free_runs:]
        self._leave_alone(_LATER, day_ranges(day for plan in later for day in plan.days))
        for plan in requested:
            self.memory.ask(plan)
        self.memory.trim()
        days = day_ranges(day for plan in requested for day in plan.days)
        found = {"Asked for": [*days, looked]} if plans else {"Nothing new": [looked]}
        return Tick(requested, self.memory.to_cursor(), reasons_line(found | self.reasons))

    def _nothing(self, summary: str) -> Tick:
        return Tick([], self.memory.to_cursor(), summary)

    def _leave_alone(self, reason: str, names: Iterable[str]) -> None:
        self.reasons[reason] += names

    def _settle_requested_runs(self) -> set[date]:
        """Take note of the requested runs that have finished. Returns the days of those that have not."""
        under_way: set[date] = set()
        for run_key, days in list(self.memory.asked.items()):
            run = newest_run(self.instance, self.sensor_name, run_key)
            if run is not None and is_under_way(run):
                under_way |= days.keys()
                continue
            del self.memory.asked[run_key]
            if run is not None and run.is_failure_or_canceled:
                self._settle_failed_run(run, days)
        return under_way

    def _settle_failed_run(self, run: dg.DagsterRun, days: Mapping[date, str]) -> None:
        """Give up what a run failed on. Days that only shared the run with it are requested again."""
        if len(days) == 1 or run.status == dg.DagsterRunStatus.CANCELED:
            for day, fingerprint in days.items():
                self.memory.give_up(day, GivenUp(fingerprint, run.run_id))
            return
        failed = failed_landings(self.instance, self.raw_events, days)
        # Batches that could not land are given up when they are looked at. If there are none, nothing says which of the
        # days the run failed on.
        if not any(failed[day].fingerprint == days[day] for day in failed):
            self.memory.alone.update(days)

    def _ready(
        self, contents: Mapping[date, BatchContent | OSError | StorageError], folders: BatchFolders
    ) -> dict[date, str]:
        """The fingerprints of the complete folders that are not known to be done."""
        completeness = Completeness(timedelta(seconds=self.config.settle_seconds), self.config.require_success_marker)
        ready: dict[date, str] = {}
        for day, content in contents.items():
            if not isinstance(content, BatchContent):
                self._leave_alone(NotReady.UNLISTABLE, [f"{day} ({shorten(str(content), _ERROR_LENGTH)})"])
                self.memory.reopen(day)
            elif not self.memory.is_done(day, content.fingerprint):
                reason = why_not_ready(content, folders.days[day], completeness, self.now)
                if reason is None:
                    ready[day] = content.fingerprint
                else:
                    self._leave_alone(reason, [day.isoformat()])
                    self.memory.reopen(day)
        return ready

    def _wanted(self, ready: Mapping[date, str]) -> dict[date, Wanted]:
        """The contents to be landed: those that have not landed, and that no run has failed on."""
        landed = landings(self.instance, self.raw_events, asset_key(self.config, SESSIONS), ready)
        failed = failed_landings(self.instance, self.raw_events, ready)
        wanted: dict[date, Wanted] = {}
        for day, fingerprint in ready.items():
            if day in failed and failed[day].fingerprint == fingerprint:
                self.memory.give_up(day, GivenUp(fingerprint, failed[day].run_id))
            given_up = self.memory.given_up.get(day)
            landing = landed.get(day)
            if landing is not None and landing.fingerprint == fingerprint and landing.has_sessions:
                self.memory.finish(day, fingerprint)
            elif given_up is not None and given_up.fingerprint == fingerprint:
                self._leave_alone(_FAILED, [f"{day} (run {given_up.run_id[:8]})"])
            else:
                self.memory.reopen(day)
                wanted[day] = Wanted(
                    fingerprint,
                    after=landing.storage_id if landing else 0,
                    is_alone=self.memory.alone.get(day) == fingerprint,
                )
        return wanted


def _read_cursor(cursor: str | None, log: logging.Logger) -> Memory:
    try:
        return Memory.from_cursor(cursor)
    except ValueError as error:
        log.warning("Starting without a cursor, which lands nothing again: %s", error)
        return Memory()


def _request(plan: RunPlan) -> dg.RunRequest:
    (batches,) = day_ranges(plan.days)
    tags = {BATCHES_TAG: batches}
    if plan.first == plan.last:
        return dg.RunRequest(plan.run_key, partition_key=str(plan.first), tags=tags)
    days = {ASSET_PARTITION_RANGE_START_TAG: str(plan.first), ASSET_PARTITION_RANGE_END_TAG: str(plan.last)}
    return dg.RunRequest(plan.run_key, tags=tags | days)
