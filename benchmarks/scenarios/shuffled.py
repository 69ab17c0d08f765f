"""What a correction takes that is too large to be sent to every executor, so that Spark shuffles the table instead."""

from collections.abc import Callable
from functools import partial
from typing import Final

from benchmarks.comparison import assert_same_sessions
from benchmarks.contenders import Ours
from benchmarks.measures import Findings, Measure, at_most, ratios
from benchmarks.scenarios.bench import Bench, Sizes, in_words
from benchmarks.scenarios.last_batch import copied
from benchmarks.scenarios.rounds import seconds_of_rounds
from benchmarks.workload import Workload
from sessions_dagster.spark.session import SparkSettings, spark_session
from sessions_dagster.spark.tuning import spark_property
from sessions_dagster.storage.warehouse import Warehouse

EVENTS_PER_DAY: Final = Sizes(full=1_000_000, small=2_000)

_PROPERTY: Final = "spark.sessions.broadcastRows"


def measure(bench: Bench) -> Findings:
    """Apply the same batch with the limit of a broadcast as it is, and with one row, to copies of the same history."""
    workload = Workload(bench.size(EVENTS_PER_DAY))
    days = workload.days(bench.scale.history_days + 1)
    input_root, folder = bench.input(workload, days), bench.tables("shuffled")

    with spark_session(SparkSettings()) as spark:
        bench.log("building the history")
        base = Ours(spark, input_root, Warehouse(str(folder / "landed")))
        for day in days:
            base.land(day)
        base.sessionize_range(days[:-1])

        def works_of(number: int) -> dict[str, Callable[[], object]]:
            # A folder for each round, because Spark remembers the state of tables at paths that it has read before.
            both = {name: str(copied(folder / "landed", folder / f"{name}-{number}")) for name in ("sent", "shuffled")}
            ours = {name: Ours(spark, input_root, Warehouse(root)) for name, root in both.items()}

            def shuffled() -> None:
                with spark_property(spark, _PROPERTY, "1"):
                    ours["shuffled"].sessionize(days[-1])

            return {"sent": partial(ours["sent"].sessionize, days[-1]), "shuffled": shuffled}

        seconds = seconds_of_rounds(bench, spark, works_of)
        last = bench.scale.warm_up_rounds + bench.scale.measured_days - 1
        sent, shuffled = (
            Ours(spark, input_root, Warehouse(str(folder / f"{name}-{last}"))).rows() for name in ("sent", "shuffled")
        )
        bench.log(f"both have the same {assert_same_sessions({'shuffled': shuffled}, sent):,} rows")
    name = f"seconds, a correction that is shuffled / sent to all, {in_words(workload.events_per_day)} events a day"
    return Findings(
        [Measure(name, ratios(seconds["shuffled"], seconds["sent"]), at_most(2))],
        {"events_per_day": workload.events_per_day, "seconds": seconds},
    )
