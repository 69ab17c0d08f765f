"""What a warehouse is found to be, compared with what it must be."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sessions_dagster.model.columns import (
    BATCH_DATE,
    EVENT,
    EVENTS,
    OLD_END,
    OLD_START,
    PRODUCT,
    SESSION_END,
    SESSION_START,
    TIMESTAMP,
    USER,
    USER_ACTIONS,
)
from sessions_dagster.model.tables import TABLES
from sessions_dagster_tests.builders import read_without_spark
from sessions_dagster_tests.faults.program import LEFT_BEHIND, Apply, Compact, Follow, Land, Rows, Step

_COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "raw_events": (BATCH_DATE, USER, EVENT, PRODUCT, TIMESTAMP),
    "rejected_events": (BATCH_DATE, USER, EVENT, PRODUCT),
    "sessionized_events": (USER, EVENT, PRODUCT, TIMESTAMP, SESSION_START, SESSION_END),
    "session_corrections": (USER, PRODUCT, OLD_START, OLD_END),
    "sessions": (USER, PRODUCT, SESSION_START, SESSION_END, EVENTS, USER_ACTIONS),
}
"""The columns that are compared: all others follow from them, or differ from run to run."""


@dataclass(frozen=True)
class Found:
    """A warehouse as a reader finds it, and as its logs tell its history.

    Attributes:
        tables: The rows of each table.
        commits: The number of commits of each table.
    """

    tables: Mapping[str, Rows]
    commits: Mapping[str, int]


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
    return Found(
        {name: Counter(map(tuple, read_without_spark(str(warehouse / name), _COLUMNS[name]))) for name in TABLES},
        {name: len(_commits(warehouse / name)) for name in TABLES},
    )


def difference(found: Mapping[str, Rows], expected: Mapping[str, Rows]) -> Difference:
    """How the tables that were found differ from those that must be there."""
    return Difference(
        sum((expected[name] - found[name]).total() for name in TABLES),
        sum((found[name] - expected[name]).total() for name in TABLES),
    )


def wrong_states(found: Mapping[str, Rows], before: Mapping[str, Rows], after: Mapping[str, Rows]) -> list[str]:
    """The tables of which a reader saw what they are neither before a step nor after it."""
    return [name for name in TABLES if found[name] not in (before[name], after[name])]


def commits_allowed(step: Step, found: Found, before: Mapping[str, Rows], after: Mapping[str, Rows]) -> dict[str, int]:
    """How many commits a run of a step may make in a warehouse in which it may have been run in part.

    A table that the step has brought to its end gets none, but for a landing, which always lands. Each table may be
    created. Entries of a dead run are dropped by a commit, and another one, without rows, keeps that run from its own.
    """
    created = {name: int(not found.commits[name]) for name in TABLES}

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
        case Compact():
            made = dict.fromkeys(TABLES, 3)
        case _:
            made = dict.fromkeys(TABLES, 2)
    return {name: made.get(name, 0) + created[name] for name in TABLES}


def extra_commits(found: Found, afterwards: Found, allowed: Mapping[str, int]) -> int:
    """How many commits more than allowed were made."""
    return sum(max(0, afterwards.commits[name] - found.commits[name] - allowed[name]) for name in TABLES)


def left_behind(warehouse: Path) -> list[Path]:
    """The data files of runs that died long ago."""
    return list(warehouse.rglob(LEFT_BEHIND))


def _commits(table: Path) -> list[Path]:
    return [file for file in (table / "_delta_log").glob("*.json") if file.stem.isdecimal()]


def operations(table: Path) -> list[str]:
    """What the commits of a table say that they are, from the oldest to the newest."""
    lines = [line for commit in sorted(_commits(table)) for line in commit.read_text().splitlines()]
    return [json.loads(line)["commitInfo"]["operation"] for line in lines if line.startswith('{"commitInfo"')]
