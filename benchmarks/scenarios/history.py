"""Whether a day takes longer on a long history than on a short one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Final

from pyspark.sql import SparkSession

from benchmarks.comparison import assert_same_sessions, decided_since
from benchmarks.contenders import Ours
from benchmarks.footprint import Reads, Writes, reads_of, writes_of
from benchmarks.measures import Findings, Measure, Target, at_most, equal_within, in_turn, ratios
from benchmarks.race import timed_alone
from benchmarks.scenarios.bench import Bench, Sizes
from benchmarks.workload import Workload
from sessions_dagster.spark.session import SparkSettings, spark_session
from sessions_dagster.storage.warehouse import Warehouse

EVENTS_PER_DAY: Final = Sizes(full=20_000, small=1_000)
SHORT_DAYS: Final = Sizes(full=30, small=1)
LONG_DAYS: Final = Sizes(full=300, small=2)
MEASURED_DAYS: Final = Sizes(full=7, small=1)
"""More repetitions than elsewhere: these days are so short that a single one varies a lot."""


@dataclass(frozen=True)
class _HistoryDay:
    """What one day took.

    Attributes:
        landing_seconds: Seconds of `raw_events`.
        seconds: Seconds of `sessionized_events`.
        reads: What `sessionized_events` read.
        writes: What `sessionized_events` wrote.
    """

    landing_seconds: float
    seconds: float
    reads: Reads
    writes: Writes


def measure(bench: Bench) -> Findings:
    """Run the same batches on a long history and on a short one.

    The short history consists of the last days of the long one. The two take turns in going first.
    """
    short_days, long_days = bench.size(SHORT_DAYS), bench.size(LONG_DAYS)
    workload = Workload(bench.size(EVENTS_PER_DAY))
    before, measured = workload.days(long_days), workload.days(bench.size(MEASURED_DAYS), long_days)
    input_root, folder = bench.input(workload, [*before, *measured]), bench.tables("history")
    found: dict[int, list[_HistoryDay]] = {short_days: [], long_days: []}
    with spark_session(SparkSettings()) as spark:
        by_length = {length: Ours(spark, input_root, Warehouse(str(folder / str(length)))) for length in found}
        for length, ours in by_length.items():
            _build_history(bench, ours, before[-length:], short_days)
        for number, day in enumerate(measured):
            for length, ours in in_turn(by_length, number):
                found[length].append(_day_on_history(spark, ours, day))
                bench.log(f"batch {day.isoformat()} on {length} days: {found[length][-1]}")
        # The short history lacks some sessions that began before the measured days.
        short, long = (
            decided_since(measured[0], by_length[length].rows(), by_length[long_days].rows()) for length in found
        )
        rows = assert_same_sessions({"the short history": short}, long)
        bench.log(f"both histories have the same {rows:,} rows since {measured[0].isoformat()}")
    return Findings(
        [
            Measure(f"{name}, {long_days} / {short_days} days of history", values, target)
            for name, (values, target) in _history_ratios(found[long_days], found[short_days]).items()
        ],
        {
            "events_per_day": workload.events_per_day,
            **{f"{length} days": [asdict(day) for day in days] for length, days in found.items()},
        },
    )


def _build_history(bench: Bench, ours: Ours, days: Sequence[date], range_days: int) -> None:
    """Land and apply days: most of them in range runs, which are fast, and the last ones day by day."""
    bench.log(f"building a history of {len(days)} days: landing them")
    for day in days:
        ours.land(day)
    daily = days[-bench.scale.history_days :]
    ranged = days[: -bench.scale.history_days]
    for begin in range(0, len(ranged), range_days):
        bench.log(f"building a history of {len(days)} days: applying {range_days} days from day {begin + 1} on")
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
