"""How long a short run takes that starts Python, Dagster, Java and Spark itself."""

from benchmarks.measures import Findings, Measure, at_most
from benchmarks.processes import DagsterHome
from benchmarks.scenarios.bench import Bench
from sessions_dagster.demo import story


def measure(bench: Bench) -> Findings:
    """Time `dagster asset materialize --partition` on the data of the demo, from its start to its exit."""
    folder = bench.tables("cold-process")
    for day, rows in story.batches().items():
        story.write_batch(folder / "input", day, rows)
    installation = DagsterHome.at(folder, str(folder / "input"), story.DAYS[0])
    before, measured = story.DAYS[: -bench.scale.measured_days], story.DAYS[-bench.scale.measured_days :]
    bench.log(f"a range run of the days until {before[-1].isoformat()}")
    installation.materialize("*", "--partition-range", f"{before[0].isoformat()}...{before[-1].isoformat()}")
    runs = []
    for day in measured:
        runs.append(installation.materialize("*", "--partition", day.isoformat()))
        phases = ", ".join(f"{name} {seconds:.1f}" for name, seconds in runs[-1].phases.items())
        bench.log(f"partition {day.isoformat()}: {runs[-1].seconds:.1f} s ({phases})")
    row = Measure("cold process on the demo's data", [run.seconds for run in runs], at_most(25, "s"), unit="s")
    return Findings([row], {"phases": [run.phases for run in runs]})
