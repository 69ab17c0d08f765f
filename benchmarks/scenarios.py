"""What is measured: one function for each group of rows of the target table.

A scenario prepares its data, says what it is doing while one waits, and gives its findings. It removes the tables that
an earlier run of it made; the generated input stays for the next time.
"""

import os
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Final, Self

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from rich.console import Console

from benchmarks.comparison import assert_same_sessions, decided_since
from benchmarks.contenders import DuckRecompute, Ours, Recompute, window_of
from benchmarks.footprint import PeakMemory, Reads, Writes, reads_of, writes_of
from benchmarks.measures import Findings, Measure, Target, at_least, at_most, equal_within, in_turn, ratios, timed
from benchmarks.processes import (
    DagsterHome,
    SparkFailedError,
    days_with_default_memory,
    in_own_process,
    peak_of_correction,
    run_demo,
)
from benchmarks.race import Race, timed_alone
from benchmarks.workload import ONE_HOUR, WHOLE_DAY, Workload, with_hot_user, with_others, write_batch, write_batches
from sessions_dagster.core.contract import (
    EVENT,
    EVENT_DATE,
    PRODUCT,
    SESSION_END,
    SESSION_KEY,
    SESSION_START,
    TIMESTAMP,
    USER,
    SessionRules,
)
from sessions_dagster.core.maintenance import compact
from sessions_dagster.demo import story
from sessions_dagster.lake.places import InputRoot, Warehouse
from sessions_dagster.orchestration.partitions import START_DATE_VARIABLE
from sessions_dagster.orchestration.resources import LakeResource
from sessions_dagster.runtime.spark import SparkSettings, spark_session

CORRECTIONS: Final[Mapping[str, Mapping[str, Target]]] = {
    "corrections-1m": {
        "ours / floor": at_most(3.5),
        "recompute / ours": at_least(1.8),
        "landing / landing floor": at_most(1.5),
    },
    "corrections-5m": {
        "ours / floor": at_most(3),
        "recompute / ours": at_least(2.2),
        "ours / DuckDB": at_most(2),
        "landing / landing floor": at_most(1.5),
    },
}
"""The targets of the scenarios that let all contenders run, by the two contenders compared."""


@dataclass(frozen=True)
class Contest:
    """All contenders on the same batches.

    Attributes:
        events_per_day: Events a day.
        measured_days: Repetitions.
        heap: What Spark has for all of them.
    """

    events_per_day: int
    measured_days: int
    heap: str = SparkSettings.driver_memory


@dataclass(frozen=True)
class Scale:
    """How large the scenarios are, in days and in events a day.

    Attributes:
        history_days: Days that are there before anything is measured.
        measured_days: Repetitions of all other scenarios that do not say it of themselves.
        warm_up_days: So many days of the history all contenders of a contest take.
        warm_up_rounds: Repetitions before that, where the same day is measured again and again.
        corrections: The contests, by scenario.
        history: Events a day of the two histories.
        short_history: Days of the short one.
        long_history: Days of the long one.
        history_measured_days: Repetitions on the two histories, whose days are so short that one says little.
        compaction_days: Days, of as many events, that are applied one by one before a compaction.
        range: Events a day of the range.
        range_days: Its days.
        skew: Events of the batches with a hot user.
        landed_again: Events a day where a batch lands again.
        heap: Events of the batches that have to do with the default heap.
        heap_days: So many of them. The last one counts: it should find all dates that it can touch.
        late_event: Events a day of the table that one late event is for.
    """

    history_days: int
    measured_days: int
    warm_up_days: int
    warm_up_rounds: int
    corrections: Mapping[str, Contest]
    history: int
    short_history: int
    long_history: int
    history_measured_days: int
    compaction_days: int
    range: int
    range_days: int
    skew: int
    landed_again: int
    heap: int
    heap_days: int
    late_event: int


FULL: Final = Scale(
    history_days=6,
    measured_days=3,
    # The second run in a process is still slower than the third.
    warm_up_days=2,
    warm_up_rounds=2,
    # Of 30 million events the recompute does not get through with the heap that is the product's default.
    corrections={"corrections-1m": Contest(1_000_000, 5), "corrections-5m": Contest(5_000_000, 3, heap="8g")},
    history=20_000,
    short_history=30,
    long_history=300,
    history_measured_days=7,
    compaction_days=60,
    range=50_000,
    range_days=30,
    skew=1_000_000,
    landed_again=1_000_000,
    heap=10_000_000,
    heap_days=7,
    late_event=1_000_000,
)

SMALL: Final = Scale(
    history_days=1,
    measured_days=1,
    warm_up_days=0,
    warm_up_rounds=0,
    corrections={"corrections-1m": Contest(2_000, 1), "corrections-5m": Contest(4_000, 1)},
    history=1_000,
    short_history=1,
    long_history=2,
    history_measured_days=1,
    compaction_days=2,
    range=1_000,
    range_days=2,
    skew=2_000,
    landed_again=2_000,
    heap=2_000,
    heap_days=1,
    late_event=2_000,
)
"""To see that everything works; its numbers mean nothing."""


@dataclass(frozen=True)
class Bench:
    """What every scenario is given.

    Attributes:
        folder: For input and tables.
        scale: How large.
        say: Tells those who wait.
    """

    folder: Path
    scale: Scale
    say: Callable[[str], None]

    def input(self, workload: Workload, days: Sequence[date]) -> InputRoot:
        """Batches of a workload, generated where they are not there yet."""
        self.say(f"generating {len(days)} batches of {workload.events_per_day:,} events, as far as they are not there")
        return InputRoot(str(write_batches(workload, days, self.folder / "input")))

    def tables(self, scenario: str) -> Path:
        """An empty folder for the tables of a scenario."""
        folder = self.folder / "tables" / scenario
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder


def corrections(bench: Bench, scenario: str) -> Findings:
    """A day of ours, of the floor, of the recompute by Spark and by DuckDB, and of landing and its floor.

    Ours takes every day from the first one on, the others some of the last ones before it counts, so that all are
    warm then. From one day to the next they change their order. On the measured days all rows of all contenders are
    compared, and at the end all of ours with one pass over everything that landed.
    """
    contest = bench.scale.corrections[scenario]
    workload = Workload(contest.events_per_day)
    days = workload.days(bench.scale.history_days + contest.measured_days)
    input_root, folder = bench.input(workload, days), bench.tables(scenario)
    seconds: dict[str, list[float]] = defaultdict(list)
    with spark_session(SparkSettings(driver_memory=contest.heap)) as spark:
        race = Race(spark, input_root, folder)
        for number, day in enumerate(days):
            is_history = number < bench.scale.history_days
            took = (
                race.build(day)
                if number < bench.scale.history_days - bench.scale.warm_up_days
                else race.run(day, number)
            )
            told = ", ".join(f"{name} {taken:.1f} s" for name, taken in took.items())
            bench.say(f"day {number + 1} ({'history' if is_history else 'measured'}): {told}")
            if is_history:
                continue
            bench.say(f"all contenders agree: {race.compare(day)}")
            for name, taken in took.items():
                seconds[name].append(taken)
        bench.say(f"ours is one pass over all batches: {race.compare_all(days):,} rows")
    size = in_words(workload.events_per_day)
    measures = []
    for name, target in CORRECTIONS[scenario].items():
        above, below = name.split(" / ")
        measures.append(Measure(f"{name}, {size} events a day", ratios(seconds[above], seconds[below]), target))
    return Findings(measures, {**asdict(contest), "seconds": dict(seconds)})


def history(bench: Bench) -> Findings:
    """The same batches on a long history and on a short one, which is the end of the long one.

    From one day to the next the two histories change their order.
    """
    scale = bench.scale
    workload = Workload(scale.history)
    before, measured = workload.days(scale.long_history), workload.days(scale.history_measured_days, scale.long_history)
    input_root, folder = bench.input(workload, [*before, *measured]), bench.tables("history")
    found: dict[int, list[_HistoryDay]] = {scale.short_history: [], scale.long_history: []}
    with spark_session(SparkSettings()) as spark:
        worlds = {length: Ours(spark, input_root, Warehouse(str(folder / str(length)))) for length in found}
        for length, ours in worlds.items():
            _build_history(bench, ours, before[-length:], scale.short_history)
        for number, day in enumerate(measured):
            for length, ours in in_turn(worlds, number):
                found[length].append(_day_on_history(spark, ours, day))
                bench.say(f"batch {day.isoformat()} on {length} days: {found[length][-1]}")
        # What is dated before these days the short history does not know all of.
        short, long = (
            decided_since(measured[0], worlds[length].rows(), worlds[scale.long_history].rows()) for length in found
        )
        bench.say(f"both have the same {assert_same_sessions({'the short history': short}, long):,} rows since then")
    return Findings(
        [
            Measure(f"{name}, {scale.long_history} / {scale.short_history} days of history", values, target)
            for name, (values, target) in _history_ratios(found[scale.long_history], found[scale.short_history]).items()
        ],
        {
            "events_per_day": workload.events_per_day,
            **{f"{length} days": [asdict(day) for day in days] for length, days in found.items()},
        },
    )


@dataclass(frozen=True)
class _HistoryDay:
    """What a day took; `seconds` is that of `sessionized_events`, and so are the files."""

    landing_seconds: float
    seconds: float
    reads: Reads
    writes: Writes


def _build_history(bench: Bench, ours: Ours, days: Sequence[date], range_days: int) -> None:
    """Land and apply days: in ranges, because that is quick, and the last ones as daily life does it."""
    bench.say(f"building a history of {len(days)} days: landing them")
    for day in days:
        ours.land(day)
    daily = days[-bench.scale.history_days :]
    ranged = days[: -bench.scale.history_days]
    for begin in range(0, len(ranged), range_days):
        bench.say(f"building a history of {len(days)} days: applying {range_days} days from day {begin + 1} on")
        ours.sessionize_range(ranged[begin : begin + range_days])
    for day in daily:
        ours.sessionize(day)


def _day_on_history(spark: SparkSession, ours: Ours, day: date) -> _HistoryDay:
    landing_seconds, _ = timed_alone(spark, lambda: ours.land(day))
    reads, (seconds, report) = reads_of(spark, lambda: timed_alone(spark, lambda: ours.sessionize(day)))
    return _HistoryDay(landing_seconds, seconds, reads, writes_of(ours.warehouse.sessionized_events, report.version))


def _history_ratios(
    long: Sequence[_HistoryDay], short: Sequence[_HistoryDay]
) -> Mapping[str, tuple[Sequence[float], Target]]:
    def compared(value: Callable[[_HistoryDay], float]) -> list[float]:
        return ratios(list(map(value, long)), list(map(value, short)))

    return {
        "seconds": (compared(lambda day: day.seconds), at_most(1.15)),
        "seconds of landing": (compared(lambda day: day.landing_seconds), at_most(1.15)),
        "bytes read": (compared(lambda day: day.reads.bytes), equal_within(0.1)),
        "files touched": (compared(lambda day: day.reads.files + day.writes.files), equal_within(0.1)),
    }


def compaction(bench: Bench) -> Findings:
    """A scan of a table that many daily runs have written, before and after a compaction."""
    workload = Workload(bench.scale.history)
    days = workload.days(bench.scale.compaction_days)
    input_root, folder = bench.input(workload, days), bench.tables("compaction")
    with spark_session(SparkSettings()) as spark:
        ours = Ours(spark, input_root, Warehouse(str(folder)))
        bench.say(f"{len(days)} daily runs")
        for day in days:
            ours.land(day)
            ours.sessionize(day)
        uri = ours.warehouse.sessionized_events
        before = ours.rows().count()
        without = [timed(lambda: _scan(ours.rows()))[0] for _ in range(bench.scale.measured_days + 1)][1:]
        seconds, report = timed(lambda: compact(spark, ours.warehouse, uri))
        with_it = [timed(lambda: _scan(ours.rows()))[0] for _ in range(bench.scale.measured_days + 1)][1:]
        assert ours.rows().count() == before, "a compaction changes no row"
    bench.say(f"{report.before.files} files became {report.after.files} in {seconds:.1f} s")
    after_days = f"after {len(days)} daily runs, with / without compaction"
    return Findings(
        [
            Measure(f"seconds of a scan {after_days}", ratios(with_it, without), at_most(1)),
            Measure(f"files {after_days}", [report.after.files / report.before.files], at_most(1)),
        ],
        {
            "events_per_day": workload.events_per_day,
            "seconds": {"without": without, "with": with_it, "compaction": seconds},
            "files": {"without": report.before.files, "with": report.after.files},
            "bytes": {"without": report.before.bytes, "with": report.after.bytes},
        },
    )


def _scan(rows: DataFrame) -> None:
    """What an analyst asks of all dates: the sessions of each user."""
    of_users = rows.groupBy(USER).agg(F.count_distinct(PRODUCT, SESSION_START).alias("sessions"))
    # One number of it: Delta does not let a table with deletion vectors be read for Spark's `noop` sink.
    of_users.agg(F.max("sessions")).collect()


def one_range(bench: Bench) -> Findings:
    """Days as one range run, and as a run each, all in this process: both assets with their checks, by Dagster.

    The range runs once before the single runs and once after them, so that neither has the warmer process.
    """
    workload = Workload(bench.scale.range)
    # One day more: the run of the first one warms the process up.
    warm_up, *days = workload.days(bench.scale.range_days + 1)
    input_root, folder = bench.input(workload, [warm_up, *days]), bench.tables("range")
    with spark_session(SparkSettings()) as spark:
        worlds = {name: Ours(spark, input_root, Warehouse(str(folder / name))) for name in ("range", "runs", "again")}
        runs = {name: _Runs(ours, workload.first_day) for name, ours in worlds.items()}
        for run in runs.values():
            run.of_range(warm_up, warm_up)
        seconds = {}
        for name, run in runs.items():
            bench.say(f"{len(days)} days as {'a run each' if name == 'runs' else 'one range run'}")
            stretches = [(day, day) for day in days] if name == "runs" else [(days[0], days[-1])]
            seconds[name] = sum(timed_alone(spark, partial(run.of_range, *stretch))[0] for stretch in stretches)
            bench.say(f"that took {seconds[name]:.1f} s")
        rows = assert_same_sessions({"the range run": worlds["range"].rows()}, worlds["runs"].rows())
        bench.say(f"both have the same {rows:,} rows")
    values = [seconds[name] / seconds["runs"] for name in ("range", "again")]
    name = f"{len(days)} days as one range run / as {len(days)} runs, {in_words(workload.events_per_day)} events a day"
    return Findings(
        [Measure(name, values, at_most(0.4))], {"events_per_day": workload.events_per_day, "seconds": seconds}
    )


class _Runs:
    """Dagster runs of the whole graph on a warehouse."""

    def __init__(self, ours: Ours, first_day: date) -> None:
        os.environ[START_DATE_VARIABLE] = first_day.isoformat()
        # Only now: the partitions take their first day from the environment when they are imported.
        from sessions_dagster.definitions import build_defs  # noqa: PLC0415

        lake = LakeResource(input_root=ours.input.root, warehouse_root=ours.warehouse.root)
        self._job = build_defs(lake=lake).resolve_implicit_global_asset_job_def()
        self._instance = dg.DagsterInstance.ephemeral()

    def of_range(self, first: date, last: date) -> None:
        """One run of some days."""
        self._job.execute_in_process(
            instance=self._instance,
            tags={
                "dagster/asset_partition_range_start": first.isoformat(),
                "dagster/asset_partition_range_end": last.isoformat(),
            },
            run_config={"loggers": {"console": {"config": {"log_level": "WARNING"}}}},
        )


_UNIFORM: Final = "uniform"


@dataclass(frozen=True)
class _HotBatch:
    """A batch of which one user has half: who that is, in the words of a measure, and when at work."""

    whose: str
    hours: range


_HOT_BATCHES: Final[Mapping[str, _HotBatch]] = {
    "skewed": _HotBatch("one user", WHOLE_DAY),
    "burst": _HotBatch("one user, in one hour", ONE_HOUR),
}


def skew(bench: Bench) -> Findings:
    """Batches of which one user has half, all day long or within an hour, and the standard batch of the same size.

    Each comes after the same history. From one round to the next they change their order.
    """
    workload = Workload(bench.scale.skew)
    days = workload.days(bench.scale.history_days + 1)
    standard, folder = bench.input(workload, days), bench.tables("skew")
    inputs = {_UNIFORM: standard}
    for name, hot in _HOT_BATCHES.items():
        with_hot = partial(with_hot_user, day=days[-1], hours=hot.hours)
        inputs[name] = _input_with_last(standard, days, with_hot, folder / "input" / name)

    def works_of(_: int) -> dict[str, Callable[[], object]]:
        copies = {name: Warehouse(str(_copied(landed[name], folder / name))) for name in inputs}
        return {name: partial(Ours(spark, inputs[name], copies[name]).sessionize, days[-1]) for name in inputs}

    with spark_session(SparkSettings()) as spark:
        landed = _landed_on_one_history(bench, spark, inputs, days, folder)
        seconds = _seconds_of_rounds(bench, spark, works_of)
        for name, root in inputs.items():
            found = {f"ours with the {name} batch": Ours(spark, root, Warehouse(str(folder / name))).rows()}
            rows = _compare_with_one_pass(spark, root, days, found, folder)
            bench.say(f"{name} batch: ours is one pass over all batches, {rows:,} rows")
    peaks = defaultdict[str, list[PeakMemory]](list)
    for number in range(bench.scale.measured_days):
        for name, warehouse in in_turn(landed, number):
            bench.say(f"{name} batch in a process of its own, for its peak of memory")
            peaks[name].append(in_own_process(peak_of_correction, str(_copied(warehouse, folder / name)), days[-1]))
            bench.say(f"{name} batch: {peaks[name][-1]}")
    return Findings(
        [measure for name in _HOT_BATCHES for measure in _skew_measures(name, workload.events_per_day, seconds, peaks)],
        {
            "events_per_day": workload.events_per_day,
            "seconds": seconds,
            "peak_memory_bytes": {name: [asdict(peak) for peak in of_name] for name, of_name in peaks.items()},
        },
    )


def _landed_on_one_history(
    bench: Bench, spark: SparkSession, inputs: Mapping[str, InputRoot], days: Sequence[date], folder: Path
) -> dict[str, Path]:
    """Warehouses, by the name of their input, in which all days are applied but the last one, which has landed."""
    *before, day = days
    bench.say("building the history")
    base = Ours(spark, inputs[_UNIFORM], Warehouse(str(folder / "history")))
    for each in before:
        base.land(each)
    base.sessionize_range(before)
    landed = {}
    for name, root in inputs.items():
        landed[name] = _copied(folder / "history", folder / f"{name}-landed")
        # The hot user would be taken for a bot.
        Ours(spark, root, Warehouse(str(landed[name])), bot_limit=None).land(day)
    return landed


def _seconds_of_rounds(
    bench: Bench, spark: SparkSession, works_of: Callable[[int], Mapping[str, Callable[[], object]]]
) -> dict[str, list[float]]:
    """The seconds of each measured round by name; the rounds before these warm the process up.

    Args:
        bench: Says how many rounds.
        spark: What the works run on.
        works_of: Prepares a round, and gives what is timed, by name. From one round to the next the order changes.
    """
    seconds: dict[str, list[float]] = defaultdict(list)
    for number in range(bench.scale.warm_up_rounds + bench.scale.measured_days):
        is_measured = number >= bench.scale.warm_up_rounds
        for name, work in in_turn(works_of(number), number):
            taken, _ = timed_alone(spark, work)
            bench.say(f"{'measured' if is_measured else 'warming up'}, {name}: {taken:.1f} s")
            seconds[name] += [taken] if is_measured else []
    return dict(seconds)


def _skew_measures(
    name: str, events: int, seconds: Mapping[str, Sequence[float]], peaks: Mapping[str, Sequence[PeakMemory]]
) -> list[Measure]:
    compared = f"half of {in_words(events)} events from {_HOT_BATCHES[name].whose} / {_UNIFORM}"
    memory = ratios([peak.unified for peak in peaks[name]], [peak.unified for peak in peaks[_UNIFORM]])
    return [
        Measure(f"seconds, {compared}", ratios(seconds[name], seconds[_UNIFORM]), at_most(1.3)),
        Measure(f"peak memory, {compared}", memory, at_most(1.3)),
    ]


def landed_again(bench: Bench) -> Findings:
    """The newest batch lands once more after its sender corrected it: what that takes ours, and what the recompute.

    Some of its rows are gone, and as many others have come. Each round has a fresh copy of both tables. At the end all
    rows of ours are compared with one pass over everything that is landed then, and those of the recompute with ours.
    """
    workload = Workload(bench.scale.landed_again)
    days = workload.days(bench.scale.history_days + 1)
    day, input_root, folder = days[-1], bench.input(workload, days), bench.tables("landed-again")
    correct = partial(with_others, workload=workload, day=day)
    corrected = _input_with_last(input_root, days, correct, folder / "input")

    def of_round(number: int) -> _OursAndRecompute:
        return _OursAndRecompute.at(spark, corrected, folder / f"round-{number}")

    def works_of(number: int) -> dict[str, Callable[[], object]]:
        # Each round in a place of its own: Spark remembers what the tables of the last one became.
        shutil.copytree(folder / "landed", folder / f"round-{number}")
        both = of_round(number)
        return {
            "ours": lambda: both.ours.sessionize(day),
            "recompute": lambda: both.recompute.sessionize(day),
        }

    with spark_session(SparkSettings()) as spark:
        bench.say("building the history, and landing its last batch again")
        both = _OursAndRecompute.at(spark, input_root, folder / "landed")
        both.build(days)
        replace(both.ours, input=corrected).land(day)
        seconds = _seconds_of_rounds(bench, spark, works_of)
        last = of_round(bench.scale.warm_up_rounds + bench.scale.measured_days - 1)
        rows = _compare_with_one_pass(spark, corrected, days, {"ours": last.ours.rows()}, folder)
        bench.say(
            f"ours is one pass over all batches, {rows:,} rows, and the recompute has {last.compare(day):,} of them"
        )
    name = f"a batch landed again / recompute, {in_words(workload.events_per_day)} events a day"
    return Findings(
        [Measure(name, ratios(seconds["ours"], seconds["recompute"]), at_most(1))],
        {"events_per_day": workload.events_per_day, "seconds": seconds},
    )


@dataclass(frozen=True)
class _OursAndRecompute:
    """Ours, and a recompute of what it landed."""

    ours: Ours
    recompute: Recompute

    @classmethod
    def at(cls, spark: SparkSession, input_root: InputRoot, folder: Path) -> Self:
        """Those with their tables in a folder."""
        ours = Ours(spark, input_root, Warehouse(str(folder / "ours")))
        return cls(ours, Recompute(ours, str(folder / "recompute")))

    def build(self, days: Sequence[date]) -> None:
        """Land days; both then have the dates of the window of the last one."""
        for day in days:
            self.ours.land(day)
        self.ours.sessionize_range(days[:-1])
        self.ours.sessionize(days[-1])
        self.recompute.sessionize(days[-1])

    def compare(self, day: date) -> int:
        """Compare the recompute with ours, row for row, after a day of both; says how many rows that were."""
        since, ours = window_of(day)[0], self.ours.rows()
        recomputed = {"the recompute": decided_since(since, self.recompute.rows(), ours)}
        return assert_same_sessions(recomputed, decided_since(since, ours, ours))


def _compare_with_one_pass(
    spark: SparkSession, input_root: InputRoot, days: Sequence[date], found: Mapping[str, DataFrame], folder: Path
) -> int:
    """Compare whole tables with one pass over all batches; says how many rows each has."""
    judge = DuckRecompute(spark, input_root, folder / "judge")
    judge.prepare()
    judge.sessionize_batches(days, since=window_of(days[0])[0])
    return assert_same_sessions(found, judge.rows())


def _input_with_last(
    input_root: InputRoot, days: Sequence[date], changed: Callable[[pa.Table], pa.Table], folder: Path
) -> InputRoot:
    """The same batches, except the last one, which is changed."""
    *others, last = days
    for day in others:
        shutil.copytree(input_root.batch_folder(day), folder / f"date={day.isoformat()}")
    write_batch(changed(pq.read_table(input_root.batch_folder(last), partitioning=None)), folder, last)
    return InputRoot(str(folder))


def _copied(source: Path, target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    return shutil.copytree(source, target)


def heap(bench: Bench) -> Findings:
    """Large batches one after the other with the default heap, in a process of its own: how long the last one takes."""
    workload = Workload(bench.scale.heap)
    days = workload.days(bench.scale.heap_days)
    input_root, folder = bench.input(workload, days), bench.tables("heap")
    memory = SparkSettings().driver_memory
    bench.say(f"landing and applying {len(days)} batches with a heap of {memory}")
    began = time.perf_counter()
    try:
        seconds = in_own_process(days_with_default_memory, input_root.root, str(folder), days)
        error = None
    except (BrokenProcessPool, SparkFailedError) as failed:
        # What else may be wrong is no finding.
        seconds, error = [time.perf_counter() - began], str(failed).splitlines()[0]
        bench.say(f"failed: {error}")
    name = f"a batch of {in_words(workload.events_per_day)} events, heap of {memory}"
    return Findings(
        [Measure(name, seconds[-1:], Target("completes"), condition=error is None, unit="s")],
        {"events_per_day": workload.events_per_day, "seconds": seconds, "error": error},
    )


def late_event(bench: Bench) -> Findings:
    """What is written for one late event that extends a session of a table of six days."""
    workload = Workload(bench.scale.late_event)
    *before, day = workload.days(bench.scale.history_days + 1)
    input_root, folder = bench.input(workload, before), bench.tables("late-event")
    with spark_session(SparkSettings()) as spark:
        history_of = Ours(spark, input_root, Warehouse(str(folder / "warehouse")))
        bench.say("building the table")
        for each in before:
            history_of.land(each)
        history_of.sessionize_range(before)
        rows = history_of.rows().count()
        event = _event_that_extends_a_session(history_of.rows(), before[-1])
        write_batch(event, folder / "input", day)
        ours = Ours(spark, InputRoot(str(folder / "input")), history_of.warehouse)
        ours.land(day)
        seconds, report = timed(lambda: ours.sessionize(day))
        writes = writes_of(ours.warehouse.sessionized_events, report.version)
    bench.say(f"{seconds:.1f} s, {sum(report.updated.values())} rows updated, {writes}")
    measure = Measure(
        f"written for one late event into {in_words(rows)} rows",
        [writes.bytes / 1e6],
        Target("at most 1 MB, one date", high=1),
        condition=len(writes.dates) == 1 and sum(report.updated.values()) > 0,
        unit="MB",
    )
    return Findings([measure], {"rows": rows, "seconds": seconds, "writes": asdict(writes)})


def _event_that_extends_a_session(table: DataFrame, day: date) -> pa.Table:
    """A batch of one user action, a second before the end of the first session of a day."""
    sessions = table.where((F.col(EVENT_DATE) == day) & (F.to_date(SESSION_START) == day))
    ends = F.unix_micros(F.max(SESSION_END)).alias("ends")
    found = sessions.groupBy(*SESSION_KEY, SESSION_START).agg(ends).orderBy(SESSION_START, *SESSION_KEY).first()
    assert found is not None, "somebody is at work on any day"
    return pa.table(
        {
            USER: [found[USER]],
            EVENT: [min(SessionRules().user_action_ids)],
            PRODUCT: [found[PRODUCT]],
            TIMESTAMP: pa.array([found["ends"] - 1_000_000], pa.timestamp("us", tz="UTC")),
        }
    )


def cold_process(bench: Bench) -> Findings:
    """`dagster asset materialize --partition` on the demo's data, from its start to its end."""
    folder = bench.tables("cold-process")
    bench.say("the demo, which keeps Java's classes for later starts")
    (folder / "demo").mkdir()
    run_demo(folder / "demo")
    for day, rows in story.batches().items():
        story.write_batch(folder / "input", day, rows)
    installation = DagsterHome(folder, folder / "input", story.DAYS[0])
    before, measured = story.DAYS[: -bench.scale.measured_days], story.DAYS[-bench.scale.measured_days :]
    bench.say(f"a range run of the days until {before[-1].isoformat()}")
    installation.materialize("--partition-range", f"{before[0].isoformat()}...{before[-1].isoformat()}")
    runs = []
    for day in measured:
        runs.append(installation.materialize("--partition", day.isoformat()))
        told = ", ".join(f"{name} {seconds:.1f}" for name, seconds in runs[-1].phases.items())
        bench.say(f"partition {day.isoformat()}: {runs[-1].seconds:.1f} s ({told})")
    measure = Measure("cold process on the demo's data", [run.seconds for run in runs], at_most(25, "s"), unit="s")
    return Findings([measure], {"phases": [run.phases for run in runs]})


def in_words(count: int) -> str:
    """A round number, short: `5 M`."""
    for unit, name in ((1_000_000, "M"), (1_000, "k")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return str(count)


SCENARIOS: Final[Mapping[str, Callable[[Bench], Findings]]] = {
    **{name: partial(corrections, scenario=name) for name in CORRECTIONS},
    "history": history,
    "compaction": compaction,
    "range": one_range,
    "skew": skew,
    "landed-again": landed_again,
    "heap": heap,
    "late-event": late_event,
    "cold-process": cold_process,
}
"""By the name that `--only` takes, in the order they run."""


def found_by(name: str, folder: Path, scale: Scale) -> Findings:
    """What a scenario finds, told on the console while it goes on; for `in_own_process`.

    Args:
        name: The scenario.
        folder: For input and tables.
        scale: How large.
    """
    console, began = Console(), time.monotonic()

    def say(told: str) -> None:
        console.print(f"{time.monotonic() - began:6.0f} s  {told}", highlight=False, soft_wrap=True)

    bench = Bench(folder, scale, say)
    findings = SCENARIOS[name](bench)
    # They are of use to those who look into a failure, and large.
    shutil.rmtree(bench.tables(name))
    return findings
