"""What a Delta log says, read with delta-rs and without a JVM: landings, partitions, versions, applied batches."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Final

import pyarrow as pa
from deltalake import DeltaTable

from sessions_dagster.core.contract import BATCH_DATE, EVENT_DATE, LANDED_AT
from sessions_dagster.lake.places import read_text

APPLIED_KEY: Final = "applied_batches"
"""Where a commit's user metadata (JSON) says which landing of each batch the table reflects."""

_HISTORY_STEP: Final = 20

_COMPACTIONS: Final = {"OPTIMIZE", "REORG"}


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
        partitions: Partitions with any file.
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
        partitions=len({file["path"].rsplit("/", 1)[0] for file in files}),
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


def event_dates(sessionized_events: DeltaTable) -> list[date]:
    """The event dates that have rows (or had, until a removal left a file without live rows), in order."""
    return sorted({file[f"partition.{EVENT_DATE}"] for file in _active_files(sessionized_events)})


def batch_days(table: DeltaTable) -> set[date]:
    """The batch days that have rows in `raw_events` or `rejected_events`."""
    return {file[f"partition.{BATCH_DATE}"] for file in _active_files(table)}


def partitions(table: DeltaTable) -> set[date | None]:
    """The partitions with files, of a table that is partitioned by a date; None stands for a table without any."""
    columns = table.metadata().partition_columns
    return {file[f"partition.{columns[0]}"] if columns else None for file in _active_files(table)}


def partitions_touched(table: DeltaTable, after_version: int) -> set[date | None] | None:
    """The partitions that got files, or deletions in files, after a version; compactions do not count.

    Read from the commits themselves: delta-rs does not show which files have a deletion vector.

    Returns:
        As `partitions`, but some may have no file any more; None if the log does not reach back so far.
    """
    touched: set[date | None] = set()
    for version in range(after_version + 1, table.version() + 1):
        try:
            commit = read_text(f"{table.table_uri}/_delta_log/{version:020}.json")
        except FileNotFoundError:
            return None
        touched |= _partitions_added_to([json.loads(line) for line in commit.splitlines()])
    return touched


def _partitions_added_to(commit: Sequence[Mapping[str, Any]]) -> set[date | None]:
    if any(action.get("commitInfo", {}).get("operation") in _COMPACTIONS for action in commit):
        return set()
    values = [next(iter(action["add"]["partitionValues"].values()), None) for action in commit if "add" in action]
    return {value and date.fromisoformat(value) for value in values}


def applied_batches(sessionized_events: DeltaTable) -> AppliedBatches:
    """Which landings the table reflects: what its newest correction says, seen through any RESTORE since.

    Every correction says all of it, so the log is read back to the newest one only.
    """
    version = sessionized_events.version()
    limit = _HISTORY_STEP
    while True:
        commits = {commit["version"]: commit for commit in sessionized_events.history(limit)}
        while version in commits:
            commit = commits[version]
            if commit.get("operation") == "RESTORE":
                restored = commit["operationParameters"].get("version")
                if restored is None:
                    # To a point in time: writers differ in which version that is, and a wrong guess means wrong rows.
                    return AppliedBatches({}, complete=False)
                version = int(restored)
                continue
            told = _applied_in(commit)
            if told is not None:
                return told
            version -= 1
        if version < 0:
            return AppliedBatches({}, complete=True)
        if len(commits) < limit:
            return AppliedBatches({}, complete=False)
        limit *= 4


def is_correction(sessionized_events: DeltaTable, version: int) -> bool:
    """Whether a version was committed by a run that applied batches. One too old for the log is taken to be."""
    since = sessionized_events.version() - version
    if since < 0:
        return False
    commits = {commit["version"]: commit for commit in sessionized_events.history(since + 1)}
    return version not in commits or _applied_in(commits[version]) is not None


def greatest(table: DeltaTable, column: str) -> Any:
    """The greatest value of a column by the statistics of the files; None if no file has any."""
    values = [file.get(f"max.{column}") for file in _active_files(table)]
    return max((value for value in values if value is not None), default=None)


def _applied_in(commit: Mapping[str, Any]) -> AppliedBatches | None:
    try:
        metadata = json.loads(commit.get("userMetadata") or "{}")
        days = metadata[APPLIED_KEY]
    except (ValueError, KeyError, TypeError):
        return None  # a commit of someone else: maintenance, a property, an annotation by hand
    at = {date.fromisoformat(day): ms and datetime.fromtimestamp(ms / 1000, UTC) for day, ms in days.items()}
    return AppliedBatches(at, complete=metadata["complete"])


def _active_files(table: DeltaTable) -> list[dict[str, Any]]:
    files: list[dict[str, Any]] = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    return files
