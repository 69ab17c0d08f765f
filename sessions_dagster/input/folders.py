"""What has arrived below the input root: which batch folders there are, what is in them, and whether it is complete.

Here belongs what can be said by listing files. Nothing is opened, and nothing is known of what has landed already.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Final, NoReturn

import pyarrow as pa

from sessions_dagster.errors import BatchError, NotDeliveredError, StorageError, one_line
from sessions_dagster.input.files import BatchFile
from sessions_dagster.model.counts import number_of
from sessions_dagster.storage.filesystem import canonical, filesystem_of
from sessions_dagster.storage.listing import HIDING, Entry, list_entries

SUCCESS_MARKER: Final = "_SUCCESS"
"""The file that Spark and Hadoop write into a folder when all others are there."""

_FOLDER_NAME: Final = re.compile(r"date=([0-9]{4}-[0-9]{2}-[0-9]{2})")
_MARK: Final = re.compile(r"_SUCCESS|_(committed|started)_.*|_metadata|_common_metadata", re.DOTALL)
_MAY_BE_DATA: Final = re.compile(r"_.*|[^.].*\.tmp", re.DOTALL | re.IGNORECASE)
_NAMED_AT_MOST: Final = 5
_FINGERPRINT_LENGTH: Final = 16
_LISTINGS_AT_ONCE: Final = 8


class NotReady(StrEnum):
    """Why something below the input root is left alone, in the words of the sensor."""

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
        days: The days of those whose batch may land, with the time at which the folder itself was modified (UTC; None
            if the file system does not say).
        ignored: The names of all others, by the reason; hidden ones are not listed.
    """

    days: Mapping[date, datetime | None]
    ignored: Mapping[NotReady, list[str]]


@dataclass(frozen=True)
class BatchContent:
    """What lies in the folder of a batch.

    Attributes:
        fingerprint: Different for different contents: of the names, sizes and modification times of the data files.
        data_files: The number of data files.
        changed_at: When anything in the folder was last modified, data or not (UTC); None if that is not known.
        is_marked: Whether there is a success marker.
    """

    fingerprint: str
    data_files: int
    changed_at: datetime | None
    is_marked: bool


@dataclass(frozen=True)
class Delivery:
    """What a batch delivers, as one listing of its folder shows it.

    Attributes:
        files: The data files, in the order of their paths. Files in sub-folders count, and so do empty files; hidden
            ones do not (see `Entry.is_hidden`).
        fingerprint: That of `BatchContent`.
        left_out: What is there, may be data, and is not read: names with the reason, in the order of the names.
    """

    files: Sequence[BatchFile]
    fingerprint: str
    left_out: Sequence[str]


@dataclass(frozen=True)
class Completeness:
    """When a folder is considered complete.

    Attributes:
        settle_time: For how long nothing may have changed in it; it does not matter if a marker is required.
        require_success_marker: Whether the sender marks complete folders. Then the marker alone decides, so a sender
            who corrects a folder has to remove it first, as Spark does.
    """

    settle_time: timedelta
    require_success_marker: bool


@dataclass(frozen=True)
class InputRoot:
    """The folder that batches arrive in, each in a folder `date=YYYY-MM-DD`.

    Attributes:
        root: A local folder (relative to the working directory, absolute, or `file://`) or a URI; kept in the spelling
            of `storage.filesystem`.
    """

    root: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", canonical(self.root))

    def batch_folder(self, day: date) -> str:
        """The folder of the batch of a day, whether it exists or not."""
        return f"{self.root}/date={day.isoformat()}"

    def entries(self) -> list[Entry]:
        """What lies right below the root, in the order of the names.

        Raises:
            FileNotFoundError: If there is no such folder.
            OSError: If it cannot be listed as it is.
            StorageError: If the storage fails.
        """
        return list_entries(self.root, unreadable_name=repr, links_within=self.root)

    def batch_entries(self, day: date) -> list[Entry]:
        """All that lies below the folder of a batch, sub-folders and hidden files included, in the order of the paths.

        Links are followed within the input root only, and each file is there once.

        Raises:
            FileNotFoundError: If there is no such folder.
            OSError: If it cannot be listed as it is.
            StorageError: If the storage fails.
        """
        return list_entries(
            self.batch_folder(day), unreadable_name=_refuse_name, links_within=self.root, recursive=True
        )

    def delivery(self, day: date) -> Delivery:
        """What a batch delivers.

        Raises:
            FileNotFoundError: If there is no such folder.
            OSError: If it cannot be listed as it is.
            StorageError: If the storage fails.
        """
        folder = self.batch_folder(day)
        filesystem, path = filesystem_of(folder)
        entries = self.batch_entries(day)
        data = [entry for entry in entries if entry.is_data_file]
        return Delivery(
            files=[
                BatchFile(f"{folder}/{entry.path}", entry.size, filesystem, f"{path}/{entry.path}") for entry in data
            ],
            fingerprint=_fingerprint(data),
            left_out=left_out(entries),
        )


def delivery(input_root: InputRoot, day: date) -> Delivery:
    """What a batch delivers, to be landed.

    Raises:
        NotDeliveredError: If the folder is missing.
        BatchError: If it cannot be listed as it is, or has no data file.
        StorageError: If the storage fails.
    """
    folder = input_root.batch_folder(day)
    try:
        found = input_root.delivery(day)
    except FileNotFoundError as error:
        raise NotDeliveredError(
            f"There is no batch folder {folder}. Deliver the batch, or check the input root ({input_root.root})."
        ) from error
    except (OSError, pa.ArrowInvalid) as error:
        raise BatchError(f"The batch folder {folder} cannot be listed: {error}") from error
    if not found.files:
        raise BatchError(
            f"The batch folder {folder} has no data file{left_out_line(found.left_out)}. Deliver the batch; one "
            "without events is a file without rows."
        )
    return found


def left_out(entries: Iterable[Entry]) -> list[str]:
    """What may be data and is not read, because of its name or because it is a link that is not followed.

    Empty files are not mentioned, nor what is known to be no data, such as the marks of Spark.

    Args:
        entries: What lies below the folder of a batch.
    """
    files = Counter(name for entry in entries if (name := _name_of_left_out(entry)) is not None)
    texts = {
        name: f"{name} ({number_of(count, 'file')})" if name.endswith("/") else name for name, count in files.items()
    }
    texts |= {entry.path: f"{entry.path} (a link to {entry.leads_to})" for entry in entries if entry.leads_to}
    return [one_line(texts[name]) for name in sorted(texts)]


def left_out_line(names: Sequence[str]) -> str:
    """What is left out, to be put behind what is said of a batch; empty if that is nothing."""
    if not names:
        return ""
    more = f" and {len(names) - _NAMED_AT_MOST} more" if len(names) > _NAMED_AT_MOST else ""
    return f"; left out: {', '.join(names[:_NAMED_AT_MOST])}{more}"


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
                ignored.setdefault(NotReady.JUNK, []).append(one_line(entry.path))
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
    """The fingerprint of what lies in the folder of a batch; None if it cannot be listed as it is.

    Raises:
        StorageError: If the storage fails.
    """
    try:
        return batch_content(root, day).fingerprint
    except OSError:
        return None


def batch_contents(root: InputRoot, days: Collection[date]) -> dict[date, BatchContent | OSError | StorageError]:
    """Look into the folders of many batches at once. If one cannot be listed, its content is the error."""

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
        folder_modified_at: When the folder itself was modified. Files may have been copied a moment ago together with
            their old modification times.
        completeness: When a folder is considered complete.
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


def _name_of_left_out(entry: Entry) -> str | None:
    """The name under which a file is mentioned as left out: that of the hidden folder around it, or its own."""
    if not entry.is_file or entry.size == 0 or entry.is_data_file:
        return None
    names = entry.path.split("/")
    for depth, folder in enumerate(names[:-1], start=1):
        if folder.startswith(HIDING):
            is_data_there = replace(entry, path="/".join(names[depth:])).is_data_file
            return f"{'/'.join(names[:depth])}/" if is_data_there else None
    return entry.path if _MAY_BE_DATA.fullmatch(names[-1]) and not _MARK.fullmatch(names[-1]) else None


def _fingerprint(data_files: Iterable[Entry]) -> str:
    parts = [f"{file.path}\0{file.size}\0{file.modified_ns}\0" for file in data_files]
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:_FINGERPRINT_LENGTH]


def _time(ns: int | None) -> datetime | None:
    return None if ns is None else datetime.fromtimestamp(ns / 1e9, UTC)


def _refuse_name(name: bytes) -> NoReturn:
    raise OSError(f"{name!r} is not UTF-8, so it cannot be read; give the file another name")
