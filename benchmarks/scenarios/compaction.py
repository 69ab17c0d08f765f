"""What a compaction gains for whoever reads the table."""

from typing import Final

from benchmarks.contenders import Ours
from benchmarks.measures import Findings, Measure, at_most, ratios, timed
from benchmarks.scenarios.bench import Bench, Sizes
from benchmarks.scenarios.scans import seconds_of_scans
from benchmarks.workload import Workload
from sessions_dagster.spark.session import SparkSettings, spark_session
from sessions_dagster.storage.maintenance import compact
from sessions_dagster.storage.warehouse import Warehouse

EVENTS_PER_DAY: Final = Sizes(full=20_000, small=1_000)
DAYS: Final = Sizes(full=60, small=2)


def measure(bench: Bench) -> Findings:
    """Scan a table that many daily runs have written, before and after a compaction."""
    workload = Workload(bench.size(EVENTS_PER_DAY))
    days = workload.days(bench.size(DAYS))
    input_root, folder = bench.input(workload, days), bench.tables("compaction")
    with spark_session(SparkSettings()) as spark:
        ours = Ours(spark, input_root, Warehouse(str(folder)))
        bench.log(f"running {len(days)} days one by one")
        for day in days:
            ours.land(day)
            ours.sessionize(day)
        before = ours.rows().count()
        without = seconds_of_scans(bench, ours)
        seconds, report = timed(lambda: compact(spark, ours.warehouse, ours.warehouse.sessionized_events))
        with_it = seconds_of_scans(bench, ours)
        assert ours.rows().count() == before, "a compaction changes no row"
    bench.log(f"{report.before.files} files became {report.after.files} in {seconds:.1f} s")
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
