"""What a daily run costs as Dagster starts it: a process a run, with a Spark of its own or with one that is warm."""

import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.measures import TOLD, Findings, Measure, Target, at_most, in_turn, ratios
from benchmarks.processes import CommandRun, DagsterHome, warm_spark
from benchmarks.scenarios.bench import Bench, Sizes, in_words
from benchmarks.workload import Workload

MEASURED_DAYS: Final = Sizes(full=5, small=1)

_OWN: Final = "a Spark of its own"
_WARM: Final = "a warm Spark"


@dataclass(frozen=True)
class _Day:
    """A day as Dagster runs it.

    Attributes:
        events: Events in each batch.
        assets: Which assets a run makes, with all of their checks, as Dagster selects them.
        target: The target for the time with a warm Spark beside that with one of its own.
    """

    events: int
    assets: str
    target: Target


_DAYS: Final[Mapping[str, Sizes[_Day]]] = {
    "a tiny day": Sizes(_Day(500, "*", at_most(0.4)), small=_Day(100, "*", at_most(0.4))),
    "a large day": Sizes(
        _Day(1_000_000, "raw_events,sessionized_events", at_most(0.45)),
        small=_Day(1_000, "raw_events,sessionized_events", at_most(0.45)),
    ),
}


def measure(bench: Bench) -> Findings:
    """Time `dagster asset materialize --partition`, from its start to its exit, with both kinds of Spark in turn.

    Each kind has a warehouse of its own with the same history. The warm Spark has run the days before the measured
    ones, and those of the small workload.
    """
    measures: list[Measure] = []
    raw = {}
    with warm_spark(bench.tables("daily-run-server")) as server:
        for size in _DAYS.values():
            day = bench.size(size)
            runs = _runs(bench, day, server.variables)
            measures += _measures(day, runs)
            raw[in_words(day.events)] = {
                name: [{"seconds": run.seconds, "phases": dict(run.phases)} for run in of_name]
                for name, of_name in runs.items()
            }
    return Findings(measures, {"runs": raw})


def _runs(bench: Bench, day: _Day, variables: Mapping[str, str]) -> Mapping[str, Sequence[CommandRun]]:
    workload = Workload(day.events)
    scale, measured = bench.scale, bench.size(MEASURED_DAYS)
    days = workload.days(scale.history_days + scale.warm_up_days + measured)
    input_root, folder = bench.input(workload, days), bench.tables("daily-run")
    history = days[: scale.history_days]
    own = DagsterHome.at(folder / "own", input_root.root, days[0])
    own.materialize("*", "--partition-range", f"{history[0].isoformat()}...{history[-1].isoformat()}")
    shutil.copytree(folder / "own", folder / "warm")
    warm = DagsterHome(folder / "warm", input_root.root, days[0], variables)
    runs = defaultdict[str, list[CommandRun]](list)
    for number, each in enumerate(days[scale.history_days :]):
        is_measured = number >= scale.warm_up_days
        for name, home in in_turn({_OWN: own, _WARM: warm}, number):
            run = home.materialize(day.assets, "--partition", each.isoformat())
            phases = ", ".join(f"{phase} {seconds:.1f}" for phase, seconds in run.phases.items())
            label = "measured" if is_measured else "warming up"
            bench.log(f"{in_words(day.events)} events with {name} ({label}): {run.seconds:.1f} s ({phases})")
            if is_measured:
                runs[name].append(run)
    return runs


def _measures(day: _Day, runs: Mapping[str, Sequence[CommandRun]]) -> list[Measure]:
    what = f"a day of {in_words(day.events)} events"
    seconds = {name: [run.seconds for run in of_name] for name, of_name in runs.items()}
    return [
        *(Measure(f"{what} as Dagster starts it, {name}", seconds[name], TOLD, unit="s") for name in (_OWN, _WARM)),
        Measure(f"{what}, {_WARM} / {_OWN}", ratios(seconds[_WARM], seconds[_OWN]), day.target),
    ]
