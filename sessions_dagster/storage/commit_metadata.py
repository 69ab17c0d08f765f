"""What our own commits say in their user metadata: which landings a table reflects, and which version it follows."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Final

from deltalake import DeltaTable

from sessions_dagster.storage.delta_log import commit_info

APPLIED_KEY: Final = "applied_batches"
"""The key (JSON) under which a commit says which landing of each batch the table reflects."""

FOLLOWED_KEY: Final = "followed_table"
"""The key (JSON) under which a commit says the id of the table that this one is computed from."""

BASE_KEY: Final = "computed_from"
"""The key (JSON) under which a commit says the version of its table that it was computed from."""


@dataclass(frozen=True)
class AppliedBatches:
    """The landing of each batch that a table reflects.

    Attributes:
        landings: By batch day, when the applied slice was landed (UTC); None if it was empty.
        complete: False if the log does not say it for every batch, because it does not reach back far enough or has a
            RESTORE to a point in time. Then a batch that is not listed may have been applied all the same.
    """

    landings: Mapping[date, datetime | None]
    complete: bool

    def as_commit_metadata(self) -> dict[str, Any]:
        """The user metadata of a commit after which the table reflects these landings."""
        days = {day.isoformat(): at and int(at.timestamp() * 1000) for day, at in sorted(self.landings.items())}
        return {APPLIED_KEY: days, "complete": self.complete}


def applied_batches(sessionized_events: DeltaTable, at_version: int | None = None) -> AppliedBatches:
    """Which landings the table reflects, according to its newest correction. A RESTORE since then counts as well.

    Every correction lists all landings, so the log is read back to the newest one only.

    Args:
        sessionized_events: The table.
        at_version: The version to speak of; None: that of the handle.
    """
    newest = _newest_with_key(sessionized_events, APPLIED_KEY, at_version)
    if newest.metadata is None:
        return AppliedBatches({}, complete=newest.is_known_of_all)
    days = newest.metadata[APPLIED_KEY]
    at = {date.fromisoformat(day): ms and datetime.fromtimestamp(ms / 1000, UTC) for day, ms in days.items()}
    return AppliedBatches(at, complete=newest.metadata["complete"])


def following_metadata(followed: DeltaTable) -> dict[str, Any]:
    """The user metadata of a commit after which a table reflects another one as it is now."""
    return {FOLLOWED_KEY: followed.metadata().id, "version": followed.version()}


def version_followed(follower: DeltaTable, followed: DeltaTable) -> int | None:
    """The version of another table that a table reflects; None if that is not known or was a different table."""
    metadata = _newest_with_key(follower, FOLLOWED_KEY).metadata
    if metadata is None or metadata[FOLLOWED_KEY] != followed.metadata().id:
        return None
    return int(metadata["version"])


def is_correction(sessionized_events: DeltaTable, version: int) -> bool:
    """Whether a run that applied batches has committed what was to become a version.

    It is a later version if a commit of maintenance came in between. Of versions too old for the log it is assumed.
    """
    for committed in range(version, sessionized_events.version() + 1):
        try:
            metadata = _user_metadata(commit_info(sessionized_events, committed))
        except FileNotFoundError:
            return True
        if APPLIED_KEY in metadata and metadata.get(BASE_KEY, committed - 1) == version - 1:
            return True
    return False


@dataclass(frozen=True)
class _Newest:
    """The user metadata of the newest commit that has a key; if there is none, whether all commits were looked at."""

    metadata: Mapping[str, Any] | None
    is_known_of_all: bool


def _newest_with_key(table: DeltaTable, key: str, at_version: int | None = None) -> _Newest:
    """The newest commit with a key in its user metadata. A RESTORE since then is taken into account."""
    version = table.version() if at_version is None else at_version
    while version >= 0:
        try:
            commit = commit_info(table, version)
        except FileNotFoundError:
            return _Newest(None, is_known_of_all=False)
        if commit.get("operation") == "RESTORE":
            restored = commit["operationParameters"].get("version")
            if restored is None:
                # A RESTORE to a point in time: writers differ in which version that is, and a wrong guess would mean
                # wrong rows.
                return _Newest(None, is_known_of_all=False)
            version = int(restored)
            continue
        metadata = _user_metadata(commit)
        if key in metadata:
            return _Newest(metadata, is_known_of_all=False)
        version -= 1
    return _Newest(None, is_known_of_all=True)


def _user_metadata(commit: Mapping[str, Any]) -> Mapping[str, Any]:
    """The user metadata of a commit; empty if this project did not write it, or wrote it for maintenance."""
    try:
        metadata = json.loads(commit.get("userMetadata") or "{}")
    except ValueError:
        return {}
    return metadata if isinstance(metadata, dict) else {}
