"""What a correction changes: the values that pass from computing a correction to writing it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Final

from pyspark.sql import DataFrame, Observation
from pyspark.sql import functions as F

CHANGE: Final = "__change"
"""The column that says what is to be done with a row: see `Change`."""


class Change(StrEnum):
    """What a correction does with a row of `sessionized_events`, or finds of a session span."""

    INSERT = "insert"
    UPDATE = "update"
    REMOVE = "remove"
    KEEP = "keep"
    NEW_BOUNDS = "new_bounds"
    """Only of a session span: its bounds changed, and the rows of the session depend on them."""


class SessionChange(StrEnum):
    """What became of a session that was in the table before a correction."""

    KEPT = "kept"
    EXTENDED = "extended"
    MERGED = "merged"
    SPLIT = "split"
    SHRUNK = "shrunk"
    REMOVED = "removed"


def with_change(rows: DataFrame, *changes: Change) -> DataFrame:
    """The rows (with the column `__change`) that have one of some changes."""
    return rows.where(F.col(CHANGE).isin(*[change.value for change in changes]))


def count_of_corrected(session_counts: Mapping[SessionChange, int]) -> int:
    """How many sessions have other bounds than before or are gone, of sessions by what became of them."""
    return sum(count for change, count in session_counts.items() if change is not SessionChange.KEPT)


RowCounts = Mapping[Change, Mapping[date, int]]
"""The number of rows by what is done with them and by event date."""


@dataclass(frozen=True)
class AppendOnlyRows:
    """Rows of a new event date that are appended as they are. They are computed once, while they are written.

    Attributes:
        event_date: The event date of all of them.
        events: The events they are computed from, which may contain an event twice.
        rows: Complete rows of `sessionized_events`.
        max_count: There are no more rows than this.
        metrics: What is observed while `rows` are written: `rows`, their number, and `sessions`, how many sessions
            begin among them.
    """

    event_date: date
    events: DataFrame
    rows: DataFrame
    max_count: int
    metrics: Observation

    def is_empty(self) -> bool:
        """Whether there are no such rows. The rows themselves are not computed for this."""
        return self.events.isEmpty()


@dataclass(frozen=True)
class ChangeSet:
    """Everything that has to change in `sessionized_events`, computed but not written.

    Attributes:
        rows: Complete rows of `sessionized_events` with the column `__change`: all rows to insert, update and remove,
            and possibly rows to keep, which are not written.
        counts: How many of `rows` are inserted, updated and removed, by event date.
        append_only: Further rows to insert, which no correction has to look at; None if there can be none.
        session_changes: What became of the sessions that the table had before and whose bounds changed, as
            `transforms.session_changes` describes it; None if there are none.
        session_counts: How many sessions that the table had before were looked at, by what became of them.
        sessions_begun: How many sessions of `rows` there are that no session of the table before became a part of.
    """

    rows: DataFrame
    counts: RowCounts
    append_only: AppendOnlyRows | None = None
    session_changes: DataFrame | None = None
    session_counts: Mapping[SessionChange, int] = field(default_factory=dict)
    sessions_begun: int = 0

    def count(self, *changes: Change) -> int:
        """How many of `rows` have one of some changes."""
        return sum(sum(self.counts.get(change, {}).values()) for change in changes)

    def dates(self, *changes: Change) -> list[date]:
        """The event dates of the rows that have one of some changes, in order."""
        return sorted({day for change in changes for day in self.counts.get(change, {})})

    @property
    def sessions_corrected(self) -> int:
        """How many sessions that the table had before have other bounds now, or are gone."""
        return count_of_corrected(self.session_counts)
