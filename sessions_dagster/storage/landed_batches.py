"""Which content of each batch has landed, kept with `raw_events` itself.

A landing is two commits, and one that changes nothing has none. So what landed is noted in a small file beside the log
when both commits are done. The time of the landing ties a note to the rows: after a RESTORE, or when a landing died
half-way, the two differ, and the note does not count. A vacuum and a clean-up of the log leave the notes alone.
"""

import json
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

from sessions_dagster.storage.delta_log import landings
from sessions_dagster.storage.filesystem import names_in, read_text, write_text
from sessions_dagster.storage.warehouse import Warehouse

_FOLDER: Final = "_landed"
"""A name with an underscore in front is not a part of a Delta table."""

_FINGERPRINT: Final = "fingerprint"
_LANDED_AT: Final = "landed_at"
_READ_AT_ONCE: Final = 8


@dataclass(frozen=True)
class LandedBatch:
    """What the tables say of a batch that has landed.

    Attributes:
        fingerprint: Which content of its folder landed (see `input.folders.BatchContent`). None if that is not known:
            an older version landed it, a landing died before it was done, or `raw_events` was restored.
        landed_at: When it landed (UTC, in milliseconds); None if it has no accepted row.
    """

    fingerprint: str | None
    landed_at: datetime | None


def landed_batches(warehouse: Warehouse, days: Collection[date]) -> dict[date, LandedBatch]:
    """What the tables have now of some batches, found out without Spark and without anything of Dagster.

    Args:
        warehouse: Where the tables are.
        days: The dates of the batches.

    Returns:
        Those of the batches that have landed. One whose rows were removed is not among them.

    Raises:
        StorageError: If the storage fails.
    """
    raw_events = warehouse.open(warehouse.raw_events)
    if raw_events is None:
        return {}
    times = landings(raw_events)
    notes = _notes(warehouse, days)
    landed: dict[date, LandedBatch] = {}
    for day in days:
        note = notes.get(day)
        if note is not None and note.landed_at == times.get(day):
            landed[day] = note
        elif day in times:
            landed[day] = LandedBatch(None, times[day])
    return landed


def landed_days(warehouse: Warehouse, days: Collection[date]) -> set[date]:
    """Those of some batches that have landed: the keys of `landed_batches`, for which fewer notes are read.

    Args:
        warehouse: Where the tables are.
        days: The dates of the batches.

    Raises:
        StorageError: If the storage fails.
    """
    raw_events = warehouse.open(warehouse.raw_events)
    if raw_events is None:
        return set()
    with_rows = landings(raw_events).keys() & set(days)
    notes = _notes(warehouse, set(days) - with_rows)
    return with_rows | {day for day, note in notes.items() if note.landed_at is None}


def note_landing(warehouse: Warehouse, day: date, landed: LandedBatch) -> None:
    """Note that a batch has landed in full.

    Args:
        warehouse: Where the tables are; `raw_events` must exist.
        day: The date of the batch.
        landed: The landing.

    Raises:
        OSError: If the note may not be written.
        StorageError: If the storage fails.
    """
    at = landed.landed_at and landed.landed_at.isoformat()
    write_text(_location(warehouse, day), json.dumps({_FINGERPRINT: landed.fingerprint, _LANDED_AT: at}))


def _notes(warehouse: Warehouse, days: Collection[date]) -> dict[date, LandedBatch]:
    """The notes on some batches; those that have none are not there."""
    if not days:
        return {}
    # To ask for each note that may be there would be a request for every day.
    names = names_in(f"{warehouse.raw_events}/{_FOLDER}")
    noted = [day for day in days if _name(day) in names]
    # On an object store a read is a wait for an answer.
    with ThreadPoolExecutor(_READ_AT_ONCE) as pool:
        notes = zip(noted, pool.map(lambda day: _note(warehouse, day), noted), strict=True)
        return {day: note for day, note in notes if note is not None}


def _note(warehouse: Warehouse, day: date) -> LandedBatch | None:
    try:
        note = json.loads(read_text(_location(warehouse, day)))
    except (FileNotFoundError, ValueError):
        return None
    at = note[_LANDED_AT]
    return LandedBatch(note[_FINGERPRINT], at and datetime.fromisoformat(at))


def _location(warehouse: Warehouse, day: date) -> str:
    return f"{warehouse.raw_events}/{_FOLDER}/{_name(day)}"


def _name(day: date) -> str:
    return f"{day.isoformat()}.json"
