"""The demo's console output: what a run corrected and why, in words derived from the rows of the tables."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import date, datetime
from typing import Any, Final

import dagster as dg
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sessions_dagster.demo.changes import Correction, Event, RowChanges, Session
from sessions_dagster.model.changes import SessionChange
from sessions_dagster.model.columns import EVENT, PRODUCT, REASON, TIMESTAMP, USER
from sessions_dagster.model.counts import number_of

_MAX_LISTED: Final = 3
"""Maximum number of events that are listed one by one; a larger group is only counted."""

_PLAIN_WIDTH: Final = 130
"""Width of the output, in characters, when it goes to a file or a pipe."""


def report_console() -> Console:
    """A console as wide as the terminal, or wide enough for the tables if there is no terminal."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_PLAIN_WIDTH)


def checks_line(evaluations: Iterable[dg.AssetCheckEvaluation], day: date) -> str:
    """How many checks of a day have passed, and which have not.

    A run of the day also makes checks of other days: one of all days until today, of which the week of the demo is long
    over, and those of later days that an earlier demo has landed.
    """
    of_day = [each for each in evaluations if each.partition == day.isoformat()]
    failed = sorted({each.check_name for each in of_day if not each.passed})
    passed = f"{sum(each.passed for each in of_day)} of {number_of(len(of_day), 'check')} passed"
    return f"{passed}, not {', '.join(failed)}" if failed else passed


def rows_line(changes: RowChanges) -> str:
    """The number of rows of `sessionized_events` that the run inserted, updated and deleted."""
    line = f"{len(changes.inserted)} inserted, {len(changes.updated)} updated, {len(changes.deleted)} deleted"
    if changes.delivered_again:
        line += f"; delivered again and kept once: {_listed(changes.delivered_again)}"
    return line


def rejected_line(row: Mapping[str, Any]) -> str:
    """A row of `rejected_events`: the reason, then the values that the sender wrote."""
    written = ", ".join("NULL" if row[name] is None else row[name] for name in (USER, EVENT, PRODUCT, TIMESTAMP))
    return f"{row[REASON]}: {written}"


def corrections_table(corrections: Iterable[Correction], user_action_ids: Collection[str]) -> Table:
    """One row per correction: the bounds of the sessions before and after, and the reason."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for heading in ("user · product", "session before (UTC)", "session now (UTC)", "why"):
        table.add_column(heading)
    for correction in corrections:
        table.add_row(
            f"[bold]{escape(correction.user_id)}[/] · {escape(correction.product_code)}",
            _spans(correction.before),
            _spans(correction.after),
            escape(reason(correction, user_action_ids)),
        )
    return table


def reason(correction: Correction, user_action_ids: Collection[str]) -> str:
    """The kind of a correction, followed by the events that caused it.

    Args:
        correction: Sessions that changed.
        user_action_ids: The event ids whose events can change a session.
    """
    return f"{_kind(correction)}: {'; '.join(_causes(correction, user_action_ids))}"


def _kind(correction: Correction) -> str:
    """`new`, or a kind of change as in `session_corrections`."""
    old, new = correction.before, correction.after
    if not old:
        return "new"
    if not new:
        return SessionChange.REMOVED
    if len(old) == len(new) == 1:
        grew = new[0].start <= old[0].start and new[0].end >= old[0].end
        return SessionChange.EXTENDED if grew else SessionChange.SHRUNK
    kinds = {SessionChange.MERGED: old, SessionChange.SPLIT: new}
    return " and ".join(kind for kind, sessions in kinds.items() if len(sessions) > 1)


def _causes(correction: Correction, user_action_ids: Collection[str]) -> Iterator[str]:
    acted = {event: late for event, late in correction.arrived.items() if event.event_id in user_action_ids}
    for days_late in sorted(set(acted.values())):
        arrived = [event for event, late in acted.items() if late == days_late]
        yield f"{_listed(arrived)} {_came(days_late)}"
    if correction.retracted:
        yield f"{_listed(correction.retracted)} no longer delivered"
    if correction.now_inside:
        yield f"{_listed(correction.now_inside)} now inside"
    if correction.now_outside:
        yield f"{_listed(correction.now_outside)} now outside"


def _came(days_late: int) -> str:
    if days_late == 0:
        return "came on time"
    return f"came {days_late} day{'s' if days_late > 1 else ''} late"


def _listed(events: Collection[Event]) -> str:
    if len(events) > _MAX_LISTED:
        return f"{len(events)} events"
    return ", ".join(f"{event.event_id} {event.at:%H:%M:%S}" for event in sorted(events))


def _spans(sessions: Iterable[Session]) -> str:
    return "\n".join(f"{_day_and_time(session.start)} to {_end(session)}" for session in sessions) or "-"


def _end(session: Session) -> str:
    same_day = session.start.date() == session.end.date()
    return f"{session.end:%H:%M:%S}" if same_day else _day_and_time(session.end)


def _day_and_time(at: datetime) -> str:
    return f"{at:%a %d %H:%M:%S}"
