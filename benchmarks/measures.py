"""What a measurement is: the values of its repetitions, their median and spread, and the target it is held against."""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

Made = TypeVar("Made")
Name = TypeVar("Name")


@dataclass(frozen=True)
class Target:
    """What a value should be.

    Attributes:
        text: In words.
        low: The least value that meets it.
        high: The greatest value that meets it.
    """

    text: str
    low: float = -math.inf
    high: float = math.inf

    def is_met_by(self, value: float) -> bool:
        """Whether a value is within the limits, which are."""
        return self.low <= value <= self.high


def at_most(limit: float, unit: str = "") -> Target:
    """A target that smaller values meet."""
    return Target(f"at most {limit:g} {unit}".rstrip(), high=limit)


def at_least(limit: float) -> Target:
    """A target that greater values meet."""
    return Target(f"at least {limit:g}", low=limit)


def equal_within(share: float) -> Target:
    """A ratio of two things that should be equal, as far as a share of them."""
    return Target(f"equal within {share:.0%}", low=1 - share, high=1 + share)


@dataclass(frozen=True)
class Measure:
    """A row of the target table.

    Attributes:
        name: What was measured.
        values: One value a repetition.
        target: What their median should be.
        condition: What must be true besides, where the target says so.
        unit: Of the values; none for a ratio.
    """

    name: str
    values: Sequence[float]
    target: Target
    condition: bool = True
    unit: str = ""

    @property
    def value(self) -> float:
        """The median of the repetitions."""
        return statistics.median(self.values)

    @property
    def is_met(self) -> bool:
        """Whether the target is."""
        return self.condition and self.target.is_met_by(self.value)


@dataclass(frozen=True)
class Findings:
    """What a scenario found.

    Attributes:
        measures: Its rows of the target table.
        raw: What they were computed from, as JSON knows it.
    """

    measures: Sequence[Measure]
    raw: dict[str, Any] = field(default_factory=dict)


def timed(work: Callable[[], Made]) -> tuple[float, Made]:
    """The wall time of some work in seconds, and what it made."""
    began = time.perf_counter()
    made = work()
    return time.perf_counter() - began, made


def in_turn(compared: Mapping[Name, Made], number: int) -> list[tuple[Name, Made]]:
    """What is compared, with its names, in the order of a repetition: the other way round in every other one.

    Where files are in memory, or the machine gets slower, is not always the same one better off then.
    """
    forwards = list(compared.items())
    return forwards if number % 2 == 0 else forwards[::-1]


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
    """Ratio by ratio, so that what slows a machine down for a while slows both sides of one ratio only."""
    return [numerator / denominator for numerator, denominator in zip(numerators, denominators, strict=True)]
