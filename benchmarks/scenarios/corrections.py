"""A day of the product beside a day of every other contender, for two sizes of a day."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

from benchmarks.measures import Findings, Measure, Target, at_least, at_most, ratios
from benchmarks.race import Race
from benchmarks.scenarios.bench import Bench, Sizes, in_words
from benchmarks.workload import Workload
from sessions_dagster.spark.session import SparkSettings, spark_session


@dataclass(frozen=True)
class Contest:
    """All contenders on the same batches.

    Attributes:
        events_per_day: Events in each batch.
        measured_days: Repetitions.
        heap: The heap of Spark's driver, for all contenders that use Spark.
    """

    events_per_day: int
    measured_days: int
    heap: str = SparkSettings.driver_memory


CONTESTS: Final[Mapping[str, Sizes[Contest]]] = {
    "corrections-1m": Sizes(full=Contest(1_000_000, 5), small=Contest(1_000, 1)),
    # With the default heap, the recompute fails on the 30 million events of its six batches.
    "corrections-5m": Sizes(full=Contest(5_000_000, 3, heap="8g"), small=Contest(1_000, 1)),
}
"""The contests by scenario."""

TARGETS: Final[Mapping[str, Mapping[str, Target]]] = {
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
"""The targets by scenario, each for the ratio of two contenders."""


def measure(bench: Bench, scenario: str) -> Findings:
    """Time a day of the product, of its floor, of both recomputes, and of landing and its floor.

    The product runs every day from the first one on. The others join for the last days of the history, so that all
    contenders are warm when measuring begins. Their order is reversed every other day. After each measured day all rows
    of all contenders are compared; at the end, all rows of the product are compared with one pass over all batches.

    Args:
        bench: What every scenario is given.
        scenario: The contest, a key of `CONTESTS`.
    """
    contest = bench.size(CONTESTS[scenario])
    workload = Workload(contest.events_per_day)
    days = workload.days(bench.scale.history_days + contest.measured_days)
    input_root, folder = bench.input(workload, days), bench.tables(scenario)
    seconds: dict[str, list[float]] = defaultdict(list)
    with spark_session(SparkSettings(driver_memory=contest.heap)) as spark:
        race = Race(spark, input_root, folder)
        for number, day in enumerate(days):
            is_history = number < bench.scale.history_days
            is_ours_alone = number < bench.scale.history_days - bench.scale.warm_up_days
            taken = race.build(day) if is_ours_alone else race.run(day, number)
            summary = ", ".join(f"{name} {of_name:.1f} s" for name, of_name in taken.items())
            bench.log(f"day {number + 1} ({'history' if is_history else 'measured'}): {summary}")
            if is_history:
                continue
            bench.log(f"all contenders agree: {race.compare(day)}")
            for name, of_name in taken.items():
                seconds[name].append(of_name)
        bench.log(f"ours has the same {race.compare_all(days):,} rows as one pass over all batches")
    return Findings(_measures(scenario, contest.events_per_day, seconds), {**asdict(contest), "seconds": dict(seconds)})


def _measures(scenario: str, events_per_day: int, seconds: Mapping[str, list[float]]) -> list[Measure]:
    measures = []
    for name, target in TARGETS[scenario].items():
        above, below = name.split(" / ")
        row = f"{name}, {in_words(events_per_day)} events a day"
        measures.append(Measure(row, ratios(seconds[above], seconds[below]), target))
    return measures
