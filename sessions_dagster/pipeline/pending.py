"""Which batches are pending: landed since `sessionized_events` last reflected them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime

from sessions_dagster.storage.commit_metadata import AppliedBatches, applied_batches, version_followed
from sessions_dagster.storage.slices import slices
from sessions_dagster.storage.warehouse import Warehouse


@dataclass(frozen=True)
class PendingBatch:
    """A batch that landed since the table last reflected it.

    Attributes:
        day: The date of the batch.
        landed_at: When it landed (UTC); None if its slice of `raw_events` is empty.
        may_exist: Whether the table may have events of an earlier landing of it.
    """

    day: date
    landed_at: datetime | None
    may_exist: bool


def pending_batches(
    window: Collection[date], landed: Mapping[date, datetime], applied: AppliedBatches
) -> list[PendingBatch]:
    """The batches of a window that landed since the table last reflected them.

    Args:
        window: The dates of the batches to look at.
        landed: When each batch with accepted rows landed (UTC).
        applied: The landings that the table reflects.

    Returns:
        The pending batches, in the order of the window.
    """
    pending = []
    for day in window:
        landed_at = landed.get(day)
        if day in applied.landings:
            if landed_at != applied.landings[day]:
                pending.append(PendingBatch(day, landed_at, may_exist=True))
        elif landed_at is not None or not applied.complete:
            pending.append(PendingBatch(day, landed_at, may_exist=not applied.complete))
    return pending


def days_in_sessions(warehouse: Warehouse, days: Collection[date]) -> set[date]:
    """Those of some batches whose newest landing is in `sessions`, by what the logs of the tables say.

    A batch that landed again and changed nothing is not among them: no commit was made for it. One that a RESTORE of
    `sessionized_events` took back is, until `sessions` follows. One whose slice has rows of several landings is not.

    Args:
        warehouse: Where the tables are.
        days: The dates of the batches.
    """
    raw_events = warehouse.open(warehouse.raw_events)
    events = warehouse.open(warehouse.sessionized_events)
    sessions = warehouse.open(warehouse.sessions)
    if raw_events is None or events is None or sessions is None:
        return set()
    followed = version_followed(sessions, events)
    if followed is None:
        return set()
    found = slices(raw_events)
    pending = pending_batches(days, found.landings, applied_batches(events, at_version=followed))
    return set(days) - {batch.day for batch in pending} - found.unclear
