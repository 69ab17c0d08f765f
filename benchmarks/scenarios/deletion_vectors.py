"""What it costs to correct without deletion vectors, and what they cost whoever reads the table afterwards."""

from collections import defaultdict
from dataclasses import replace
from functools import partial
from typing import Final

from benchmarks.comparison import assert_same_sessions
from benchmarks.contenders import Ours
from benchmarks.measures import Findings, Measure, at_most, in_turn, ratios
from benchmarks.race import timed_alone
from benchmarks.scenarios.bench import Bench, Sizes, in_words
from benchmarks.scenarios.scans import seconds_of_scans
from benchmarks.workload import Workload
from sessions_dagster.spark.session import SparkSettings, spark_session
from sessions_dagster.storage.warehouse import Warehouse

EVENTS_PER_DAY: Final = Sizes(full=1_000_000, small=2_000)

_WITH: Final = "with"
_WITHOUT: Final = "without"


def measure(bench: Bench) -> Findings:
    """Run the same days with and without deletion vectors in turn, each kind on tables of its own, and scan both."""
    workload = Workload(bench.size(EVENTS_PER_DAY))
    scale = bench.scale
    days = workload.days(scale.history_days + scale.measured_days)
    input_root, folder = bench.input(workload, days), bench.tables("deletion-vectors")
    seconds = defaultdict[str, list[float]](list)
    with spark_session(SparkSettings()) as spark:
        ours = Ours(spark, input_root, Warehouse(str(folder / _WITH)))
        both = {
            _WITH: ours,
            _WITHOUT: replace(ours, warehouse=Warehouse(str(folder / _WITHOUT)), deletion_vectors=False),
        }
        for number, day in enumerate(days):
            is_history = number < scale.history_days
            for name, each in in_turn(both, number):
                each.land(day)
                taken, _ = timed_alone(spark, partial(each.sessionize, day))
                bench.log(f"day {number + 1} ({'history' if is_history else 'measured'}), {name}: {taken:.1f} s")
                if not is_history:
                    seconds[name].append(taken)
        same = assert_same_sessions({"without deletion vectors": both[_WITHOUT].rows()}, both[_WITH].rows())
        bench.log(f"both have the same {same:,} rows")
        scans = {name: seconds_of_scans(bench, each) for name, each in both.items()}
    what = f"with / without deletion vectors, {in_words(workload.events_per_day)} events a day"
    return Findings(
        [
            Measure(f"seconds {what}", ratios(seconds[_WITH], seconds[_WITHOUT]), at_most(1)),
            Measure(
                f"a scan after {len(days)} daily runs, with / without deletion vectors",
                ratios(scans[_WITH], scans[_WITHOUT]),
                at_most(1.25),
            ),
        ],
        {"events_per_day": workload.events_per_day, "seconds": dict(seconds), "seconds_of_scans": scans},
    )
