"""Applying batches: from `raw_events` to one atomic commit that leaves `sessionized_events` reflecting them exactly."""

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import reduce
from typing import Any, Final, Self

from deltalake import DeltaTable
from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame, Observation, Row, SparkSession
from pyspark.sql import functions as F

from sessions_dagster.core import commit, correction_log
from sessions_dagster.core.contract import (
    BATCH_DATE,
    EVENT_DATE,
    KIND,
    LANDED_AT,
    LATENESS_DAYS,
    SESSION_KEY,
    TIMESTAMP,
    SessionRules,
)
from sessions_dagster.core.correction import (
    CHANGE,
    DELIVERY,
    IS_FIRST_OF_NEW,
    IS_FIRST_OF_OLD,
    Change,
    SessionChange,
    but_opened,
    delivered_facts,
    differences,
    extent_of_moved,
    extent_of_neighbourhoods,
    extent_of_opened,
    following_rows,
    held_facts,
    is_withdrawn,
    moved_sessions,
    near_dates,
    neighbourhoods,
    new_deliveries,
    of_change,
    opened_sessions,
    resolve,
    rows_of_sessions,
    session_changes,
    touched_facts,
    with_batches,
    withdrawn_facts,
)
from sessions_dagster.core.days import ONE_DAY, among, of_like_size
from sessions_dagster.core.fresh import (
    fresh_day,
    fresh_events,
    fresh_rows,
    other_events,
    table_rows_of,
)
from sessions_dagster.core.keys import (
    IS_AT_MIDNIGHT,
    IS_LARGE,
    IS_LARGE_AS_NEW,
    IS_NEW,
    is_at_midnight,
    notable_keys,
)
from sessions_dagster.core.outline import outlined_sessions, outlines, with_outlines, without_outlines
from sessions_dagster.core.session_table import as_table_rows, ensure_sessionized_events
from sessions_dagster.core.sessionize import BEGINS_SESSION
from sessions_dagster.core.settings import compiled_if_worth, partitions_for, planned_ahead, rows_around
from sessions_dagster.lake.log import AppliedBatches, applied_batches, event_dates, landed_rows, landings
from sessions_dagster.lake.places import Warehouse, place_of
from sessions_dagster.runtime.sizing import Sizes

logger = logging.getLogger(__name__)

MOST_LOOKS_AT_A_ROW: Final = 8
"""In no more parts than this the rows to write are taken apart by date, as all of them are looked at for each part."""


class ConcurrentWriteError(RuntimeError):
    """Somebody else wrote to the table while a correction of it was computed. Nothing was written."""


@dataclass(frozen=True)
class PendingBatch:
    """A batch that landed since the table last reflected it.

    Attributes:
        day: The batch.
        landed_at: Its landing (UTC); None if its slice of `raw_events` is empty.
        may_be_held: Whether the table may hold events of an earlier landing of it.
    """

    day: date
    landed_at: datetime | None
    may_be_held: bool


@dataclass(frozen=True)
class ApplyReport:
    """What applying batches did, all counts of this run.

    Attributes:
        version: Version of `sessionized_events` after the run.
        committed: False when nothing had to change and so nothing was written.
        applied: The batches whose landing was new to the table.
        present: The days of the window that have rows in `raw_events`.
        inserted, updated, deleted: Rows, by event date.
        sessions_new: Sessions that share no user action with one written before.
        session_changes: Sessions written before, by what became of them; those merely touched are `kept`.
        seconds: Wall time.
    """

    version: int
    committed: bool
    applied: tuple[date, ...]
    present: tuple[date, ...]
    inserted: Mapping[date, int] = field(default_factory=dict)
    updated: Mapping[date, int] = field(default_factory=dict)
    deleted: Mapping[date, int] = field(default_factory=dict)
    sessions_new: int = 0
    session_changes: Mapping[SessionChange, int] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def sessions_corrected(self) -> int:
        """Sessions written before whose bounds are other ones now, or that are gone."""
        return sum(self.session_changes.values()) - self.session_changes.get(SessionChange.KEPT, 0)

    @property
    def dates_touched(self) -> tuple[date, ...]:
        """The event dates with any row inserted, updated or deleted, in order."""
        return tuple(sorted({*self.inserted, *self.updated, *self.deleted}))


@dataclass(frozen=True)
class _Held:
    """`sessionized_events` as it is when the run begins.

    Reads are of the newest version, whose state Delta keeps in memory, as it does not of one asked for by number. That
    nobody committed meanwhile is checked before the run commits.
    """

    spark: SparkSession
    table_uri: str
    version: int
    dates: tuple[date, ...]

    def rows(self, dates: Sequence[date]) -> DataFrame:
        """The rows of some event dates."""
        table = self.spark.read.format("delta").load(self.table_uri)
        return table.where(among(EVENT_DATE, dates))


@dataclass(frozen=True)
class _Extent:
    """How many stretches of time there are, and on which dates they lie."""

    count: int
    dates: tuple[date, ...]

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Self:
        return cls(told["count"], tuple(told["dates"]))


@dataclass(frozen=True)
class _Keys:
    """The keys at the midnight of the newest day, and how many; and those that one task should not have all of.

    These are large by their events of the newest day (and then not among the first), or by all others.
    """

    at_midnight: DataFrame
    count: int
    large_as_new: Sequence[Row]
    large: Sequence[Row]


@dataclass(frozen=True)
class _Fresh:
    """The fresh events of a day, and which keys among them have outlines; with how many they are, once written."""

    day: date
    events: DataFrame
    outlined_keys: Sequence[Row]
    counts: Observation = field(default_factory=Observation)

    def rows(self, resolved: DataFrame, rules: SessionRules) -> DataFrame:
        """The same as rows of the table, with the sessions of the outlines, which are resolved."""
        outlined = outlined_sessions(resolved, self.day, self.outlined_keys) if self.outlined_keys else None
        counted = F.count("*").alias("rows"), F.count_if(BEGINS_SESSION).alias("begun")
        return table_rows_of(fresh_rows(self.events, rules, outlined).observe(self.counts, *counted), self.day)

    def counted_with(self, inserted: Mapping[date, int], begun: int) -> tuple[Mapping[date, int], int]:
        """Rows by event date, and sessions, with those of this day that were written."""
        written = self.counts.get
        if not written["rows"]:
            return inserted, begun
        rows = inserted.get(self.day, 0) + written["rows"]
        return {**inserted, self.day: rows}, begun + written["begun"]


@dataclass(frozen=True)
class _Moving:
    """What the batches being applied bring that the table does not hold, and facts of what they bring no longer.

    Both together are no more rows than `count`; `withdrawn` is None where there are none.
    """

    events: DataFrame
    withdrawn: DataFrame | None
    count: int


@dataclass(frozen=True)
class _Delivered:
    """What the batches being applied bring: fresh events, where there may be any, and facts of all others.

    With them: facts of what they bring no longer, if any, the keys of facts that one task should not have all of, the
    dates of the table that may be touched, and how many keys tell what is fresh.
    """

    facts: DataFrame
    fresh: _Fresh | None
    withdrawn: DataFrame | None
    large_keys: Sequence[Row]
    dates: Sequence[date]
    keys_at_midnight: int = 0

    @property
    def has_large_keys(self) -> bool:
        """Whether any key has too many events for a task, be they fresh or not."""
        return bool(self.large_keys or (self.fresh and self.fresh.outlined_keys))

    def planned_ahead(self, spark: SparkSession, joined_rows: int) -> AbstractContextManager[None]:
        """`settings.planned_ahead` for queries that join a table with so many rows, and may tell what is fresh."""
        return planned_ahead(spark, max(joined_rows, self.keys_at_midnight))


@dataclass(frozen=True)
class _Resolved:
    """The resolved facts, with those of what was there before by themselves, as they are few and looked at often.

    With them: how many sessions begin there, how many rows are updated or removed, what sessions moved.
    """

    rows: DataFrame
    not_new: DataFrame
    begun: int
    corrected: int
    moved: _Extent


@dataclass(frozen=True)
class _SessionCounts:
    """What became of sessions written before, and how many of those that are there now go on from such a one."""

    by_change: Mapping[SessionChange, int] = field(default_factory=dict)
    continued: int = 0


def pending_batches(
    window: Sequence[date], landed: Mapping[date, datetime], applied: AppliedBatches
) -> list[PendingBatch]:
    """The batches of a window that landed since the table last reflected them.

    Args:
        window: Batch days.
        landed: The present landing of every batch with accepted rows.
        applied: The landings the table reflects.
    """
    pending = []
    for day in window:
        landed_at = landed.get(day)
        if day in applied.landings:
            if landed_at != applied.landings[day]:
                pending.append(PendingBatch(day, landed_at, may_be_held=True))
        elif landed_at is not None or not applied.complete:
            pending.append(PendingBatch(day, landed_at, may_be_held=not applied.complete))
    return pending


def apply_batches(
    spark: SparkSession, warehouse: Warehouse, window: Sequence[date], rules: SessionRules
) -> ApplyReport:
    """Make `sessionized_events` reflect every landed batch of a window exactly, in one commit, or none if it does.

    What becomes of sessions written before is kept in `session_corrections`.

    Only one run may write the table at a time: on a local warehouse a lock sees to that, elsewhere the scheduler must.

    Args:
        spark: A session with Delta, in UTC.
        warehouse: Where the tables are.
        window: Batch days. What other batches delivered stays as it is.
        rules: The session rules; they must be those the table was built with.

    Raises:
        RulesMismatchError: If the table was built with other rules.
        ConcurrentWriteError: If somebody else committed to the table meanwhile; running again is safe.
        SizeError: If a property of the session is to be a size, and is none.
    """
    began = time.monotonic()
    looked_at = rows_around(window, warehouse.raw_events, warehouse.sessionized_events)
    with warehouse.writing(), compiled_if_worth(spark, looked_at):
        ensure_sessionized_events(spark, warehouse.sessionized_events, rules)
        correction_log.drop_uncommitted(spark, warehouse)
        table = DeltaTable(warehouse.sessionized_events)
        raw_table = DeltaTable(warehouse.raw_events) if DeltaTable.is_deltatable(warehouse.raw_events) else None
        landed = landings(raw_table) if raw_table else {}
        applied = applied_batches(table)
        pending = pending_batches(window, landed, applied)
        present = tuple(day for day in window if day in landed)
        if not pending:
            return ApplyReport(table.version(), False, (), present, seconds=time.monotonic() - began)
        logger.info("applying %d of %d landed batches: %s", len(pending), len(present), _days(pending))
        arrived = landed_rows(raw_table, [batch.day for batch in pending]) if raw_table else 0
        held = _Held(spark, warehouse.sessionized_events, table.version(), tuple(event_dates(table)))
        shuffled = looked_at if any(batch.may_be_held for batch in pending) else arrived
        with partitions_for(spark, shuffled):
            delivered = _delivered(held, warehouse, pending, arrived, rules)
            resolved = _resolved(held, delivered, rules)
            changes = _with_following(held, delivered, resolved)
            rows = _count_rows(changes)

            _check_unchanged(table)
            if raw_table:
                _check_unchanged(raw_table)
            session_counts = _log_corrections(held, warehouse, resolved, pending, rules)
            committed = _commit(held, changes, delivered, rows, _applied_after(applied, pending), rules)
        inserted: Mapping[date, int] = rows.get(Change.INSERT, {})
        begun = resolved.begun
        if committed and delivered.fresh is not None:
            inserted, begun = delivered.fresh.counted_with(inserted, begun)
        return ApplyReport(
            version=held.version + 1 if committed else held.version,
            committed=committed,
            applied=tuple(batch.day for batch in pending),
            present=present,
            inserted=inserted,
            updated=rows.get(Change.UPDATE, {}),
            deleted=rows.get(Change.REMOVE, {}),
            sessions_new=begun - session_counts.continued,
            session_changes=session_counts.by_change,
            seconds=time.monotonic() - began,
        )


def _delivered(
    held: _Held, warehouse: Warehouse, pending: Sequence[PendingBatch], arrived: int, rules: SessionRules
) -> _Delivered:
    """What the batches bring, which have so many rows, and bring no longer."""
    days = [batch.day for batch in pending]
    moving = _moving(held, warehouse, pending, arrived)
    dates = [day for day in held.dates if _can_touch(days, day, rules)]
    day = fresh_day([batch.day for batch in pending if batch.landed_at is not None], held.dates)
    keys = _keys(moving, day, rules)
    if day is None:
        return _Delivered(delivered_facts(moving.events), None, moving.withdrawn, keys.large, dates)
    marked = _with_outlines(moving.events, day, keys.large_as_new, rules)
    fresh = _Fresh(day, fresh_events(marked, day, keys.at_midnight), keys.large_as_new)
    others = other_events(marked, day, keys.at_midnight)
    return _Delivered(delivered_facts(others), fresh, moving.withdrawn, keys.large, dates, keys.count)


def _with_outlines(events: DataFrame, day: date, large_keys: Sequence[Row], rules: SessionRules) -> DataFrame:
    """The events, of which those are marked that say all of the sessions of large keys on a day."""
    if not large_keys:
        return without_outlines(events)
    found, _ = _cut(outlines(events, day, large_keys, rules))
    return with_outlines(events, day, large_keys, found, rules)


def _keys(moving: _Moving, day: date | None, rules: SessionRules) -> _Keys:
    """What has to be known of the keys of what moves, with the midnight of a day, if any."""
    if day is None and moving.count <= Sizes.of(moving.events.sparkSession).large_key_rows:
        return _Keys(moving.events.select(*SESSION_KEY).limit(0), 0, (), ())
    old = {IS_AT_MIDNIGHT: F.lit(False), IS_NEW: F.lit(False)}
    marks = old if day is None else {IS_AT_MIDNIGHT: is_at_midnight(day, rules), IS_NEW: among(EVENT_DATE, [day])}
    seen = moving.events.withColumns(marks).select(*SESSION_KEY, *marks)
    if moving.withdrawn is not None:
        seen = seen.unionByName(moving.withdrawn.withColumns(old).select(*SESSION_KEY, *old))
    is_counted, key = F.col(IS_AT_MIDNIGHT) & ~F.col(IS_LARGE_AS_NEW), F.struct(*SESSION_KEY)
    found, told = _cut(
        notable_keys(seen, moving.count),
        F.count_if(is_counted).alias("count"),
        *[F.collect_set(F.when(F.col(kind), key)).alias(kind) for kind in (IS_LARGE_AS_NEW, IS_LARGE)],
    )
    keys = found.where(is_counted).select(*SESSION_KEY)
    return _Keys(_hinted(keys, told["count"]), told["count"], told[IS_LARGE_AS_NEW], told[IS_LARGE])


def _resolved(held: _Held, delivered: _Delivered, rules: SessionRules) -> _Resolved:
    """Everything that the correction follows from, with every session found."""
    withdrawn = delivered.withdrawn
    moving = delivered.facts if withdrawn is None else delivered.facts.unionByName(withdrawn)
    known, looked_for = list[DataFrame](), 0
    if delivered.dates:
        known, looked_for = _known(held, delivered, near_dates(moving, delivered.dates, rules), rules)
    facts = reduce(DataFrame.unionByName, [moving, *known])
    corrected = F.count_if(F.col(CHANGE).isin(Change.UPDATE.value, Change.REMOVE.value)).alias("corrected")
    # Without a table that is joined nothing is gained.
    with delivered.planned_ahead(held.spark, looked_for) if known else nullcontext():
        rows, told = _cut(
            resolve(facts, rules, delivered.large_keys),
            *extent_of_moved(),
            F.count_if(BEGINS_SESSION).alias("begun"),
            corrected,
            # A large key may have all its events here, which as bytes take far less memory; a usual run has few rows
            # here, and would take 2% longer.
            kept=StorageLevel.MEMORY_AND_DISK if delivered.large_keys else StorageLevel.MEMORY_AND_DISK_DESER,
        )
    not_new = rows.where(F.col(CHANGE) != Change.INSERT.value)
    if held.dates:
        not_new, _ = _cut(not_new)
    return _Resolved(rows, not_new, told["begun"], told["corrected"], _Extent.of(told))


def _moving(held: _Held, warehouse: Warehouse, pending: Sequence[PendingBatch], arrived: int) -> _Moving:
    """What is new of the batches, which have so many rows, and what is gone."""
    again = [batch for batch in pending if batch.may_be_held]
    dates = [day for day in held.dates if any(_can_deliver(batch.day, day) for batch in again)]
    if not dates:
        return _Moving(_landed(held, warehouse, pending), None, arrived)
    found, told = _cut(
        differences(held.rows(dates), _landed(held, warehouse, again), [batch.day for batch in again]),
        F.count("*").alias("rows"),
        F.count_if(is_withdrawn()).alias("withdrawn"),
    )
    events, count = new_deliveries(found), told["rows"]
    if new := [batch for batch in pending if not batch.may_be_held]:
        events, count = events.unionByName(_landed(held, warehouse, new).select(*DELIVERY)), count + arrived
    return _Moving(events, withdrawn_facts(found) if told["withdrawn"] else None, count)


def _known(held: _Held, delivered: _Delivered, moving: DataFrame, rules: SessionRules) -> tuple[list[DataFrame], int]:
    """Facts of what the table holds that may be touched by others, and how many rows they are looked for with."""
    near, told = _cut(neighbourhoods(moving, rules), *extent_of_neighbourhoods())
    extent = _Extent.of(told)
    if not extent.count:
        return [], 0
    looked_for = extent.count
    touched = touched_facts(held.rows(extent.dates), _hinted(near, extent.count), rules)
    if delivered.has_large_keys:
        # A session is there for each of its actions that was met, and all of these would be in one task.
        touched, _ = _cut(touched.distinct())
    if delivered.withdrawn is None:
        return [touched], looked_for
    opened, told = _cut(opened_sessions(delivered.withdrawn, rules), *extent_of_opened())
    extent = _Extent.of(told)
    if not extent.count:
        return [touched], looked_for
    rows = rows_of_sessions(held.rows(extent.dates), _hinted(opened, extent.count))
    facts = [but_opened(touched, _hinted(opened, extent.count)), held_facts(rows)]
    return facts, max(looked_for, extent.count)


def _with_following(held: _Held, delivered: _Delivered, resolved: _Resolved) -> DataFrame:
    """What is resolved, and the rows that follow the sessions that moved."""
    if not resolved.moved.count:
        return resolved.rows
    moved = _hinted(moved_sessions(resolved.not_new), resolved.moved.count)
    corrected = _hinted(of_change(resolved.not_new, Change.UPDATE, Change.REMOVE), resolved.corrected)
    with delivered.planned_ahead(held.spark, max(resolved.moved.count, resolved.corrected)):
        following, _ = _cut(following_rows(held.rows(resolved.moved.dates), moved, corrected))
    return resolved.rows.unionByName(following)


def _log_corrections(
    held: _Held, warehouse: Warehouse, resolved: _Resolved, pending: Sequence[PendingBatch], rules: SessionRules
) -> _SessionCounts:
    """Keep what becomes of sessions written before, ahead of the commit that does it; and count it."""
    if not held.dates:
        return _SessionCounts()
    changes, told = _cut(session_changes(resolved.not_new, rules), *_session_counts())
    by_change = {change: told[change.value] for change in SessionChange if told[change.value]}
    if by_change.keys() - {SessionChange.KEPT}:
        corrected = changes.where(F.col(KIND) != SessionChange.KEPT.value)
        entries = with_batches(corrected, resolved.rows, rules, [batch.day for batch in pending])
        count = sum(by_change.values()) - by_change.get(SessionChange.KEPT, 0)
        correction_log.write_ahead(warehouse, entries.coalesce(_tasks_to_write(held.spark, count)), held.version + 1)
    return _SessionCounts(by_change, told["continued"])


def _session_counts() -> list[Column]:
    by_change = [
        F.count_if((F.col(KIND) == change.value) & F.col(IS_FIRST_OF_OLD)).alias(change.value)
        for change in SessionChange
    ]
    return [*by_change, F.count_if(IS_FIRST_OF_NEW).alias("continued")]


def _commit(
    held: _Held,
    resolved: DataFrame,
    delivered: _Delivered,
    counts: Mapping[Change, Mapping[date, int]],
    metadata: str,
    rules: SessionRules,
) -> bool:
    """Write the correction; False if there is nothing to write."""
    fresh = delivered.fresh
    inserted, updated, removed = (counts.get(change, {}) for change in (Change.INSERT, Change.UPDATE, Change.REMOVE))
    if not (inserted or updated or removed) and (fresh is None or fresh.events.isEmpty()):
        return False
    written = {day: inserted.get(day, 0) + updated.get(day, 0) for day in {*inserted, *updated}}
    rows = _of_few_dates_a_task(as_table_rows(of_change(resolved, Change.INSERT, Change.UPDATE)), written)
    if fresh is not None:
        rows = rows.unionByName(fresh.rows(resolved, rules))
    replaced_dates = sorted({*updated, *removed})
    if removed:
        source = commit.with_removals(rows, as_table_rows(of_change(resolved, Change.REMOVE)))
        changed = sum(sum(by_date.values()) for by_date in (inserted, updated, removed))
        if fresh is not None:
            # MERGE joins all of its source with the table, and there may be too many fresh rows to send to all tasks.
            commit.upsert_and_remove(held.table_uri, source, replaced_dates, metadata)
        else:
            with delivered.planned_ahead(held.spark, changed):
                commit.upsert_and_remove(held.table_uri, _hinted(source, changed), replaced_dates, metadata)
    elif replaced_dates:
        candidates = sum(written.get(day, 0) for day in replaced_dates)
        with delivered.planned_ahead(held.spark, candidates):
            commit.upsert(held.table_uri, _hinted(rows, candidates), replaced_dates, metadata)
    else:
        commit.append(held.table_uri, rows, metadata)
    return True


def _of_few_dates_a_task(rows: DataFrame, rows_by_date: Mapping[date, int]) -> DataFrame:
    """The same rows of the table, which are computed already, in tasks that have rows of few dates each."""
    # As they were found each task has some of all dates. It would write a file on each of them, and every later scan
    # would open them all. A shuffle would take as long as that is worth.
    total = sum(rows_by_date.values())
    tasks = _tasks_to_write(rows.sparkSession, total)
    parts = of_like_size(rows_by_date, min(tasks, MOST_LOOKS_AT_A_ROW))
    if len(parts) < 2:
        return rows.coalesce(tasks)

    def tasks_of(part: Sequence[date]) -> int:
        return max(1, round(tasks * sum(rows_by_date[day] for day in part) / total))

    of_parts = [rows.where(among(EVENT_DATE, part)).coalesce(tasks_of(part)) for part in parts]
    return reduce(DataFrame.unionByName, of_parts)


def _tasks_to_write(spark: SparkSession, rows: int) -> int:
    return Sizes.of(spark).partitions(rows, usual=spark.sparkContext.defaultParallelism)


def _applied_after(applied: AppliedBatches, pending: Sequence[PendingBatch]) -> str:
    landings_after = {**applied.landings, **{batch.day: batch.landed_at for batch in pending}}
    return AppliedBatches(landings_after, applied.complete).as_commit_metadata()


def _check_unchanged(table: DeltaTable) -> None:
    place = place_of(table.table_uri)
    now = DeltaTable(place).version()
    if now != table.version():
        raise ConcurrentWriteError(
            f"{place} went from version {table.version()} to {now} while a correction was computed from it: "
            "another run wrote to it. Nothing was written; run this partition again, and let one run at a time write."
        )


def _landed(held: _Held, warehouse: Warehouse, batches: Sequence[PendingBatch]) -> DataFrame:
    """The rows of the landings of some batches that are applied."""
    raw_events = held.spark.read.format("delta").load(warehouse.raw_events)
    of_batches = raw_events.where(among(BATCH_DATE, [batch.day for batch in batches]))
    # Each query reads the newest version. Where no lock keeps others out, a batch may land again before the last one;
    # rows of that landing are left to the next run, which finds the batch pending.
    landings = [F.lit(batch.landed_at) for batch in batches if batch.landed_at is not None]
    return of_batches.where(F.array_contains(F.array(*landings).cast("array<timestamp>"), F.col(LANDED_AT)))


def _count_rows(resolved: DataFrame) -> dict[Change, dict[date, int]]:
    counted = resolved.groupBy(CHANGE, F.to_date(TIMESTAMP).alias(EVENT_DATE)).agg(F.count("*").alias("rows"))
    rows: dict[Change, dict[date, int]] = {}
    for row in counted.collect():
        rows.setdefault(Change(row[CHANGE]), {})[row[EVENT_DATE]] = row["rows"]
    return rows


def _can_deliver(batch_day: date, event_date: date) -> bool:
    return timedelta(0) <= batch_day - event_date <= timedelta(days=LATENESS_DAYS)


def _can_touch(batch_days: Sequence[date], event_date: date, rules: SessionRules) -> bool:
    """Whether an event of these batches may touch a row of an event date."""
    reach = ONE_DAY * -(-rules.timeout // ONE_DAY)
    first, last = min(batch_days) - timedelta(days=LATENESS_DAYS), max(batch_days)
    return first - reach <= event_date <= last + reach


def _hinted(rows: DataFrame, joined_rows: int) -> DataFrame:
    # Spark knows no size of a checkpoint and would shuffle the table to be on the safe side.
    return F.broadcast(rows) if joined_rows <= Sizes.of(rows.sparkSession).broadcast_rows else rows


def _cut(
    rows: DataFrame, *measures: Column, kept: StorageLevel = StorageLevel.MEMORY_AND_DISK_DESER
) -> tuple[DataFrame, Mapping[str, Any]]:
    """Compute rows once, and some aggregates of them on the way."""
    # Cut from what they were computed of: they are read several times, also by Delta's own commands, and a cache would
    # be thrown away, and computed again, as soon as Delta commits to the table that it was read from.
    if not measures:
        return rows.localCheckpoint(eager=True, storageLevel=kept), {}
    told = Observation()
    return rows.observe(told, *measures).localCheckpoint(eager=True, storageLevel=kept), told.get


def _days(batches: Sequence[PendingBatch]) -> str:
    return ", ".join(batch.day.isoformat() for batch in batches)
