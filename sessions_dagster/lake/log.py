"""What a Delta log says, read with delta-rs and without a JVM: landings, partitions, versions, applied batches."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Final

import pyarrow as pa
from deltalake import DeltaTable

from sessions_dagster.core.contract import BATCH_DATE, EVENT_DATE, LANDED_AT
from sessions_dagster.lake.places import place_of, read_text

APPLIED_KEY: Final = "applied_batches"
"""Where a commit's user metadata (JSON) says which landing of each batch the table reflects."""

FOLLOWED_KEY: Final = "followed_table"
"""Where a commit's user metadata (JSON) says the id of the table that this one is made from."""

_HISTORY_STEP: Final = 20


@dataclass(frozen=True)
class AppliedBatches:
    """The landing of each batch that a table reflects.

    Attributes:
        landings: By batch day, when the applied slice was landed (UTC); None if it was empty.
        complete: False when the log does not say of every batch, as it does not reach back far enough or tells of a
            RESTORE to a point in time: then a batch that is not listed may have been applied all the same.
    """

    landings: Mapping[date, datetime | None]
    complete: bool

    def as_commit_metadata(self) -> str:
        """The user metadata of a commit after which the table reflects these landings."""
        days = {day.isoformat(): at and int(at.timestamp() * 1000) for day, at in sorted(self.landings.items())}
        return json.dumps({APPLIED_KEY: days, "complete": self.complete}, separators=(",", ":"))


@dataclass(frozen=True)
class TableFacts:
    """A Delta table at a glance.

    Attributes:
        version: Its version.
        rows_written: Rows in its files; those that a deletion vector marks as deleted are still among them.
        files: Its data files.
        bytes: Their size.
        partitions: Partitions with any file; 1 for a table without partitions, if it has any.
    """

    version: int
    rows_written: int
    files: int
    bytes: int
    partitions: int


def table_facts(table: DeltaTable) -> TableFacts:
    """What the log says of a whole table."""
    files = _active_files(table)
    return TableFacts(
        version=table.version(),
        rows_written=sum(file["num_records"] or 0 for file in files),
        files=len(files),
        bytes=sum(file["size_bytes"] for file in files),
        partitions=len(_partitions_of(table, files)),
    )


def landings(raw_events: DeltaTable) -> dict[date, datetime]:
    """When the slice of each batch was landed (UTC), by batch day; a batch without accepted rows is not there.

    `landed_at` is one value per landing and survives compaction, so the statistics of the files tell it.
    """
    found: dict[date, datetime] = {}
    for file in _active_files(raw_events):
        day = file[f"partition.{BATCH_DATE}"]
        landed_at = file[f"max.{LANDED_AT}"]
        found[day] = max(landed_at, found.get(day, landed_at))
    return found


def landed_rows(raw_events: DeltaTable, days: Collection[date]) -> int:
    """How many rows the slices of some batches have."""
    files = [file for file in _active_files(raw_events) if file[f"partition.{BATCH_DATE}"] in days]
    return sum(file["num_records"] or 0 for file in files)


def event_dates(sessionized_events: DeltaTable) -> list[date]:
    """The event dates that have rows (or had, until a removal left a file without live rows), in order."""
    return sorted({file[f"partition.{EVENT_DATE}"] for file in _active_files(sessionized_events)})


def batch_days(table: DeltaTable) -> set[date]:
    """The batch days that have rows in `raw_events` or `rejected_events`."""
    return {file[f"partition.{BATCH_DATE}"] for file in _active_files(table)}


def partition_rows(table: DeltaTable) -> dict[date, int]:
    """The rows of each partition of a table that is partitioned by a date, with those that vectors have deleted."""
    (column,) = table.metadata().partition_columns
    rows: dict[date, int] = {}
    for file in _active_files(table):
        day = file[f"partition.{column}"]
        rows[day] = rows.get(day, 0) + (file["num_records"] or 0)
    return rows


def partitions(table: DeltaTable) -> set[date | None]:
    """The partitions with files, of a table that is partitioned by a date; None stands for a table without any."""
    return _partitions_of(table, _active_files(table))


def partitions_touched(table: DeltaTable, after_version: int) -> set[date | None] | None:
    """The partitions that got or lost rows after a version; compactions do not count, as they leave rows as they are.

    Read from the commits themselves: delta-rs does not show which files have a deletion vector.

    Returns:
        As `partitions`, but some may have no file any more; None if the log does not reach back so far.
    """
    touched: set[date | None] = set()
    place = place_of(table.table_uri)
    for version in range(after_version + 1, table.version() + 1):
        try:
            commit = read_text(f"{place}/_delta_log/{version:020}.json")
        except FileNotFoundError:
            return None
        touched |= _partitions_changed_by([json.loads(line) for line in commit.splitlines()])
    return touched


def _partitions_changed_by(commit: Sequence[Mapping[str, Any]]) -> set[date | None]:
    files = [action[kind] for action in commit for kind in ("add", "remove") if kind in action]
    values = [next(iter(file["partitionValues"].values()), None) for file in files if file["dataChange"]]
    return {value and date.fromisoformat(value) for value in values}


def applied_batches(sessionized_events: DeltaTable) -> AppliedBatches:
    """Which landings the table reflects: what its newest correction says, seen through any RESTORE since.

    Every correction says all of it, so the log is read back to the newest one only.
    """
    told = _newest_told(sessionized_events, APPLIED_KEY)
    if told.metadata is None:
        return AppliedBatches({}, complete=told.is_all)
    days = told.metadata[APPLIED_KEY]
    at = {date.fromisoformat(day): ms and datetime.fromtimestamp(ms / 1000, UTC) for day, ms in days.items()}
    return AppliedBatches(at, complete=told.metadata["complete"])


def following_metadata(followed: DeltaTable) -> str:
    """The user metadata of a commit after which a table reflects another one as it is now."""
    told = {FOLLOWED_KEY: followed.metadata().id, "version": followed.version()}
    return json.dumps(told, separators=(",", ":"))


def version_followed(follower: DeltaTable, followed: DeltaTable) -> int | None:
    """The version of another table that a table reflects; None if it does not say, or says it of yet another table."""
    told = _newest_told(follower, FOLLOWED_KEY).metadata
    if told is None or told[FOLLOWED_KEY] != followed.metadata().id:
        return None
    return int(told["version"])


def is_correction(sessionized_events: DeltaTable, version: int) -> bool:
    """Whether a version was committed by a run that applied batches. One too old for the log is taken to be."""
    since = sessionized_events.version() - version
    if since < 0:
        return False
    commits = {commit["version"]: commit for commit in sessionized_events.history(since + 1)}
    return version not in commits or APPLIED_KEY in _user_metadata(commits[version])


def greatest(table: DeltaTable, column: str) -> Any:
    """The greatest value of a column by the statistics of the files; None if no file has any."""
    values = [file.get(f"max.{column}") for file in _active_files(table)]
    return max((value for value in values if value is not None), default=None)


@dataclass(frozen=True)
class _Told:
    """The user metadata of the newest commit that has a key. Where none has: whether that is known of all commits."""

    metadata: Mapping[str, Any] | None
    is_all: bool


def _newest_told(table: DeltaTable, key: str) -> _Told:
    """What the newest commit with a key in its user metadata says, seen through any RESTORE since."""
    version = table.version()
    limit = _HISTORY_STEP
    while True:
        commits = {commit["version"]: commit for commit in table.history(limit)}
        while version in commits:
            commit = commits[version]
            if commit.get("operation") == "RESTORE":
                restored = commit["operationParameters"].get("version")
                if restored is None:
                    # To a point in time: writers differ in which version that is, and a wrong guess means wrong rows.
                    return _Told(None, is_all=False)
                version = int(restored)
                continue
            metadata = _user_metadata(commit)
            if key in metadata:
                return _Told(metadata, is_all=False)
            version -= 1
        if version < 0:
            return _Told(None, is_all=True)
        if len(commits) < limit:
            return _Told(None, is_all=False)
        limit *= 4


def _user_metadata(commit: Mapping[str, Any]) -> Mapping[str, Any]:
    """The user metadata of a commit; nothing where it is not ours: maintenance, a property, a note by hand."""
    try:
        metadata = json.loads(commit.get("userMetadata") or "{}")
    except ValueError:
        return {}
    return metadata if isinstance(metadata, dict) else {}


def _partitions_of(table: DeltaTable, files: Sequence[Mapping[str, Any]]) -> set[date | None]:
    columns = table.metadata().partition_columns
    return {file[f"partition.{columns[0]}"] if columns else None for file in files}


def _active_files(table: DeltaTable) -> list[dict[str, Any]]:
    files: list[dict[str, Any]] = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    return files
