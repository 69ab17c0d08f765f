"""Measurements: the values of their repetitions, the median, and the target that the median is compared with."""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

Result = TypeVar("Result")
Name = TypeVar("Name")


@dataclass(frozen=True)
class Target:
    """The values that are good enough.

    Attributes:
        text: The target in words.
        low: The smallest value that meets the target.
        high: The largest value that meets the target.
    """

    text: str
    low: float = -math.inf
    high: float = math.inf

    def is_met_by(self, value: float) -> bool:
        """Return whether a value is within the limits, including the limits themselves."""
        return self.low <= value <= self.high


def at_most(limit: float, unit: str = "") -> Target:
    """Return a target that is an upper limit."""
    return Target(f"at most {limit:g} {unit}".rstrip(), high=limit)


def at_least(limit: float) -> Target:
    """Return a target that is a lower limit."""
    return Target(f"at least {limit:g}", low=limit)


def equal_within(share: float) -> Target:
    """Return a target for a ratio that may differ from 1 by at most a share."""
    return Target(f"equal within {share:.0%}", low=1 - share, high=1 + share)


TOLD: Final = Target("told")
"""The target of a row that has none: the seconds of something that people wait for."""


@dataclass(frozen=True)
class Measure:
    """A row of the result table.

    Attributes:
        name: What was measured.
        values: One value for each repetition.
        target: The target for the median of the values.
        condition: Whether the other conditions are met that the target states besides its limits.
        unit: The unit of the values; empty for a ratio.
    """

    name: str
    values: Sequence[float]
    target: Target
    condition: bool = True
    unit: str = ""

    @property
    def value(self) -> float:
        """The median of the values."""
        return statistics.median(self.values)

    @property
    def is_met(self) -> bool:
        """Whether the median meets the target."""
        return self.condition and self.target.is_met_by(self.value)


@dataclass(frozen=True)
class Findings:
    """The results of a scenario.

    Attributes:
        measures: Its rows of the result table.
        raw: The data that the rows were computed from, as JSON values.
    """

    measures: Sequence[Measure]
    raw: dict[str, Any] = field(default_factory=dict)


def timed(work: Callable[[], Result]) -> tuple[float, Result]:
    """Return the wall time of some work in seconds, and its result."""
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def in_turn(compared: Mapping[Name, Result], number: int) -> list[tuple[Name, Result]]:
    """Return the contenders of a repetition with their names, in reversed order in every other repetition.

    This way neither the state of the file cache nor a machine that gets slower favours the same contender each time.
    """
    forwards = list(compared.items())
    return forwards if number % 2 == 0 else forwards[::-1]


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
    """Divide value by value, so that a slow phase of the machine affects both sides of one ratio and no other ratio."""
    return [numerator / denominator for numerator, denominator in zip(numerators, denominators, strict=True)]
