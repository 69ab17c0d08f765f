"""What our own commits say in their user metadata: which landings a table reflects, and which version it follows."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Final
from uuid import uuid4

from deltalake import DeltaTable

from sessions_dagster.model.columns import EVENTS_VERSION
from sessions_dagster.model.forgotten import ForgottenUsers
from sessions_dagster.storage.delta_log import commit_info, greatest

APPLIED_KEY: Final = "applied_batches"
"""The key (JSON) under which a commit says which landing of each batch the table reflects."""

FOLLOWED_KEY: Final = "followed_table"
"""The key (JSON) under which a commit says the id of the table that this one is computed from."""

BASE_KEY: Final = "computed_from"
"""The key (JSON) under which a commit says the version of its table that it was computed from."""

WRITER_KEY: Final = "writer"
"""The key (JSON) in the user metadata of a commit that tells it from all others."""

ENTRIES_KEY: Final = "correction_entries"
"""The key (JSON) of the id that a correction and the commit of its entries in `session_corrections` share.

A commit that dropped entries has it, too, with NULL.
"""

FORGOTTEN_KEY: Final = "forgotten_users"
"""The key (JSON) under which a commit says which list of forgotten users nothing is left of in its table."""

_EMPTIED_KEY: Final = "emptied_batches"
_COMMIT_KEY: Final = "newest_commit"
_NUMBER_KEY: Final = "after_number"
_AT_KEY: Final = "corrected_at"

_NO_LANDINGS: Final[Mapping[date, datetime | None]] = {}

_NO_NUMBER: Final = -1
"""Less than any number. Commits of older versions were not numbered."""


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
        return {APPLIED_KEY: _as_json(self.landings), "complete": self.complete}


@dataclass(frozen=True)
class CorrectionEntries:
    """The entries that a run writes into `session_corrections` ahead of its correction.

    Attributes:
        id: What the commits of both have in common; None if an older version wrote them, without any.
        base: The version of `sessionized_events` that the correction is computed from.
        number: The number of the newest of our commits to it then (see `exclusive_commits`).
        writer: What tells that commit from all others; None if the log does not say it.
        corrected_at: The time that all these entries have, and no others (UTC); None if an older version wrote them.
    """

    id: str | None
    base: int
    number: int
    writer: str | None
    corrected_at: datetime | None

    @staticmethod
    def of(sessionized_events: DeltaTable, number: int) -> "CorrectionEntries":
        """The entries of a correction that is computed now.

        Args:
            sessionized_events: The handle, at the version that the correction is computed from.
            number: The number of the newest of our commits to it.
        """
        base = sessionized_events.version()
        writer = _newest_writer(sessionized_events, base)
        return CorrectionEntries(uuid4().hex, base, number, writer, datetime.now(UTC))

    def as_commit_metadata(self, sessionized_events: DeltaTable) -> dict[str, Any]:
        """The user metadata of the commit of the entries."""
        at = None if self.corrected_at is None else self.corrected_at.isoformat()
        return {ENTRIES_KEY: self.id, **following_metadata(sessionized_events), _NUMBER_KEY: self.number, _AT_KEY: at}


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
    return AppliedBatches(_as_landings(newest.metadata[APPLIED_KEY]), complete=newest.metadata["complete"])


def following_metadata(followed: DeltaTable) -> dict[str, Any]:
    """The user metadata of a commit after which a table reflects another one as it is now."""
    version = followed.version()
    return {FOLLOWED_KEY: followed.metadata().id, "version": version, _COMMIT_KEY: _newest_writer(followed, version)}


def version_followed(follower: DeltaTable, followed: DeltaTable) -> int | None:
    """The version of another table that a table reflects; None if that is not known or was a different table.

    It is also a different one if it was put back from a copy of its files, and has other commits of the same versions.
    """
    metadata = _newest_with_key(follower, FOLLOWED_KEY).metadata
    if metadata is None or metadata[FOLLOWED_KEY] != followed.metadata().id:
        return None
    version = int(metadata["version"])
    if version > followed.version():
        return None
    noted = metadata.get(_COMMIT_KEY)
    if noted is None:
        return version  # as an older version has written it
    # The log may have forgotten the commit.
    return version if _newest_writer(followed, version) in (None, noted) else None


def forgetting_metadata(
    forgotten: ForgottenUsers, emptied: Mapping[date, datetime | None] = _NO_LANDINGS
) -> dict[str, Any]:
    """The user metadata of a commit after which a table has no row of forgotten users.

    Args:
        forgotten: The users.
        emptied: The batches of which `raw_events` has no row left, with the landing that they were of.
    """
    return {FORGOTTEN_KEY: forgotten.table, "list_version": forgotten.version, _EMPTIED_KEY: _as_json(emptied)}


def is_without(table: DeltaTable, forgotten: ForgottenUsers) -> bool:
    """Whether the log of a table says that it has no row of forgotten users. A RESTORE since then counts as well."""
    metadata = _newest_with_key(table, FORGOTTEN_KEY).metadata
    if metadata is None:
        return False
    return (metadata[FORGOTTEN_KEY], metadata["list_version"]) == (forgotten.table, forgotten.version)


def emptied_batches(raw_events: DeltaTable) -> dict[date, datetime | None]:
    """The batches of which `raw_events` has no row left since users were forgotten, and when they had landed (UTC)."""
    metadata = _newest_with_key(raw_events, FORGOTTEN_KEY).metadata
    return {} if metadata is None else _as_landings(metadata[_EMPTIED_KEY])


def _as_json(landings: Mapping[date, datetime | None]) -> dict[str, int | None]:
    return {day.isoformat(): None if at is None else int(at.timestamp() * 1000) for day, at in sorted(landings.items())}


def _as_landings(days: Mapping[str, int | None]) -> dict[date, datetime | None]:
    return {
        date.fromisoformat(day): None if ms is None else datetime.fromtimestamp(ms / 1000, UTC)
        for day, ms in days.items()
    }


def _newest_writer(table: DeltaTable, version: int) -> str | None:
    """What tells the newest of our commits to a version from all others; None if the log does not say it."""
    metadata = _newest_with_key(table, WRITER_KEY, version).metadata
    return None if metadata is None else metadata[WRITER_KEY]


def newest_entries(session_corrections: DeltaTable, sessionized_events: DeltaTable) -> CorrectionEntries | None:
    """The entries that were written last; None if they were dropped, or are about a table that was there before."""
    metadata = _newest_with_key(session_corrections, ENTRIES_KEY).metadata
    if metadata is None:
        version = greatest(session_corrections, EVENTS_VERSION)
        return None if version is None else CorrectionEntries(None, version - 1, _NO_NUMBER, None, None)
    if metadata[ENTRIES_KEY] is None or metadata[FOLLOWED_KEY] != sessionized_events.metadata().id:
        return None
    at = metadata.get(_AT_KEY)
    return CorrectionEntries(
        metadata[ENTRIES_KEY],
        metadata["version"],
        metadata[_NUMBER_KEY],
        metadata[_COMMIT_KEY],
        at and datetime.fromisoformat(at),
    )


def has_other_base(sessionized_events: DeltaTable, entries: CorrectionEntries) -> bool:
    """Whether some entries are of a correction that was computed from other commits than the table has now.

    It has others if it was put back from a copy of its files. Then its log does not say whether the correction was
    committed, and nobody can commit it any more.
    """
    # The log may have forgotten the commit.
    known = (None, entries.writer)
    return entries.writer is not None and _newest_writer(sessionized_events, entries.base) not in known


def is_corrected(sessionized_events: DeltaTable, entries: CorrectionEntries) -> bool:
    """Whether the correction that some entries are of was committed. Of versions too old for the log it is assumed.

    Its version is the one after that which it was computed from, or a later one if a commit of maintenance came in
    between.
    """
    for version in range(entries.base + 1, sessionized_events.version() + 1):
        try:
            metadata = _user_metadata(commit_info(sessionized_events, version))
        except FileNotFoundError:
            return True
        is_from_base = metadata.get(BASE_KEY, version - 1) == entries.base
        if APPLIED_KEY in metadata and is_from_base and entries.id in (None, metadata.get(ENTRIES_KEY)):
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
