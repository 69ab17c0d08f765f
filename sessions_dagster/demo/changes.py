"""The changes that a run made, found by comparing the rows of `sessionized_events` before and after it.

Plain Python over a small table: the demo relies on the table it reads back, not on the code that wrote it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any, NamedTuple, Self

from sessions_dagster.model.columns import DELIVERED_BY, EVENT, PRODUCT, SESSION_END, SESSION_START, TIMESTAMP, USER


class Event(NamedTuple):
    """The identity of an event. Events sort by user, product and time."""

    user_id: str
    product_code: str
    at: datetime
    event_id: str


class Session(NamedTuple):
    """A session by its key and bounds (UTC, both included)."""

    user_id: str
    product_code: str
    start: datetime
    end: datetime


@dataclass(frozen=True)
class EventRow:
    """The row of an event in the table, apart from the identity of the event.

    Attributes:
        session: The session of the event; None for an IDE event outside sessions.
        delivered_by: The column of that name: bit k is set when the batch of event date + k days contains the event.
    """

    session: Session | None
    delivered_by: int

    @property
    def days_late(self) -> int:
        """The number of days from the event date to the first batch that contains the event."""
        return (self.delivered_by & -self.delivered_by).bit_length() - 1


@dataclass(frozen=True)
class Snapshot:
    """The rows of `sessionized_events` at one version."""

    rows: Mapping[Event, EventRow]

    @classmethod
    def of_rows(cls, rows: Iterable[Mapping[str, Any]]) -> Self:
        """Make a snapshot from the rows of the table, each as a dictionary by column."""
        return cls({_event(row): EventRow(_session(row), row[DELIVERED_BY]) for row in rows})

    @property
    def sessions(self) -> set[Session]:
        """The sessions of the rows."""
        return {row.session for row in self.rows.values() if row.session is not None}


@dataclass(frozen=True)
class RowChanges:
    """The events whose row was inserted, updated or deleted."""

    inserted: frozenset[Event]
    updated: frozenset[Event]
    deleted: frozenset[Event]
    delivered_again: frozenset[Event]
    """The updated events that one more batch contains now."""


@dataclass(frozen=True)
class Correction:
    """Overlapping sessions of one key, before and after a run that changed them.

    Attributes:
        before: The sessions before the run, in order; empty if all of them are new.
        after: The sessions that replace them; empty if they were removed.
        arrived: New events in `after`, with the number of days each was late.
        retracted: Events of `before` that are no longer in the table.
        now_inside: Events of `after` that were in no session before.
        now_outside: Events of `before` that are in no session now.
    """

    before: tuple[Session, ...]
    after: tuple[Session, ...]
    arrived: Mapping[Event, int]
    retracted: tuple[Event, ...]
    now_inside: tuple[Event, ...]
    now_outside: tuple[Event, ...]

    @property
    def user_id(self) -> str:
        """The user of the sessions."""
        return (self.before + self.after)[0].user_id

    @property
    def product_code(self) -> str:
        """The product of the sessions."""
        return (self.before + self.after)[0].product_code


def row_changes(before: Snapshot, after: Snapshot) -> RowChanges:
    """Compare two snapshots row by row."""
    kept = before.rows.keys() & after.rows.keys()
    return RowChanges(
        inserted=frozenset(after.rows.keys() - before.rows.keys()),
        updated=frozenset(event for event in kept if before.rows[event] != after.rows[event]),
        deleted=frozenset(before.rows.keys() - after.rows.keys()),
        delivered_again=frozenset(
            event for event in kept if after.rows[event].delivered_by & ~before.rows[event].delivered_by
        ),
    )


def corrections(before: Snapshot, after: Snapshot) -> list[Correction]:
    """Compare two snapshots session by session. Returns the differences, ordered by user, product and time."""
    changed = []
    for sessions in _overlapping(before.sessions | after.sessions):
        old = tuple(session for session in sessions if session in before.sessions)
        new = tuple(session for session in sessions if session in after.sessions)
        if old != new:
            changed.append(_correction(before, after, old, new))
    return changed


def _correction(before: Snapshot, after: Snapshot, old: tuple[Session, ...], new: tuple[Session, ...]) -> Correction:
    events_before = sorted(event for event, row in before.rows.items() if row.session in old)
    events_after = sorted(event for event, row in after.rows.items() if row.session in new)
    return Correction(
        before=old,
        after=new,
        arrived={event: after.rows[event].days_late for event in events_after if event not in before.rows},
        retracted=tuple(event for event in events_before if event not in after.rows),
        now_inside=tuple(
            event for event in events_after if event in before.rows and before.rows[event].session is None
        ),
        now_outside=tuple(
            event for event in events_before if event in after.rows and after.rows[event].session is None
        ),
    )


def _overlapping(sessions: Iterable[Session]) -> Iterable[Sequence[Session]]:
    """Group the sessions that overlap. Two sessions that only touch are in different groups."""
    for _, of_key in groupby(sorted(sessions), key=lambda session: (session.user_id, session.product_code)):
        group: list[Session] = []
        for session in of_key:
            if group and session.start >= max(other.end for other in group):
                yield group
                group = []
            group.append(session)
        yield group


def _event(row: Mapping[str, Any]) -> Event:
    return Event(row[USER], row[PRODUCT], row[TIMESTAMP], row[EVENT])


def _session(row: Mapping[str, Any]) -> Session | None:
    if row[SESSION_START] is None:
        return None
    return Session(row[USER], row[PRODUCT], row[SESSION_START], row[SESSION_END])
