"""Random moments: a group is frozen, copied and killed while it works through a program."""

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from sessions_dagster_tests.faults.group import Worker, working
from sessions_dagster_tests.faults.program import Apply, Compact, Follow, Land, Program, Step

LONGEST_SECONDS: Final = 5.0
"""The longest time between two moments. A step takes from half a second to some seconds."""

NAMES: Final = {Land: "landing", Apply: "applying", Follow: "following", Compact: "compaction"}


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
