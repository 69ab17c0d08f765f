"""`python -m sessions_dagster_tests.faults [--seed N] [--kills N]`: the long run of the suite (`make test-faults`).

It prints one table, and ends with 1 if anything was lost, doubled or wrong.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from random import Random, SystemRandom
from typing import Final

from sessions_dagster.spark.session import SparkSettings, spark_session
from sessions_dagster_tests.conftest import FOR_MANY_SMALL_QUERIES
from sessions_dagster_tests.faults.checker import Checker
from sessions_dagster_tests.faults.moments import moments, name_of
from sessions_dagster_tests.faults.program import Program
from sessions_dagster_tests.faults.report import Report

LIVES_OF_A_WORLD: Final = 10
"""After so many lives of a group the next one begins with an empty folder, and creates the tables."""

FROZEN: Final = 2


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m sessions_dagster_tests.faults")
    parser.add_argument("--seed", type=int, default=SystemRandom().randrange(10**6), help="repeats an earlier run")
    parser.add_argument("--kills", type=int, default=100, help="how many groups are killed at random moments")
    parsed = parser.parse_args()
    say(f"seed {parsed.seed}")
    settings = SparkSettings(master="local[2]", shuffle_partitions=1, extra_conf=FOR_MANY_SMALL_QUERIES)
    report, began = Report(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="faults-") as folder, spark_session(settings) as spark:
        checker = Checker(spark, report)
        random_moments(checker, Path(folder), parsed.seed, parsed.kills)
    say(f"{report}\nseed {parsed.seed}, {(time.monotonic() - began) / 60:.1f} minutes")
    return 0 if report.is_clean else 1


def random_moments(checker: Checker, folder: Path, seed: int, kills: int) -> None:
    """Groups that are frozen some times, and then killed, at random moments."""
    random = Random(seed)
    number = 0
    for life in range(kills):
        world, of_world = divmod(life, LIVES_OF_A_WORLD)
        program = Program(seed + world)
        if of_world == 0:
            number = 0
        for moment in moments(folder / f"world{world}", program, random, number, FROZEN):
            how, number = "killed" if moment.is_killed else "frozen", moment.number
            checker.check(f"{how} at random in {name_of(program.step(number))}", program, number, moment.folder)
        say(f"life {life + 1} of {kills} ended in step {number}")


def say(line: str) -> None:
    """Say something at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
