"""Moments of a program: random ones, at which a group is frozen, copied and killed, and those at its boundaries."""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from sessions_dagster_tests.builders import World
from sessions_dagster_tests.faults.boundaries import BOUNDARIES, at
from sessions_dagster_tests.faults.group import Worker, working
from sessions_dagster_tests.faults.program import (
    Apply,
    Compact,
    Follow,
    Forget,
    Land,
    Program,
    Rebuild,
    Step,
)

LONGEST_SECONDS: Final = 5.0
"""The longest time between two moments. A step takes from half a second to some seconds."""

NAMES: Final = {
    Land: "landing",
    Apply: "applying",
    Follow: "following",
    Compact: "compaction",
    Forget: "forgetting",
    Rebuild: "rebuild",
}


@dataclass(frozen=True)
class Moment:
    """A state of the tables at a moment.

    Attributes:
        is_killed: Whether the group was killed then; otherwise it stood still, and went on.
        number: The step under way.
        folder: A copy of what was there.
    """

    is_killed: bool
    number: int
    folder: Path


def name_of(step: Step) -> str:
    """What a step does, for the report."""
    return NAMES.get(type(step), "vacuum")


def moments(folder: Path, program: Program, random: Random, first: int, frozen: int) -> Iterator[Moment]:
    """The states of one life of a group, which begins with a step, is frozen some times, and then killed.

    Args:
        folder: Its input and warehouse; the states become folders beside it.
        program: What it works through.
        random: Chooses the moments.
        first: The step to begin with.
        frozen: How often it is frozen.
    """
    with working(folder, program.seed, first) as worker:
        number = first
        worker.go()
        for of_life in range(frozen + 1):
            number = _work(worker, number, random.uniform(0, LONGEST_SECONDS))
            copy = folder.parent / f"{folder.name}-step{number}-{of_life}-from{first}"
            is_last = of_life == frozen
            if is_last:
                worker.kill()
                _copy(folder, copy)
            else:
                with worker.frozen():
                    _copy(folder, copy)
            yield Moment(is_last, number, copy)


@dataclass(frozen=True)
class AtBoundary:
    """A state of the tables at a boundary.

    Attributes:
        name: The name of the boundary.
        number: The step under way.
        before: A copy of what was there before the step.
        folder: A copy of what was there at the boundary.
    """

    name: str
    number: int
    before: Path
    folder: Path


def at_boundaries(world: World, program: Program, steps: int, names: Sequence[str]) -> list[AtBoundary]:
    """Runs steps of a program in this process, and copies the tables the first time that each boundary is reached.

    What was there before each step is kept beside the world, see `before`.

    Args:
        world: The input and warehouse.
        program: The program.
        steps: How many of its steps to run.
        names: The boundaries.
    """
    reached: list[AtBoundary] = []
    folder, number = Path(world.warehouse.root).parent, 0
    folder.mkdir(parents=True, exist_ok=True)

    def copying(name: str) -> Callable[[], object]:
        def copy() -> None:
            copied = folder.parent / f"{folder.name}-boundary{len(reached)}"
            _copy(folder, copied)
            reached.append(AtBoundary(name, number, before(folder, number), copied))

        return copy

    with ExitStack() as stack:
        for name in names:
            stack.enter_context(at(BOUNDARIES[name], copying(name)))
        for number in range(steps):
            _copy(folder, before(folder, number))
            program.run(world, number)
    return reached


def before(folder: Path, number: int) -> Path:
    """Where `at_boundaries` keeps what was there before a step."""
    return folder.parent / f"{folder.name}-before{number}"


def _work(worker: Worker, number: int, seconds: float) -> int:
    """Let it work for some time. Returns the step that is under way then, which has begun."""
    deadline = time.monotonic() + seconds
    while (said := worker.said(deadline - time.monotonic())) is not None:
        assert said == f"done {number}", f"{said!r}: {worker.log_tail()}"
        number += 1
        worker.go()
    return number


def _copy(folder: Path, copy: Path) -> None:
    # Before its first landing has begun to write there is no warehouse.
    (folder / "warehouse").mkdir(exist_ok=True)
    shutil.copytree(folder / "warehouse", copy / "warehouse")
