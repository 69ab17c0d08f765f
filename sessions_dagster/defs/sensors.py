"""The sensor that requests a run when a batch folder is new or has changed.

What is in the folders is listed by `input.folders`, what has landed is asked of the tables, what is running of
`run_history`, and which days and runs follow from that is decided in `run_planning`. Here they meet.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from textwrap import shorten
from typing import Final

import dagster as dg

from sessions_dagster.config import SessionsConfig
from sessions_dagster.defs.assets import RAW_EVENTS, asset_key
from sessions_dagster.defs.batch_job import build_batch_job, run_request
from sessions_dagster.defs.resources import tables_without_run
from sessions_dagster.defs.run_history import (
    days_of,
    days_of_backfills,
    ended_at,
    failed_landings,
    is_of_sensor,
    is_under_way,
    landed_contents,
    may_pass,
    newest_run,
    open_runs,
)
from sessions_dagster.defs.run_planning import (
    MAX_OPEN_RUNS,
    FailedContent,
    Memory,
    RunPlan,
    Wanted,
    Why,
    plan_runs,
    reasons_line,
)
from sessions_dagster.errors import StorageError
from sessions_dagster.input.folders import (
    SUCCESS_MARKER,
    BatchContent,
    BatchFolders,
    Completeness,
    InputRoot,
    NotReady,
    batch_contents,
    batch_folders,
    why_not_ready,
)
from sessions_dagster.model.counts import number_of
from sessions_dagster.model.dates import day_ranges
from sessions_dagster.pipeline.pending import days_in_sessions
from sessions_dagster.storage.landed_batches import LandedBatch, landed_batches

SENSOR_NAME: Final = "new_batches"
"""The name of the sensor, without the prefix of its product."""

_ERROR_LENGTH: Final = 200

_FAILED: Final = "not asked for again until the folder changes, as the run failed or was cancelled"
_POSTPONED: Final = "to be asked for again after a pause, as the run failed on what may pass"
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
    """The sensor `new_batches` of a product, with the job that it requests. It is off until somebody turns it on."""

    @dg.sensor(
        name=config.prefixed(SENSOR_NAME),
        description=_description(config),
        job=build_batch_job(config),
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.STOPPED,
        metadata={
            "input_root": dg.MetadataValue.path(config.input_root),
            "settle_seconds": config.settle_seconds,
            "require_success_marker": config.require_success_marker,
        },
    )
    def new_batches(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        tick = evaluate(context.instance, context.cursor, config, datetime.now(UTC), context.log)
        if not tick.plans:
            return dg.SensorResult(skip_reason=tick.summary, cursor=tick.cursor)
        context.log.info(tick.summary)
        return dg.SensorResult(run_requests=[run_request(config, plan) for plan in tick.plans], cursor=tick.cursor)

    return new_batches


def _description(config: SessionsConfig) -> str:
    name, complete = (
        config.prefixed(SENSOR_NAME),
        f"nothing has changed in it for {number_of(config.settle_seconds, 'second')}",
    )
    if config.require_success_marker:
        complete = f"it has a file `{SUCCESS_MARKER}`"
    return (
        f"Lands and applies a batch when its folder `date=YYYY-MM-DD/` in `{config.input_root}` is new or has changed. "
        f"A folder is complete when its day is over (UTC) and {complete}.\n\n"
        f"It is off at first. Turn it on with the switch on this page, or with `dagster sensor start {name}`.\n\n"
        "Consecutive days go into one run. What has landed is asked of the tables, so nothing lands twice if runs are "
        "deleted or the cursor is lost. If a run of many days fails and names no batch, each of its days gets a run of "
        "its own. A content that failed in a run of its own is not requested again until the folder changes; to try "
        "it all the same, execute the run again or materialize the day by hand. If the failure may pass, as one of the "
        "storage does, it is requested again, after pauses that grow to about an hour. Each tick says what it left "
        "alone, and why: as its skip reason, or in its log if it requests runs."
    )


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
        SettingsError: If the tables cannot be where the settings say.
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
        succeeded: The days of requested runs that have succeeded since the last tick.
        reasons: What is left alone so far: names of folders, days or ranges of days, by the reason.
    """

    instance: dg.DagsterInstance
    config: SessionsConfig
    now: datetime
    memory: Memory
    succeeded: set[date] = field(default_factory=set)
    reasons: dict[str, list[str]] = field(
        # In the order in which they are shown.
        default_factory=lambda: {
            reason: [] for reason in (_FAILED, _POSTPONED, _LATER, _UNDER_WAY, _IN_BACKFILL, *NotReady)
        }
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
        runs = open_runs(self.instance, self.raw_events, self.sensor_name)
        under_way = {day for run in runs for day in days_of(run)} | self._settle_requested_runs()
        # Between its runs a backfill has landed days without their sessions, and is not done with them.
        in_backfills = days_of_backfills(self.instance, self.raw_events)
        self._leave_alone(_UNDER_WAY, day_ranges(under_way))
        self._leave_alone(_IN_BACKFILL, day_ranges(in_backfills))
        free_runs = MAX_OPEN_RUNS - sum(is_of_sensor(run, self.sensor_name) for run in runs)
        if free_runs <= 0:
            return self._nothing(f"{MAX_OPEN_RUNS} runs are to finish first; {reasons_line(self.reasons)}")
        try:
            folders = batch_folders(root, self.config.start_date, self.now)
        except FileNotFoundError:
            return self._nothing(f"There is no input folder {root.root} yet.")
        for reason, names in folders.ignored.items():
            self._leave_alone(reason, names)

        self.memory.forget_all_but(folders.days)
        free = folders.days.keys() - under_way - in_backfills
        contents = batch_contents(root, self.memory.take_turns(free))
        plans = plan_runs(self._wanted(self._listed(contents), folders))
        return self._request(plans, free_runs, _looked_into(len(contents), len(free), len(folders.days), root))

    def _request(self, plans: list[RunPlan], free_runs: int, looked: str) -> Tick:
        """Request as many of the runs as there may be, and leave the others for later."""
        requested, later = plans[:free_runs], plans[free_runs:]
        self._leave_alone(_LATER, day_ranges(day for plan in later for day in plan.days))
        for plan in requested:
            self.memory.ask(plan)
        asked_for = {"Asked for": day_ranges(day for plan in requested for day in plan.days)}
        found = f"{reasons_line(asked_for)}; {looked}" if plans else f"Nothing new: {looked}"
        left_alone = reasons_line(self.reasons)
        return Tick(requested, self.memory.to_cursor(), f"{found}; {left_alone}" if left_alone else found)

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
            if run is not None and run.is_success:
                self.succeeded |= days.keys()
            if run is not None and run.is_failure_or_canceled:
                self._settle_failed_run(run, days)
        return under_way

    def _settle_failed_run(self, run: dg.DagsterRun, days: Mapping[date, str]) -> None:
        """Give up what a run failed on, unless that may pass. Days that only shared the run are requested again."""
        if run.status != dg.DagsterRunStatus.CANCELED and may_pass(self.instance, run):
            failed_at = ended_at(self.instance, run) or self.now
            for day, fingerprint in days.items():
                self.memory.try_again(day, FailedContent(fingerprint, run.run_id), failed_at)
            return
        if len(days) == 1 or run.status == dg.DagsterRunStatus.CANCELED:
            for day, fingerprint in days.items():
                self.memory.give_up(day, FailedContent(fingerprint, run.run_id))
            return
        failed = failed_landings(self.instance, self.raw_events, days)
        # Batches that could not land are given up when they are looked at. If there are none, nothing says which of the
        # days the run failed on.
        if not any(failed[day].fingerprint == days[day] for day in failed):
            self.memory.alone.update(days)

    def _listed(self, contents: Mapping[date, BatchContent | OSError | StorageError]) -> dict[date, BatchContent]:
        """The contents of the folders that can be listed."""
        listed: dict[date, BatchContent] = {}
        for day, content in contents.items():
            if isinstance(content, BatchContent):
                listed[day] = content
            else:
                self._leave_alone(NotReady.UNLISTABLE, [f"{day} ({shorten(str(content), _ERROR_LENGTH)})"])
                self.memory.reopen(day)
        return listed

    def _wanted(self, contents: Mapping[date, BatchContent], folders: BatchFolders) -> dict[date, Wanted]:
        """The contents to be landed or applied: complete, not done, and none that a run has failed on."""
        landed, done = self._landed_and_done(contents)
        open_days = [day for day in contents if day not in done]
        failed = failed_landings(self.instance, self.raw_events, open_days)
        completeness = Completeness(timedelta(seconds=self.config.settle_seconds), self.config.require_success_marker)
        wanted: dict[date, Wanted] = {}
        for day in done:
            self.memory.finish(day)
        for day in open_days:
            content = contents[day]
            is_landed = day in landed and landed[day].fingerprint == content.fingerprint
            not_ready = None if is_landed else why_not_ready(content, folders.days[day], completeness, self.now)
            if not_ready is not None:
                self._leave_alone(not_ready, [day.isoformat()])
                self.memory.reopen(day)
                continue
            if day in failed and failed[day].fingerprint == content.fingerprint and not is_landed:
                self.memory.give_up(day, FailedContent(content.fingerprint, failed[day].run_id))
            given_up = self.memory.given_up.get(day)
            if given_up is not None and given_up.fingerprint == content.fingerprint:
                self._leave_alone(_FAILED, [f"{day} (run {given_up.run_id[:8]})"])
                continue
            self.memory.reopen(day)
            postponed = self.memory.postponed(day, content.fingerprint)
            if postponed is not None and self.now < postponed.not_before:
                self._leave_alone(_POSTPONED, [f"{day} (run {postponed.run_id[:8]})"])
                continue
            wanted[day] = Wanted(
                content.fingerprint,
                landing=_landing(landed.get(day)),
                why=Why.NOT_APPLIED if is_landed else Why.CHANGED if day in landed else Why.NEW,
                is_alone=self.memory.alone.get(day) == content.fingerprint,
                after="" if postponed is None else postponed.run_id,
            )
        return wanted

    def _landed_and_done(self, contents: Mapping[date, BatchContent]) -> tuple[dict[date, LandedBatch], set[date]]:
        """What the tables have of the days, and the days whose content they have, down to its sessions."""
        with tables_without_run(self.config) as warehouse:
            landed = landed_batches(warehouse, contents)
            unknown = [day for day, batch in landed.items() if batch.fingerprint is None]
            for day, fingerprint in landed_contents(self.instance, self.raw_events, unknown).items():
                landed[day] = replace(landed[day], fingerprint=fingerprint)
            current = {day for day, batch in landed.items() if batch.fingerprint == contents[day].fingerprint}
            done = days_in_sessions(warehouse, current)
        for day in (current - done) & self.succeeded:
            self.memory.applied[day] = _landing(landed[day])
        return landed, done | {day for day in current if self.memory.applied.get(day) == _landing(landed[day])}


def _read_cursor(cursor: str | None, log: logging.Logger) -> Memory:
    try:
        return Memory.from_cursor(cursor)
    except ValueError as error:
        log.warning("Starting without a cursor, which lands nothing again: %s", error)
        return Memory()


def _landing(batch: LandedBatch | None) -> int:
    """The landing of a batch as a number; 0 if there is none, or none with a row."""
    return 0 if batch is None or batch.landed_at is None else int(batch.landed_at.timestamp() * 1000)


def _looked_into(count: int, free: int, of: int, root: InputRoot) -> str:
    """How many folders were looked into, of those that are in no run under way, and of all."""
    if count < free:
        some = "those to be done, the newest ones, and a few of the others in turn"
        return f"{count} of {of} batch folders in {root.root} looked into ({some})"
    if not count:
        return f"no{' other' if of else ''} batch folder in {root.root}"
    which = "all" if free == of else "the other"
    name = "batch folder" if count == 1 else f"{count} batch folders"
    return f"{'the only' if count == of == 1 else which} {name} in {root.root} looked into"
