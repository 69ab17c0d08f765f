"""What a run of the suite counts, and the table that it prints."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

_HEADER: Final = (
    "kind",
    "injections",
    "runs after",
    "lost",
    "doubled",
    "extra commits",
    "wrong states",
    "tests passed",
)


@dataclass
class Tally:
    """What is counted of one kind of fault.

    Attributes:
        injections: How often it was made.
        runs_after: How many runs of what had failed came after.
        lost: Rows that were not there after that.
        doubled: Rows that were there too often, or wrongly.
        extra_commits: Commits that nobody asked for.
        wrong_states: Tables that a reader saw, during the fault, in a state of no set of whole batches.
        tests_passed: How many tests of the kind passed, if it has tests of its own.
        told: What was wrong, in words.
    """

    injections: int = 0
    runs_after: int = 0
    lost: int = 0
    doubled: int = 0
    extra_commits: int = 0
    wrong_states: int = 0
    tests_passed: int = 0
    told: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether nothing was wrong."""
        return not (self.lost or self.doubled or self.extra_commits or self.wrong_states or self.told)


@dataclass
class Report:
    """The counts of all kinds, by the name of the kind."""

    tallies: dict[str, Tally] = field(default_factory=dict)

    def of(self, kind: str) -> Tally:
        """The counts of a kind."""
        return self.tallies.setdefault(kind, Tally())

    @property
    def is_clean(self) -> bool:
        """Whether there were faults, and nothing was wrong after any of them."""
        return bool(self.tallies) and all(map(_was_tried, self.tallies.values()))

    def __str__(self) -> str:
        rows = [(kind, *_counts(tally)) for kind, tally in self.tallies.items()]
        sums = tuple(sum(column) for column in zip(*(row[1:] for row in rows), strict=True))
        table = [_HEADER, *rows, ("all", *sums)]
        width = max(len(str(row[0])) for row in table)
        lines = ["  ".join([f"{row[0]:{width}}", *(f"{cell:>13}" for cell in row[1:])]) for row in table]
        return "\n".join([*lines, *_told(self.tallies)])


def _was_tried(tally: Tally) -> bool:
    return tally.is_clean and bool(tally.injections or tally.tests_passed)


def _counts(tally: Tally) -> tuple[int, ...]:
    return (
        tally.injections,
        tally.runs_after,
        tally.lost,
        tally.doubled,
        tally.extra_commits,
        tally.wrong_states,
        tally.tests_passed,
    )


def _told(tallies: Mapping[str, Tally]) -> list[str]:
    return [f"{kind}: {line}" for kind, tally in tallies.items() for line in tally.told]
