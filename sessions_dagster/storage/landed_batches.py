"""Which content of each batch has landed, kept with `raw_events` itself.

A landing is two commits, and one that changes nothing has none. So what landed is noted in a small file beside the log
when both commits are done. The time of the landing ties a note to the rows: after a RESTORE, or when a landing died
half-way, the two differ, and the note does not count. A vacuum and a clean-up of the log leave the notes alone.
"""

import json
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

from pyspark.sql import SparkSession

from sessions_dagster.storage.filesystem import names_in, read_text, write_text
from sessions_dagster.storage.slices import slices
from sessions_dagster.storage.through_spark import add_text, texts_below
from sessions_dagster.storage.warehouse import Warehouse

_FOLDER: Final = "_landed"
"""A name with an underscore in front is not a part of a Delta table."""

_FINGERPRINT: Final = "fingerprint"
_LANDED_AT: Final = "landed_at"
_READ_AT_ONCE: Final = 8
_DATE_LENGTH: Final = len("2025-09-20")


@dataclass(frozen=True)
class LandedBatch:
    """What the tables say of a batch that has landed.

    Attributes:
        fingerprint: Which content of its folder landed (see `input.folders.BatchContent`). None if that is not known:
            an older version landed it, a landing died before it was done, `raw_events` was restored, or somebody else
            wrote rows into its slice.
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
    found = slices(raw_events)
    times = found.landings
    notes = _notes(warehouse, days)
    landed: dict[date, LandedBatch] = {}
    for day in days:
        note = notes.get(day)
        if note is not None and note.landed_at == times.get(day) and day not in found.unclear:
            landed[day] = note
        elif day in found.times:
            landed[day] = LandedBatch(None, times.get(day))
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
    with_rows = slices(raw_events).times.keys() & set(days)
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
    note = json.dumps({_FINGERPRINT: landed.fingerprint, _LANDED_AT: at})
    if warehouse.logs_through is None:
        write_text(f"{_folder(warehouse)}/{_name(day)}", note)
    else:
        # Spark writes folders. There is no moment without a note, because the older ones stay in it.
        add_text(warehouse.logs_through(), f"{_folder(warehouse)}/{day.isoformat()}", note)


def note_emptied(warehouse: Warehouse, emptied: Mapping[date, datetime | None]) -> None:
    """Note that some batches have landed all the same, although forgetting users has left no accepted row of them.

    Args:
        warehouse: Where the tables are.
        emptied: The batches, with the landing that they were of. A note on another landing stays as it is.

    Raises:
        OSError: If the note may not be written.
        StorageError: If the storage fails.
    """
    for day, note in _notes(warehouse, emptied.keys()).items():
        if note.landed_at is not None and note.landed_at == emptied[day]:
            note_landing(warehouse, day, LandedBatch(note.fingerprint, None))


def is_noted(warehouse: Warehouse, day: date) -> bool:
    """Whether a landing of a batch was noted, also one without a row.

    Args:
        warehouse: Where the tables are.
        day: The batch.
    """
    return day in _notes(warehouse, [day])


def _notes(warehouse: Warehouse, days: Collection[date]) -> dict[date, LandedBatch]:
    """The notes on some batches; those that have none are not there."""
    if not days:
        return {}
    if warehouse.logs_through is None:
        texts = _texts(warehouse, days)
    else:
        texts = _texts_through(warehouse.logs_through(), _folder(warehouse), days)
    return {day: note for day, text in texts.items() if (note := _note(text)) is not None}


def _texts(warehouse: Warehouse, days: Collection[date]) -> dict[date, str]:
    # To ask for each note that may be there would be a request for every day.
    names = names_in(_folder(warehouse))
    noted = [day for day in days if _name(day) in names]
    # On an object store a read is a wait for an answer.
    with ThreadPoolExecutor(_READ_AT_ONCE) as pool:
        texts = zip(noted, pool.map(lambda day: _text(f"{_folder(warehouse)}/{_name(day)}"), noted), strict=True)
        return {day: text for day, text in texts if text is not None}


def _text(location: str) -> str | None:
    try:
        return read_text(location)
    except FileNotFoundError:
        return None


def _texts_through(spark: SparkSession, folder: str, days: Collection[date]) -> dict[date, str]:
    """The newest of the notes on each batch, those included that were written without Spark."""
    stored = texts_below(spark, folder, tuple(day.isoformat() for day in days))
    return {date.fromisoformat(each.path[:_DATE_LENGTH]): each.text for each in stored}


def _note(text: str) -> LandedBatch | None:
    try:
        note = json.loads(text)
    except ValueError:
        return None
    at = note[_LANDED_AT]
    return LandedBatch(note[_FINGERPRINT], at and datetime.fromisoformat(at))


def _folder(warehouse: Warehouse) -> str:
    return f"{warehouse.raw_events}/{_FOLDER}"


def _name(day: date) -> str:
    return f"{day.isoformat()}.json"
