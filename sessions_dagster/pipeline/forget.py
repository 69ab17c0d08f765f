"""Forgetting users: their rows leave all tables, by one atomic commit a table, and no landing lets them in again.

A run that is killed is run again: the list comes first, and each table says of which list nothing is left in it.
Each file that has a row of such a user is written again, also if the row is only marked as deleted in it.
"""

import logging
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from deltalake import DeltaTable
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from sessions_dagster.errors import SettingsError
from sessions_dagster.model.counts import number_of
from sessions_dagster.model.date_columns import among
from sessions_dagster.model.forgotten import ForgottenUsers
from sessions_dagster.pipeline.refresh_sessions import refresh_sessions, remake_sessions
from sessions_dagster.storage.commit_metadata import (
    AppliedBatches,
    applied_batches,
    emptied_batches,
    forgetting_metadata,
    is_without,
)
from sessions_dagster.storage.correction_log import drop_uncommitted
from sessions_dagster.storage.delta_log import partition_rows
from sessions_dagster.storage.delta_tables import append, replace_all, replace_partitions
from sessions_dagster.storage.forgotten_users import add_forgotten, forgotten_users
from sessions_dagster.storage.landed_batches import note_emptied
from sessions_dagster.storage.log_statistics import keep_users_out
from sessions_dagster.storage.slices import slices
from sessions_dagster.storage.warehouse import Warehouse
from sessions_dagster.transforms.forgotten import is_of_forgotten, mentions_forgotten

logger = logging.getLogger(__name__)

_FOUND: Final = "found"
_LIVE: Final = "live"


@dataclass(frozen=True)
class ForgetReport:
    """What forgetting users did.

    Attributes:
        listed: How many users are on the list now.
        removed: The number of rows that left each table, by its location; only tables that there are.
        seconds: Wall time.
    """

    listed: int
    removed: Mapping[str, int]
    seconds: float


@dataclass(frozen=True)
class _Search:
    """Who is looked for, and where."""

    spark: SparkSession
    warehouse: Warehouse
    forgotten: ForgottenUsers

    def rows_of(self, table: DeltaTable, table_uri: str) -> DataFrame:
        """The rows of a table at the version of its handle."""
        return self.warehouse.read(self.spark, table_uri, table.version())


@dataclass(frozen=True)
class _Found:
    """What a table, partitioned by a date, has of the users.

    Attributes:
        rows: How many rows.
        days: The partitions to write again: those with such a row and, if the table does not say that nothing is left
            of the list, those with rows that are only marked as deleted.
        emptied: The partitions that have no other row.
    """

    rows: int
    days: Collection[date]
    emptied: Collection[date]


def forget_users(spark: SparkSession, warehouse: Warehouse, users: Collection[str]) -> ForgetReport:
    """Put users on the list of forgotten ones, and remove the rows of all users on it from all tables.

    If there is nothing to remove and nobody new, there is no commit. What the tables had before is in their older
    versions until a vacuum removes their files.

    Args:
        spark: A session with Delta, in UTC.
        warehouse: Where the tables are.
        users: The ids of the users, as in `user_id`. If there are none, the list is gone through once more.

    Raises:
        SettingsError: If one of the ids is empty, or is not UTF-8. Nothing was written.
        ConcurrentWriteError: If somebody else committed to one of the tables in the meantime; running again is safe.
        RulesMismatchError: If `sessionized_events` was not created by this project.
    """
    began = time.monotonic()
    if "" in users:
        raise SettingsError("One of the users to forget has an empty id, which no event has. Nothing was written.")
    if any(_is_no_text(user) for user in users):
        raise SettingsError(
            "The id of one of the users to forget is not UTF-8, which no event has. Nothing was written."
        )
    removed: dict[str, int] = {}
    with warehouse.writing(spark):
        if users:
            add_forgotten(spark, warehouse, users)
        forgotten = forgotten_users(spark, warehouse)
        search = _Search(spark, warehouse, forgotten)
        steps = {
            warehouse.raw_events: _from_raw_events,
            warehouse.rejected_events: _from_rejected_events,
            warehouse.sessionized_events: _from_sessionized_events,
            warehouse.session_corrections: _from_session_corrections,
            warehouse.sessions: _count_sessions,
        }
        for uri, step in steps.items():
            table = warehouse.open(uri) if forgotten.hashes else None
            if table is not None:
                keep_users_out(spark, warehouse, uri)
                removed[uri] = step(search, table)
                logger.info("%s: %s to forget", uri, number_of(removed[uri], "row"))
    if warehouse.sessions in removed:
        _follow(search)
    return ForgetReport(len(forgotten.hashes), removed, time.monotonic() - began)


def _is_no_text(user: str) -> bool:
    """Whether an id has a byte that the shell could not read."""
    return any("\ud800" <= character <= "\udfff" for character in user)


def _follow(search: _Search) -> None:
    """Let `sessions` follow the events, so that it has no session of these users either, whoever wrote it."""
    spark, warehouse = search.spark, search.warehouse
    has_events = warehouse.open(warehouse.sessionized_events) is not None
    if has_events:
        refresh_sessions(spark, warehouse)
    table, is_theirs = warehouse.open_existing(warehouse.sessions), is_of_forgotten(search.forgotten)
    rows = search.rows_of(table, warehouse.sessions)
    if rows.where(is_theirs).isEmpty():
        return
    if has_events:
        remake_sessions(spark, warehouse, None)
    else:
        with warehouse.writing(spark):
            replace_all(table, warehouse.sessions, rows.where(~is_theirs))


def _from_raw_events(search: _Search, table: DeltaTable) -> int:
    uri, where = search.warehouse.raw_events, is_of_forgotten(search.forgotten)
    landed, found = slices(table).landings, _find(search, table, uri, where)
    emptied = {day: at for day, at in emptied_batches(table).items() if day not in landed}
    emptied |= {day: landed.get(day) for day in found.emptied}
    _remove(search, table, uri, where, found, forgetting_metadata(search.forgotten, emptied))
    # Without a row the batch would count as one that has not landed, and the sensor would land it again.
    note_emptied(search.warehouse, emptied_batches(table))
    return found.rows


def _from_rejected_events(search: _Search, table: DeltaTable) -> int:
    uri, where = search.warehouse.rejected_events, mentions_forgotten(search.forgotten)
    found = _find(search, table, uri, where)
    _remove(search, table, uri, where, found, forgetting_metadata(search.forgotten))
    return found.rows


def _from_sessionized_events(search: _Search, table: DeltaTable) -> int:
    uri, where = search.warehouse.sessionized_events, is_of_forgotten(search.forgotten)
    drop_uncommitted(search.spark, search.warehouse, table)
    found = _find(search, table, uri, where)
    applied = _without_emptied(applied_batches(table), search.warehouse)
    metadata = {**applied.as_commit_metadata(), **forgetting_metadata(search.forgotten)}
    _remove(search, table, uri, where, found, metadata)
    return found.rows


def _without_emptied(applied: AppliedBatches, warehouse: Warehouse) -> AppliedBatches:
    """The landings that the table reflects. One of which no row is left would be pending for ever."""
    raw_events = warehouse.open(warehouse.raw_events)
    emptied = {} if raw_events is None else emptied_batches(raw_events)
    landed = {day: None if emptied.get(day) == at else at for day, at in applied.landings.items()}
    return AppliedBatches(landed, applied.complete)


def _from_session_corrections(search: _Search, table: DeltaTable) -> int:
    uri, where = search.warehouse.session_corrections, is_of_forgotten(search.forgotten)
    rows, metadata = search.rows_of(table, uri), forgetting_metadata(search.forgotten)
    count = rows.where(where).count()
    if count:
        replace_all(table, uri, rows.where(~where), metadata)
    elif not is_without(table, search.forgotten):
        append(table, uri, rows.limit(0), metadata)
    return count


def _count_sessions(search: _Search, table: DeltaTable) -> int:
    rows = search.rows_of(table, search.warehouse.sessions)
    return rows.where(is_of_forgotten(search.forgotten)).count()


def _find(search: _Search, table: DeltaTable, table_uri: str, where: Column) -> _Found:
    (column,) = table.metadata().partition_columns
    of_days = search.rows_of(table, table_uri).groupBy(column)
    counts = {
        row[column]: (row[_FOUND], row[_LIVE])
        for row in of_days.agg(F.count_if(where).alias(_FOUND), F.count("*").alias(_LIVE)).collect()
    }
    days = {day for day, (found, _) in counts.items() if found}
    emptied = {day for day in days if counts[day][0] == counts[day][1]}
    if not is_without(table, search.forgotten):
        written = partition_rows(table)
        days |= {day for day in written if counts.get(day, (0, 0))[1] != written[day]}
    return _Found(sum(found for found, _ in counts.values()), days, emptied)


def _remove(
    search: _Search, table: DeltaTable, table_uri: str, where: Column, found: _Found, metadata: Mapping[str, Any]
) -> None:
    """Write what was found again without the rows of the users, in one commit; none if there is nothing to say."""
    (column,) = table.metadata().partition_columns
    rows = search.rows_of(table, table_uri)
    if found.days:
        kept = rows.where(among(column, found.days) & ~where)
        replace_partitions(table, table_uri, column, sorted(found.days), kept, metadata)
    elif not is_without(table, search.forgotten):
        # A run that began without the list cannot commit after this.
        append(table, table_uri, rows.limit(0), metadata)
