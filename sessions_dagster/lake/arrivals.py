"""What has arrived below the input root: which batch folders there are, what is in them, and whether they are complete.

Here belongs what can be said by listing files. Nothing is opened, and nothing is known of what has landed already.
"""

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Final

from sessions_dagster.lake.places import Entry, InputRoot, StorageError

SUCCESS_MARKER: Final = "_SUCCESS"
"""The file that Spark and Hadoop write into a folder when all others are there."""

_FOLDER_NAME: Final = re.compile(r"date=([0-9]{4}-[0-9]{2}-[0-9]{2})")
_FINGERPRINT_LENGTH: Final = 16
_LISTINGS_AT_ONCE: Final = 8


class NotReady(StrEnum):
    """Why something below the input root is left alone, as it is told to the user."""

    JUNK = "not a folder date=YYYY-MM-DD"
    BEFORE_FIRST = "before the first partition"
    NOT_OVER = "day not over yet (UTC)"
    UNLISTABLE = "cannot be listed"
    EMPTY = "without a data file"
    NO_MARKER = f"without {SUCCESS_MARKER}"
    NOT_SETTLED = "changed a moment ago"
    IN_FUTURE = "with a time in the future"


@dataclass(frozen=True)
class BatchFolders:
    """The batch folders below an input root.

    Attributes:
        days: The days of those whose batch may land, with the time the folder itself was modified (UTC; None where the
            file system does not say).
        ignored: The names of all others by the reason; hidden ones are not listed.
    """

    days: Mapping[date, datetime | None]
    ignored: Mapping[NotReady, list[str]]


@dataclass(frozen=True)
class BatchContent:
    """What lies in the folder of a batch.

    Attributes:
        fingerprint: Tells one content from another: the names, sizes and modification times of the data files.
        data_files: How many there are.
        changed_at: When anything in the folder was last modified, data or not (UTC); None where nothing says.
        is_marked: Whether there is a success marker.
    """

    fingerprint: str
    data_files: int
    changed_at: datetime | None
    is_marked: bool


@dataclass(frozen=True)
class Completeness:
    """When a folder is taken for complete.

    Attributes:
        settle_time: How long nothing may have changed in it; not asked for where a marker is.
        require_success_marker: Whether the sender marks complete folders. Then the marker alone decides, so a sender
            who corrects a folder has to take it away first, as Spark does.
    """

    settle_time: timedelta
    require_success_marker: bool


def batch_folders(root: InputRoot, first_day: date, now: datetime) -> BatchFolders:
    """List the batch folders, without looking into them.

    Args:
        root: Where they are.
        first_day: The day of the first partition.
        now: The time, with a time zone. A day may land when it is over in UTC.

    Raises:
        FileNotFoundError: If there is no input root.
        OSError: If it cannot be listed.
    """
    days: dict[date, datetime | None] = {}
    ignored: dict[NotReady, list[str]] = {}
    today = now.astimezone(UTC).date()
    for entry in root.entries():
        day = _day_of(entry)
        if day is None:
            if not entry.is_hidden:
                ignored.setdefault(NotReady.JUNK, []).append(entry.path)
        elif day < first_day:
            ignored.setdefault(NotReady.BEFORE_FIRST, []).append(day.isoformat())
        elif day >= today:
            ignored.setdefault(NotReady.NOT_OVER, []).append(day.isoformat())
        else:
            days[day] = _time(entry.modified_ns)
    return BatchFolders(days, ignored)


def batch_content(root: InputRoot, day: date) -> BatchContent:
    """Look into the folder of a batch.

    Raises:
        FileNotFoundError: If there is no such folder.
        OSError: If it cannot be listed.
    """
    entries = root.batch_entries(day)
    data = [entry for entry in entries if entry.is_data_file]
    return BatchContent(
        fingerprint=_fingerprint(data),
        data_files=len(data),
        changed_at=max((time for entry in entries if (time := _time(entry.modified_ns))), default=None),
        is_marked=any(entry.is_file and entry.path == SUCCESS_MARKER for entry in entries),
    )


def batch_fingerprint(root: InputRoot, day: date) -> str | None:
    """The fingerprint of what lies in the folder of a batch, None where it cannot be listed as it is.

    Raises:
        StorageError: If the storage fails.
    """
    try:
        return batch_content(root, day).fingerprint
    except OSError:
        return None


def batch_contents(root: InputRoot, days: Collection[date]) -> dict[date, BatchContent | OSError | StorageError]:
    """Look into the folders of many batches at once. Where one cannot be listed, its error stands for its content."""

    def look(day: date) -> BatchContent | OSError | StorageError:
        try:
            return batch_content(root, day)
        except (OSError, StorageError) as error:
            return error

    # On an object store a listing is a wait for an answer.
    with ThreadPoolExecutor(_LISTINGS_AT_ONCE) as pool:
        return dict(zip(days, pool.map(look, days), strict=True))


def why_not_ready(
    content: BatchContent, folder_modified_at: datetime | None, completeness: Completeness, now: datetime
) -> NotReady | None:
    """Why a batch cannot land yet, None if it can.

    Args:
        content: What is in its folder.
        folder_modified_at: When the folder itself was modified. It tells of files that were copied a moment ago
            together with their old modification times.
        completeness: When a folder is taken for complete.
        now: The time, with a time zone.
    """
    if content.data_files == 0:
        return NotReady.EMPTY
    if completeness.require_success_marker:
        return None if content.is_marked else NotReady.NO_MARKER
    times = [time for time in (content.changed_at, folder_modified_at) if time is not None]
    if any(time > now + completeness.settle_time for time in times):
        return NotReady.IN_FUTURE
    settled = all(time + completeness.settle_time <= now for time in times)
    return None if settled else NotReady.NOT_SETTLED


def _day_of(entry: Entry) -> date | None:
    match = _FOLDER_NAME.fullmatch(entry.path)
    if match is None or entry.is_file:
        return None
    try:
        return date.fromisoformat(match[1])
    except ValueError:
        return None


def _fingerprint(data_files: Iterable[Entry]) -> str:
    told = [f"{file.path}\0{file.size}\0{file.modified_ns}\0" for file in data_files]
    return hashlib.sha256("".join(told).encode()).hexdigest()[:_FINGERPRINT_LENGTH]


def _time(ns: int | None) -> datetime | None:
    return None if ns is None else datetime.fromtimestamp(ns / 1e9, UTC)
