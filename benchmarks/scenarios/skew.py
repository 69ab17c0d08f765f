"""Batches in which half of the events come from one user, beside a uniform batch of the same size."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Final

from pyspark.sql import SparkSession

from benchmarks.comparison import assert_same_sessions
from benchmarks.contenders import Ours, one_pass
from benchmarks.footprint import PeakMemory
from benchmarks.measures import Findings, Measure, Target, at_most, in_turn, ratios
from benchmarks.processes import in_own_process, peak_of_correction
from benchmarks.scenarios.bench import Bench, Sizes, in_words
from benchmarks.scenarios.last_batch import copied, input_with_last_batch
from benchmarks.scenarios.rounds import seconds_of_rounds
from benchmarks.workload import ONE_HOUR, WHOLE_DAY, Workload, with_hot_user
from sessions_dagster.input.folders import InputRoot
from sessions_dagster.spark.session import SparkSettings, spark_session
from sessions_dagster.storage.warehouse import Warehouse

EVENTS_PER_DAY: Final = Sizes(full=1_000_000, small=2_000)

_UNIFORM: Final = "uniform"
_PEAK_MEMORY: Final = at_most(1.3)


@dataclass(frozen=True)
class _HotBatch:
    """A batch in which one user has half of the events.

    Attributes:
        source: Where these events come from, in the words of the result row.
        hours: The hours of the day in which the user is active (UTC).
        seconds: The target for the time beside a uniform batch.
    """

    source: str
    hours: range
    seconds: Target


_HOT_BATCHES: Final[Mapping[str, _HotBatch]] = {
    "skewed": _HotBatch("one user", WHOLE_DAY, seconds=at_most(1.5)),
    "burst": _HotBatch("one user, in one hour", ONE_HOUR, seconds=at_most(1.3)),
}


def measure(bench: Bench) -> Findings:
    """Apply two batches with a hot user, active all day or within one hour, and the uniform batch.

    Each batch is applied to a copy of the same history. The order of the batches is reversed every other round.
    """
    workload = Workload(bench.size(EVENTS_PER_DAY))
    days = workload.days(bench.scale.history_days + 1)
    standard, folder = bench.input(workload, days), bench.tables("skew")
    inputs = {_UNIFORM: standard}
    for name, hot in _HOT_BATCHES.items():
        with_hot = partial(with_hot_user, day=days[-1], hours=hot.hours)
        inputs[name] = input_with_last_batch(standard, days, with_hot, folder / "input" / name)

    def works_of(_: int) -> dict[str, Callable[[], object]]:
        copies = {name: Warehouse(str(copied(landed[name], folder / name))) for name in inputs}
        return {name: partial(Ours(spark, inputs[name], copies[name]).sessionize, days[-1]) for name in inputs}

    with spark_session(SparkSettings()) as spark:
        landed = _landed_on_one_history(bench, spark, inputs, days, folder)
        seconds = seconds_of_rounds(bench, spark, works_of)
        for name, root in inputs.items():
            ours = Ours(spark, root, Warehouse(str(folder / name))).rows()
            expected = one_pass(spark, root, days, folder / "reference")
            rows = assert_same_sessions({f"ours with the {name} batch": ours}, expected)
            bench.log(f"{name} batch: ours has the same {rows:,} rows as one pass over all batches")
    peaks = _peaks_of_rounds(bench, landed, days[-1], folder)
    return Findings(
        [each for name in _HOT_BATCHES for each in _measures(name, workload.events_per_day, seconds, peaks)],
        {
            "events_per_day": workload.events_per_day,
            "seconds": seconds,
            "peak_memory_bytes": {name: [asdict(peak) for peak in of_name] for name, of_name in peaks.items()},
        },
    )


def _landed_on_one_history(
    bench: Bench, spark: SparkSession, inputs: Mapping[str, InputRoot], days: Sequence[date], folder: Path
) -> dict[str, Path]:
    """Build a warehouse for each input, with all days applied but the last one, which has only landed.

    Returns:
        The folders of the warehouses, by the name of their input.
    """
    *before, day = days
    bench.log("building the history")
    base = Ours(spark, inputs[_UNIFORM], Warehouse(str(folder / "history")))
    for each in before:
        base.land(each)
    base.sessionize_range(before)
    landed = {}
    for name, root in inputs.items():
        landed[name] = copied(folder / "history", folder / f"{name}-landed")
        # Without a bot limit, because the hot user would be rejected as a bot.
        Ours(spark, root, Warehouse(str(landed[name])), bot_limit=None).land(day)
    return landed


def _peaks_of_rounds(
    bench: Bench, landed: Mapping[str, Path], day: date, folder: Path
) -> Mapping[str, Sequence[PeakMemory]]:
    """Measure the peak memory of each batch, in a new process for every repetition."""
    peaks = defaultdict[str, list[PeakMemory]](list)
    for number in range(bench.scale.measured_days):
        for name, warehouse in in_turn(landed, number):
            bench.log(f"{name} batch: measuring its peak memory in a process of its own")
            peaks[name].append(in_own_process(peak_of_correction, str(copied(warehouse, folder / name)), day))
            bench.log(f"{name} batch: {peaks[name][-1]}")
    return peaks


def _measures(
    name: str, events: int, seconds: Mapping[str, Sequence[float]], peaks: Mapping[str, Sequence[PeakMemory]]
) -> list[Measure]:
    hot = _HOT_BATCHES[name]
    compared = f"half of {in_words(events)} events from {hot.source} / {_UNIFORM}"
    memory = ratios([peak.unified for peak in peaks[name]], [peak.unified for peak in peaks[_UNIFORM]])
    return [
        Measure(f"seconds, {compared}", ratios(seconds[name], seconds[_UNIFORM]), hot.seconds),
        Measure(f"peak memory, {compared}", memory, _PEAK_MEMORY),
    ]
