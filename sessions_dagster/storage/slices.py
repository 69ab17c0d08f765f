"""The slices of `raw_events`: the rows of a batch are those of its newest landing, and of no other.

`landed_at` is one value per landing and survives compaction, so the statistics of the files say when a slice landed. A
row that somebody writes by hand has another one, and only the rows with one of the two would be applied. So a slice
with several is refused, by the name of the commit that made it so.
"""

import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from deltalake import DeltaTable

from sessions_dagster.errors import SliceError
from sessions_dagster.model.columns import BATCH_DATE, LANDED_AT
from sessions_dagster.storage.commit_metadata import WRITER_KEY
from sessions_dagster.storage.delta_log import active_files, commit_actions
from sessions_dagster.storage.filesystem import location_of

logger = logging.getLogger(__name__)

_SHOWN_AT_MOST: Final = 3


@dataclass(frozen=True)
class Slices:
    """When the batches of a version of `raw_events` landed; a batch without accepted rows is not there.

    Attributes:
        times: By the date of the batch, all values that its rows have as `landed_at` (UTC, in milliseconds). None
            stands for rows without one, and for a file of which the log does not say it.
    """

    times: Mapping[date, frozenset[datetime | None]]

    @property
    def landings(self) -> dict[date, datetime]:
        """When each batch landed (UTC), by its date; of several landings in a slice the newest one."""
        known = {day: [at for at in times if at is not None] for day, times in self.times.items()}
        return {day: max(times) for day, times in known.items() if times}

    @property
    def unclear(self) -> set[date]:
        """The dates of the batches whose rows are not of one landing."""
        return {day for day, times in self.times.items() if len(times) > 1 or None in times}


NO_SLICES: Final = Slices({})


def slices(raw_events: DeltaTable) -> Slices:
    """When the batches landed, by the statistics of the files: no row is read."""
    times: dict[date, set[datetime | None]] = {}
    for file in active_files(raw_events):
        day = file[f"partition.{BATCH_DATE}"]
        if day is not None and file["num_records"] != 0:
            times.setdefault(day, set()).update(_times_in(file))
    return Slices({day: frozenset(found) for day, found in times.items()})


def unused_landing_time(found: Slices, day: date, landed_at: datetime, applied: datetime | None) -> datetime:
    """The time of a landing, or the next millisecond that distinguishes it from the landings before.

    A clock may be set back, and two landings may be within a millisecond. With the time of the landing that was
    applied, or of the one that is there, it would never be applied.

    Args:
        found: The slices that there are.
        day: The date of the batch.
        landed_at: The time, in milliseconds.
        applied: The landing of the batch that was applied; None if none was.
    """
    taken = {*found.times.get(day, ()), applied}
    while landed_at in taken:
        landed_at += timedelta(milliseconds=1)
    return landed_at


def check_one_landing(raw_events: DeltaTable, found: Slices, days: Collection[date]) -> None:
    """Check that the slices of some batches have the rows of one landing each.

    Args:
        raw_events: The table.
        found: Its slices.
        days: The dates of the batches.

    Raises:
        SliceError: If one has not. The message names the first one, and the commit that made it so if the log says it.
    """
    for day in sorted(found.unclear & {*days}):
        raise SliceError(
            f"{_what_is_wrong(raw_events, found, day)} Nothing was applied. Materialize raw_events for {day} once "
            "more, which replaces the slice. If the batch is not there any more, delete the rows that do not belong to "
            "it."
        )


def warn_of_replaced(raw_events: DeltaTable, found: Slices, day: date) -> None:
    """Warn that a landing is about to replace rows that somebody else has written. Nobody would learn of them.

    Args:
        raw_events: The table.
        found: Its slices.
        day: The date of the batch.
    """
    if day in found.unclear:
        logger.warning("%s This landing replaces all of them.", _what_is_wrong(raw_events, found, day))


def _what_is_wrong(raw_events: DeltaTable, found: Slices, day: date) -> str:
    return (
        f"The slice {day} of {location_of(raw_events.table_uri)} has rows that did not land together "
        f"({LANDED_AT}: {_listed(found.times[day])}), and a batch has one landing. {_culprit(raw_events, day)}"
    )


def _times_in(file: Mapping[str, Any]) -> Iterator[datetime | None]:
    """What the log says of the landings that a file has rows of."""
    if file.get(f"null_count.{LANDED_AT}"):
        yield None
    for side in ("min", "max"):
        at = file.get(f"{side}.{LANDED_AT}")
        # Delta itself keeps no more than milliseconds, other writers do.
        yield None if at is None else at.replace(microsecond=at.microsecond // 1000 * 1000)


def _listed(times: Collection[datetime | None]) -> str:
    known = [f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}"[:-3] for at in sorted(at for at in times if at is not None)]
    more = [f"{len(known) - _SHOWN_AT_MOST} more"] if len(known) > _SHOWN_AT_MOST else []
    none = ["none that the log has"] if None in times else []
    return " and ".join([*known[:_SHOWN_AT_MOST], *more, *none])


def _culprit(raw_events: DeltaTable, day: date) -> str:
    """One sentence about the newest commit that wrote rows into a slice and is none of ours."""
    for version in range(raw_events.version(), -1, -1):
        try:
            actions = commit_actions(raw_events, version)
        except FileNotFoundError:
            break
        info: Mapping[str, Any] = next((action["commitInfo"] for action in actions if "commitInfo" in action), {})
        if WRITER_KEY in str(info.get("userMetadata")):
            continue
        if any(_writes_to(action["add"], day) for action in actions if "add" in action):
            return f"Version {version}{_described(info)} has done that, and is no landing."
    return "The log does not say any more which version has done that."


def _writes_to(added: Mapping[str, Any], day: date) -> bool:
    return bool(added["dataChange"]) and added["partitionValues"].get(BATCH_DATE) == day.isoformat()


def _described(info: Mapping[str, Any]) -> str:
    """Who made a commit, how and when, as far as it says so."""
    by = [info[key] for key in ("userName", "engineInfo") if info.get(key)]
    at = info.get("timestamp")
    parts = [
        str(info.get("operation") or ""),
        f"by {', '.join(by)}" if by else "",
        f"on {datetime.fromtimestamp(at / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC" if isinstance(at, int) else "",
    ]
    said = " ".join(part for part in parts if part)
    return f" ({said})" if said else ""
