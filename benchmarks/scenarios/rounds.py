"""Repetitions of the same day: several contenders in turn, after some rounds that only warm the process up."""

from collections import defaultdict
from collections.abc import Callable, Mapping

from pyspark.sql import SparkSession

from benchmarks.measures import in_turn
from benchmarks.race import timed_alone
from benchmarks.scenarios.bench import Bench


def seconds_of_rounds(
    bench: Bench, spark: SparkSession, works_of: Callable[[int], Mapping[str, Callable[[], object]]]
) -> dict[str, list[float]]:
    """Time several pieces of work in turn, round by round.

    Args:
        bench: Its scale sets the number of rounds.
        spark: The session that the work runs on.
        works_of: Prepares the round of a number and returns the work to time, by name. The order of the names is
            reversed in every other round.

    Returns:
        The seconds of each measured round, by name. Rounds that only warm the process up are left out.
    """
    seconds: dict[str, list[float]] = defaultdict(list)
    for number in range(bench.scale.warm_up_rounds + bench.scale.measured_days):
        is_measured = number >= bench.scale.warm_up_rounds
        for name, work in in_turn(works_of(number), number):
            taken, _ = timed_alone(spark, work)
            bench.log(f"{'measured' if is_measured else 'warming up'}, {name}: {taken:.1f} s")
            if is_measured:
                seconds[name].append(taken)
    return dict(seconds)
