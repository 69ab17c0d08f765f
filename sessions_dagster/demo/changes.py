"""What a run did, found by comparing the rows that `sessionized_events` held before it and holds after it.

Plain Python over a small table: the demo trusts what it reads back, not the code that wrote it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any, NamedTuple, Self

from sessions_dagster.model.columns import DELIVERED_BY, EVENT, PRODUCT, SESSION_END, SESSION_START, TIMESTAMP, USER


class Event(NamedTuple):
    """An event by its identity, in the order that events are told in."""

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
class Placed:
    """What the table says of an event.

    Attributes:
        session: The session it is in; None for an IDE event outside sessions.
        delivered_by: The column of that name: bit k is set when the batch of event date + k days brings it.
    """

    session: Session | None
    delivered_by: int

    @property
    def days_late(self) -> int:
        """How many days after its event date the first batch that brings it landed."""
        return (self.delivered_by & -self.delivered_by).bit_length() - 1


@dataclass(frozen=True)
class Snapshot:
    """The rows of `sessionized_events` at one version."""

    rows: Mapping[Event, Placed]

    @classmethod
    def of_rows(cls, rows: Iterable[Mapping[str, Any]]) -> Self:
        """Take the rows of the table, each as a dictionary by column."""
        return cls({_event(row): Placed(_session(row), row[DELIVERED_BY]) for row in rows})

    @property
    def sessions(self) -> set[Session]:
        """The sessions that the rows are in."""
        return {placed.session for placed in self.rows.values() if placed.session is not None}


@dataclass(frozen=True)
class RowChanges:
    """The events whose row is new, differs, or is gone."""

    inserted: frozenset[Event]
    updated: frozenset[Event]
    deleted: frozenset[Event]
    delivered_again: frozenset[Event]
    """Those of the updated ones that were there already when one more batch brought them."""


@dataclass(frozen=True)
class Correction:
    """Sessions of one key that turned into one another.

    Attributes:
        before: The sessions that the table held, in order; none if they are new.
        after: The sessions that it holds instead; none if they are gone.
        arrived: New events in `after`, with the number of days each was late.
        withdrawn: Events of `before` that the table holds no longer.
        drawn_in: Events of `after` that were in no session before.
        left_out: Events of `before` that are in no session now.
    """

    before: tuple[Session, ...]
    after: tuple[Session, ...]
    arrived: Mapping[Event, int]
    withdrawn: tuple[Event, ...]
    drawn_in: tuple[Event, ...]
    left_out: tuple[Event, ...]

    @property
    def user_id(self) -> str:
        """Whose sessions they are."""
        return (self.before + self.after)[0].user_id

    @property
    def product_code(self) -> str:
        """The product they are in."""
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
    """Compare two snapshots session by session: those that differ, ordered by user, product and time."""
    changed = []
    for sessions in _overlapping(before.sessions | after.sessions):
        old = tuple(session for session in sessions if session in before.sessions)
        new = tuple(session for session in sessions if session in after.sessions)
        if old != new:
            changed.append(_correction(before, after, old, new))
    return changed


def _correction(before: Snapshot, after: Snapshot, old: tuple[Session, ...], new: tuple[Session, ...]) -> Correction:
    were_in = sorted(event for event, placed in before.rows.items() if placed.session in old)
    are_in = sorted(event for event, placed in after.rows.items() if placed.session in new)
    return Correction(
        before=old,
        after=new,
        arrived={event: after.rows[event].days_late for event in are_in if event not in before.rows},
        withdrawn=tuple(event for event in were_in if event not in after.rows),
        drawn_in=tuple(event for event in are_in if event in before.rows and before.rows[event].session is None),
        left_out=tuple(event for event in were_in if event in after.rows and after.rows[event].session is None),
    )


def _overlapping(sessions: Iterable[Session]) -> Iterable[Sequence[Session]]:
    """The sessions in groups that overlap; two that only touch are not one group."""
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
