"""`python -m sessions_dagster_tests.faults [--seed N] [--kills N]`: the long run of the suite (`make test-faults`).

It prints one table, and ends with 1 if anything was lost, doubled or wrong.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from random import Random, SystemRandom
from typing import Final

from sessions_dagster.spark.session import SparkSettings, spark_session
from sessions_dagster_tests.builders import World
from sessions_dagster_tests.conftest import FOR_MANY_SMALL_QUERIES
from sessions_dagster_tests.faults.boundaries import BOUNDARIES, WHILE_WRITING
from sessions_dagster_tests.faults.by_tests import KINDS, run_tests
from sessions_dagster_tests.faults.checker import Checker
from sessions_dagster_tests.faults.deaths import CANCELLED, cancelled_in_the_ui, python_killed_alone, terminated
from sessions_dagster_tests.faults.disks import full_disk_of_spark, full_disk_of_tables
from sessions_dagster_tests.faults.group import working
from sessions_dagster_tests.faults.moments import AtBoundary, at_boundaries, before, moments, name_of
from sessions_dagster_tests.faults.program import STEPS, Compact, Program
from sessions_dagster_tests.faults.report import Report

LIVES_OF_A_WORLD: Final = 10
"""After so many lives of a group the next one begins with an empty folder, and creates the tables."""

FROZEN: Final = 2

ATTEMPTS: Final = 3
"""How often a group is started that may pass a boundary alive, where only what it writes is looked at from outside."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m sessions_dagster_tests.faults")
    parser.add_argument("--seed", type=int, default=SystemRandom().randrange(10**6), help="repeats an earlier run")
    parser.add_argument("--kills", type=int, default=100, help="how many groups are killed at random moments")
    parser.add_argument("--only", default="", metavar="PART", help=f"one of {', '.join((*PARTS, IN_THE_UI, BY_TESTS))}")
    parsed = parser.parse_args()
    say(f"seed {parsed.seed}")
    settings = SparkSettings(master="local[2]", shuffle_partitions=1, extra_conf=FOR_MANY_SMALL_QUERIES)
    report, began = Report(), time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    with spark_session(settings) as spark:
        suite = Suite(Checker(spark, report), folder, parsed.seed, parsed.kills)
        for name, part in PARTS.items():
            if parsed.only in ("", name):
                told_of(report, name, partial(part, suite))
                say(f"{name}: {(time.monotonic() - began) / 60:.1f} minutes so far")
    if parsed.only in ("", IN_THE_UI):
        told_of(report, CANCELLED, lambda: cancelled_in_the_ui(report, made(folder / "ui")))
    for kind in KINDS:
        if parsed.only in ("", BY_TESTS):
            run_tests(report, kind)
            say(f"{kind}: {(time.monotonic() - began) / 60:.1f} minutes so far")
    say(f"{report}\nseed {parsed.seed}, {(time.monotonic() - began) / 60:.1f} minutes")
    if report.is_clean:
        shutil.rmtree(folder)
    else:
        say(f"what was left is in {folder}")
    return 0 if report.is_clean else 1


@dataclass(frozen=True)
class Suite:
    """What the parts share.

    Attributes:
        checker: Checks the states.
        folder: Where the worlds are.
        seed: Of the first program, and of all moments.
        kills: How many groups are killed at random.
    """

    checker: Checker
    folder: Path
    seed: int
    kills: int

    @property
    def program(self) -> Program:
        """The program of all parts in which one world is enough."""
        return Program(self.seed)

    @cached_property
    def boundaries(self) -> list[AtBoundary]:
        """The boundaries that the first steps of the program come to."""
        return at_boundaries(World(self.checker.spark, self._world), self.program, STEPS, list(BOUNDARIES))

    def before(self, number: int) -> Path:
        """The world as it is before one of the first steps of the program."""
        assert self.boundaries
        return before(self._world, number)

    @property
    def _world(self) -> Path:
        return self.folder / "boundaries"


def random_moments(suite: Suite) -> None:
    """Groups that are frozen some times, and then killed, at random moments."""
    random, folder, checker = Random(suite.seed), suite.folder, suite.checker
    number = 0
    for life in range(suite.kills):
        world, of_world = divmod(life, LIVES_OF_A_WORLD)
        program = Program(suite.seed + world)
        if of_world == 0:
            number = 0
        for moment in moments(folder / f"world{world}", program, random, number, FROZEN):
            how, number = "killed" if moment.is_killed else "frozen", moment.number
            checker.check(f"{how} at random in {name_of(program.step(number))}", program, number, moment.folder)
        say(f"life {life + 1} of {suite.kills} ended in step {number}")


def killed_at_boundaries(suite: Suite) -> None:
    """States at each boundary, and groups that kill themselves there, in the first step that comes there."""
    checker, program = suite.checker, suite.program
    steps = {state.name: state.number for state in suite.boundaries}
    for state in suite.boundaries:
        checker.check(f"frozen at: {state.name}", program, state.number, state.folder)
    for name, (kind, table) in WHILE_WRITING.items():
        for number in range(STEPS):
            if isinstance(program.step(number), kind) and (kind is Compact or writes(program, number, table)):
                steps[name] = number
    for place, name in enumerate((*BOUNDARIES, *WHILE_WRITING)):
        kind_of_fault = f"killed at: {name}"
        if name not in steps:
            checker.report.of(kind_of_fault).told.append(f"no step of seed {suite.seed} comes there")
            continue
        killed = suite.folder / f"killed-at-{place}"
        attempts = ATTEMPTS if name in WHILE_WRITING else 1
        if not any(dies_at(name, suite, steps[name], killed) for _ in range(attempts)):
            checker.report.of(kind_of_fault).told.append("the group passed it alive")
        checker.check(kind_of_fault, program, steps[name], killed)
        say(kind_of_fault)


def dies_at(name: str, suite: Suite, number: int, folder: Path) -> bool:
    """Whether a group dies in a step, at a boundary at which it is to kill itself, and not after it."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(suite.before(number), folder)
    with working(folder, suite.seed, number, name) as worker:
        worker.go()
        return worker.said() == ""


def full_disks(suite: Suite) -> None:
    """A full disk of the tables, and one of Spark's own files."""
    full_disk_of_tables(suite.checker, suite.folder, suite.program, STEPS)
    full_disk_of_spark(suite.checker, suite.folder, suite.program, STEPS)


def other_deaths(suite: Suite) -> None:
    """Python killed alone, and SIGTERM."""
    python_killed_alone(suite.checker, suite.folder, suite.program, suite.before)
    terminated(suite.checker, suite.folder, suite.program, suite.before)


PARTS: Final[dict[str, Callable[[Suite], None]]] = {
    "boundaries": killed_at_boundaries,
    "deaths": other_deaths,
    "disks": full_disks,
    "random": random_moments,
}

IN_THE_UI: Final = "ui"
BY_TESTS: Final = "tests"


def told_of(report: Report, kind: str, part: Callable[[], None]) -> None:
    """Run a part; what keeps it from its end is told, and does not keep others from theirs."""
    try:
        part()
    except Exception as error:
        report.of(kind).told.append(f"{type(error).__name__} {error}")


def made(folder: Path) -> Path:
    """A folder that is there."""
    folder.mkdir(parents=True)
    return folder


def writes(program: Program, number: int, table: str) -> bool:
    """Whether a step changes a table."""
    return program.expected(number).tables()[table] != program.expected(number + 1).tables()[table]


def say(line: str) -> None:
    """Say something at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
