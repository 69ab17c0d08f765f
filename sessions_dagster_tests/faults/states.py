"""What a warehouse is found to be, compared with what it must be."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sessions_dagster.model.columns import (
    BATCH_DATE,
    EVENT,
    EVENTS,
    PRODUCT,
    SESSION_END,
    SESSION_START,
    TIMESTAMP,
    USER,
    USER_ACTIONS,
)
from sessions_dagster.model.tables import TABLES
from sessions_dagster_tests.builders import read_without_spark
from sessions_dagster_tests.corrections import entries
from sessions_dagster_tests.faults.program import (
    LEFT_BEHIND,
    Apply,
    Compact,
    Follow,
    Land,
    Rebuild,
    Rows,
    Step,
    Vacuum,
)

_COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "raw_events": (BATCH_DATE, USER, EVENT, PRODUCT, TIMESTAMP),
    "rejected_events": (BATCH_DATE, USER, EVENT, PRODUCT),
    "sessionized_events": (USER, EVENT, PRODUCT, TIMESTAMP, SESSION_START, SESSION_END),
    "sessions": (USER, PRODUCT, SESSION_START, SESSION_END, EVENTS, USER_ACTIONS),
}
"""The columns that are compared: all others follow from them, or differ from run to run."""

_MAINTENANCE: Final[Mapping[type, Sequence[str]]] = {
    Compact: ("OPTIMIZE", "REORG", "SET TBLPROPERTIES"),
    Vacuum: ("VACUUM START", "VACUUM END"),
}
"""What a run of maintenance commits, each at most once a table."""


@dataclass(frozen=True)
class Found:
    """A warehouse as a reader finds it, and as its logs tell its history.

    Attributes:
        tables: The rows of each table.
        operations: What the commits of each table say that they are, from the oldest to the newest.
    """

    tables: Mapping[str, Rows]
    operations: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Difference:
    """How tables differ from what they must be.

    Attributes:
        lost: Rows that are not there.
        doubled: Rows that are there too often, or should not be there at all.
    """

    lost: int
    doubled: int


def look(warehouse: Path) -> Found:
    """Read all tables of a warehouse without Spark. One that does not exist has no rows."""
    tables: dict[str, Rows] = {
        name: Counter(map(tuple, read_without_spark(str(warehouse / name), columns)))
        for name, columns in _COLUMNS.items()
    }
    # Which versions made them depends on how often the tables were compacted.
    corrections = [tuple(correction) for _, correction in entries(str(warehouse / "session_corrections"))]
    operations = {name: _operations(warehouse / name) for name in TABLES}
    return Found({**tables, "session_corrections": Counter(corrections)}, operations)


def difference(found: Mapping[str, Rows], expected: Mapping[str, Rows]) -> Difference:
    """How the tables that were found differ from those that must be there."""
    return Difference(
        sum((expected[name] - found[name]).total() for name in TABLES),
        sum((found[name] - expected[name]).total() for name in TABLES),
    )


def wrong_states(found: Mapping[str, Rows], before: Mapping[str, Rows], after: Mapping[str, Rows]) -> list[str]:
    """The tables of which a reader saw what they are neither before a step nor after it."""
    return [name for name in TABLES if found[name] not in (before[name], after[name])]


def extra_commits(
    step: Step,
    found: Found,
    afterwards: Found,
    before: Mapping[str, Rows],
    after: Mapping[str, Rows],
    attempts: int = 1,
) -> int:
    """How many commits more than allowed were made since a warehouse was found.

    Args:
        step: The step that was run in it.
        found: What it was found to be.
        afterwards: The same after the step.
        before: What the tables must be before the step.
        after: The same after it.
        attempts: How many runs of the step may have committed.
    """
    made = {name: afterwards.operations[name][len(found.operations[name]) :] for name in TABLES}
    if isinstance(step, Compact | Vacuum):
        allowed = Counter(dict.fromkeys(_MAINTENANCE[type(step)], attempts))
        return sum((Counter(operations) - allowed).total() for operations in made.values())
    most = _commits_allowed(step, found, before, after)
    return sum(max(0, len(operations) - attempts * most[name]) for name, operations in made.items())


def _commits_allowed(step: Step, found: Found, before: Mapping[str, Rows], after: Mapping[str, Rows]) -> dict[str, int]:
    """How many commits a run of a step may make in a warehouse in which it may have been run in part.

    A table that the step has brought to its end gets none, but for a landing, which always lands. Each table may be
    created. Entries of a dead run are dropped by a commit, and another one, without rows, keeps that run from its own.
    """
    created = {name: int(not found.operations[name]) for name in TABLES}

    def unless_done(name: str) -> int:
        return int(found.tables[name] != after[name])

    match step:
        case Land():
            made = {"raw_events": 1, "rejected_events": 1}
        case Apply():
            were_left = found.tables["session_corrections"] != before["session_corrections"]
            pending = unless_done("sessionized_events")
            made = {
                "sessionized_events": pending + int(were_left and pending),
                "session_corrections": pending + int(were_left and pending),
            }
        case Follow():
            # If it ends in the same rows, one cannot see whether it was done.
            made = {"sessions": max(unless_done("sessions"), int(before["sessions"] == after["sessions"]))}
        case Rebuild():
            # A batch may have landed with the same rows. The commit that says that it is applied changes none.
            made = {"sessionized_events": 1, "sessions": 1}
        case _:
            # A table without a row of the user gets a commit, too, so that no run that does not know of it can commit.
            made = dict.fromkeys(TABLES, 1)
    return {name: made.get(name, 0) + created[name] for name in TABLES}


def left_behind(warehouse: Path) -> list[Path]:
    """The data files of runs that died long ago."""
    return list(warehouse.rglob(LEFT_BEHIND))


def _commits(table: Path) -> list[Path]:
    return [file for file in (table / "_delta_log").glob("*.json") if file.stem.isdecimal()]


def _operations(table: Path) -> list[str]:
    lines = [line for commit in sorted(_commits(table)) for line in commit.read_text().splitlines()]
    return [json.loads(line)["commitInfo"]["operation"] for line in lines if line.startswith('{"commitInfo"')]
