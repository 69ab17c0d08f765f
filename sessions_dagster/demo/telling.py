"""How the demo tells a run in the console: what was corrected and why, in words made from what the tables hold."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sessions_dagster.demo.changes import Correction, Event, RowChanges, Session
from sessions_dagster.model.columns import EVENT, PRODUCT, REASON, TIMESTAMP, USER

_TOLD_ONE_BY_ONE: Final = 3
"""Up to so many events are named; more are counted."""

_PLAIN_WIDTH: Final = 130
"""Columns of the output where it goes to a file or a pipe and has no width of its own."""


def story_console() -> Console:
    """A console as wide as the terminal, or wide enough for the tables where there is none."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_PLAIN_WIDTH)


def rows_line(changes: RowChanges) -> str:
    """What the run did to the rows of `sessionized_events`."""
    line = f"{len(changes.inserted)} inserted, {len(changes.updated)} updated, {len(changes.deleted)} deleted"
    if changes.delivered_again:
        line += f"; delivered again and kept once: {_listed(changes.delivered_again)}"
    return line


def rejected_line(row: Mapping[str, Any]) -> str:
    """A row of `rejected_events`: why, and what the sender wrote."""
    written = ", ".join("NULL" if row[name] is None else row[name] for name in (USER, EVENT, PRODUCT, TIMESTAMP))
    return f"{row[REASON]}: {written}"


def corrections_table(corrections: Iterable[Correction], user_action_ids: Collection[str]) -> Table:
    """One row per group of sessions that turned into one another: bounds before and after, and why."""
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
    """What happened to the sessions, and the events that made it happen.

    Args:
        correction: What differs.
        user_action_ids: The event ids whose events can change a session.
    """
    return f"{_outcome(correction)}: {'; '.join(_causes(correction, user_action_ids))}"


def _outcome(correction: Correction) -> str:
    old, new = correction.before, correction.after
    if not old:
        return "new"
    if not new:
        return "gone"
    if len(old) > 1 and len(new) == 1:
        return "joined"
    if len(old) == 1 and len(new) > 1:
        return "split"
    if len(old) == 1 and new[0].start <= old[0].start and new[0].end >= old[0].end:
        return "extended"
    return "changed"


def _causes(correction: Correction, user_action_ids: Collection[str]) -> Iterator[str]:
    acted = {event: late for event, late in correction.arrived.items() if event.event_id in user_action_ids}
    for days_late in sorted(set(acted.values())):
        arrived = [event for event, late in acted.items() if late == days_late]
        yield f"{_listed(arrived)} {_came(days_late)}"
    if correction.withdrawn:
        yield f"{_listed(correction.withdrawn)} no longer delivered"
    if correction.drawn_in:
        yield f"{_listed(correction.drawn_in)} now inside"
    if correction.left_out:
        yield f"{_listed(correction.left_out)} now outside"


def _came(days_late: int) -> str:
    if days_late == 0:
        return "came on time"
    return f"came {days_late} day{'s' if days_late > 1 else ''} late"


def _listed(events: Collection[Event]) -> str:
    if len(events) > _TOLD_ONE_BY_ONE:
        return f"{len(events)} events"
    return ", ".join(f"{event.event_id} {event.at:%H:%M:%S}" for event in sorted(events))


def _spans(sessions: Iterable[Session]) -> str:
    return "\n".join(f"{_day_and_time(session.start)} to {_end(session)}" for session in sessions) or "-"


def _end(session: Session) -> str:
    same_day = session.start.date() == session.end.date()
    return f"{session.end:%H:%M:%S}" if same_day else _day_and_time(session.end)


def _day_and_time(at: datetime) -> str:
    return f"{at:%a %d %H:%M:%S}"
