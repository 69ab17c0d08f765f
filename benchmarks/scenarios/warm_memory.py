"""The memory of a warm Spark over many daily runs."""

from typing import Final

from benchmarks.measures import Findings, Measure, at_most
from benchmarks.processes import DagsterHome, warm_spark
from benchmarks.scenarios.bench import Bench, Sizes
from benchmarks.workload import Workload

EVENTS_PER_DAY: Final = 500
DAYS: Final = Sizes(full=60, small=2)
WARM_AFTER: Final = Sizes(full=40, small=1)
"""From this day on its heap has the size that it is allowed, and its memory should stay as it is."""


def measure(bench: Bench) -> Findings:
    """Let Dagster run tiny days one by one, a process each, on the same server, and look at its resident memory."""
    workload, days_count, warm_after = Workload(EVENTS_PER_DAY), bench.size(DAYS), bench.size(WARM_AFTER)
    days = workload.days(days_count)
    input_root, folder = bench.input(workload, days), bench.tables("warm-memory")
    resident = []
    with warm_spark(folder) as server:
        DagsterHome.at(folder, input_root.root, days[0])
        home = DagsterHome(folder, input_root.root, days[0], server.variables)
        for number, day in enumerate(days, start=1):
            home.materialize("*", "--partition", day.isoformat())
            resident.append(server.resident())
            if number % 10 == 0:
                bench.log(f"after {number} days: {resident[-1] / 2**20:.0f} MiB")
    name = f"resident memory of a warm Spark, after {days_count} / {warm_after} daily runs"
    return Findings(
        [Measure(name, [resident[-1] / resident[warm_after - 1]], at_most(1.15))], {"resident_bytes": resident}
    )
