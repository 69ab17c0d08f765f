"""What every scenario is given: folders for input and tables, how large the run is, and a way to report progress."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final, Generic, TypeVar

from benchmarks.workload import Workload, write_batches
from sessions_dagster.input.folders import InputRoot

Size = TypeVar("Size")


@dataclass(frozen=True)
class Scale:
    """How large a run of the benchmark is: the numbers that scenarios share.

    Attributes:
        is_full: Whether the numbers are meant to be kept. A small run only shows that everything works.
        history_days: Days that are applied before anything is measured.
        measured_days: Repetitions in every scenario that does not set its own number.
        warm_up_days: How many of the last history days all contenders run, not only the product.
        warm_up_rounds: Repetitions that are not measured, in scenarios that repeat the same day.
    """

    is_full: bool
    history_days: int
    measured_days: int
    warm_up_days: int
    warm_up_rounds: int


FULL: Final = Scale(
    is_full=True,
    history_days=6,
    measured_days=3,
    # The second run in a process is still slower than the third.
    warm_up_days=2,
    warm_up_rounds=2,
)

SMALL: Final = Scale(is_full=False, history_days=1, measured_days=1, warm_up_days=0, warm_up_rounds=0)
"""For a run that only shows that everything works."""


@dataclass(frozen=True)
class Sizes(Generic[Size]):
    """A size that belongs to one scenario, such as its events a day.

    Attributes:
        full: The size in a full run.
        small: The size in a small run.
    """

    full: Size
    small: Size


@dataclass(frozen=True)
class Bench:
    """What every scenario is given.

    Attributes:
        folder: The folder for generated input and tables.
        scale: How large the run is.
        log: Reports progress to whoever is waiting.
    """

    folder: Path
    scale: Scale
    log: Callable[[str], None]

    def size(self, sizes: Sizes[Size]) -> Size:
        """Return the size of a scenario at the scale of this run."""
        return sizes.full if self.scale.is_full else sizes.small

    def input(self, workload: Workload, days: Sequence[date]) -> InputRoot:
        """Return the input root of a workload, after generating those batches that do not exist yet."""
        self.log(f"generating the missing ones of {len(days)} batches of {workload.events_per_day:,} events")
        return InputRoot(str(write_batches(workload, days, self.folder / "input")))

    def tables(self, scenario: str) -> Path:
        """Return an empty folder for the tables of a scenario."""
        folder = self.folder / "tables" / scenario
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder


def in_words(count: int) -> str:
    """Return a round number in short form, such as `5 M`."""
    for unit, name in ((1_000_000, "M"), (1_000, "k")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return str(count)
