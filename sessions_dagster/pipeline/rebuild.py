"""The rebuild: `sessionized_events` and `sessions` made anew from `raw_events`, also with other session rules."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType, TimestampType

from sessions_dagster.errors import RebuildError, RulesMismatchError
from sessions_dagster.model.columns import BATCH_DATE, EVENT_DATE, REASON, TIMESTAMP
from sessions_dagster.model.date_columns import among
from sessions_dagster.model.dates import date_list
from sessions_dagster.model.rejects import RejectReason
from sessions_dagster.model.rules import SessionRules
from sessions_dagster.model.schemas import NO_CARRIED_COLUMNS, SESSIONS_SCHEMA, sessionized_events_schema
from sessions_dagster.pipeline.audit import pending_of
from sessions_dagster.pipeline.check_tables import table_to_check
from sessions_dagster.pipeline.comparison import (
    EVENTS_WITH_RAW,
    SESSIONIZED_EVENTS,
    SESSIONS,
    SESSIONS_WITH_RAW,
    DateRange,
    Differences,
    compare_tables,
    extended_range,
    one_pass_over,
    with_columns_of,
    work_on,
)
from sessions_dagster.pipeline.refresh_sessions import refresh_sessions, remake_sessions
from sessions_dagster.spark.compat import try_cast
from sessions_dagster.storage.commit_metadata import AppliedBatches, applied_batches
from sessions_dagster.storage.correction_log import drop_uncommitted
from sessions_dagster.storage.delta_log import partition_dates
from sessions_dagster.storage.delta_tables import check_no_other_columns
from sessions_dagster.storage.filesystem import location_of
from sessions_dagster.storage.raw_events import lateness_of, set_lateness
from sessions_dagster.storage.rebuilt_events import replace_events
from sessions_dagster.storage.sessionized_events import ensure_sessionized_events, rules_of_table
from sessions_dagster.storage.slices import check_one_landing, slices
from sessions_dagster.storage.warehouse import Warehouse

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RebuildReport:
    """What a rebuild changes, or would change.

    Attributes:
        days: The event dates that it is about, extended to whole sessions; None: all.
        differences: How both tables differ from what they become: `missing` rows are added, `extra` ones removed.
        rules: The session rules that the tables are made with.
        old_rules: Those that they were built with; None if there was no `sessionized_events`.
        accepted_now: The rejected rows that came too late before, and would not by these rules, by the date of their
            batch. Their batches have to land again.
        is_applied: Whether the tables were changed, if there was something to change.
        versions: The version that each table has now, by its name; of those that there are.
        seconds: Wall time.
    """

    days: DateRange | None
    differences: Differences
    rules: SessionRules
    old_rules: SessionRules | None
    accepted_now: Mapping[date, int]
    is_applied: bool
    versions: Mapping[str, int]
    seconds: float

    @property
    def count(self) -> int:
        """How many rows of both tables differ."""
        return self.differences.of(SESSIONIZED_EVENTS, SESSIONS)


def rebuild(
    spark: SparkSession,
    warehouse: Warehouse,
    rules: SessionRules,
    carried_columns: Mapping[str, str] = NO_CARRIED_COLUMNS,
    days: DateRange | None = None,
    *,
    dry_run: bool = True,
    deletion_vectors: bool = True,
) -> RebuildReport:
    """Make `sessionized_events` and `sessions` anew from `raw_events`, each in one commit, or none if they are right.

    A rebuild that is interrupted leaves `sessionized_events` as it was, or leaves only `sessions` to do; running it
    again finishes it. It writes nothing into `session_corrections`.

    Args:
        spark: A session with Delta, in UTC.
        warehouse: Where the tables are.
        rules: The session rules. With other ones than the tables were built with, all dates are rebuilt.
        carried_columns: The type of each carried column, by its name.
        days: The event dates to rebuild, with the sessions that lie over them; None: all. The range is extended by the
            dates of sessions that have to change and lie over one of its ends.
        dry_run: Whether to tell only how the tables would differ.
        deletion_vectors: Whether later corrections only mark rows as deleted.

    Raises:
        TableNotFoundError: If there is no `raw_events`.
        SliceError: If a batch has rows of several landings in `raw_events`.
        SchemaMismatchError: If `sessionized_events` has columns that are not carried any more.
        RulesMismatchError: If some dates are to be rebuilt with other rules: a table has one set of rules. Or if the
            batches landed with more lateness.
        RebuildError: If some dates are to be rebuilt while batches have landed that are not applied.
        ConcurrentWriteError: If somebody else committed to a table in the meantime; running again is safe.
        SizeError: If a Spark property of `spark.tuning.Sizes` is not a size.
    """
    began = time.monotonic()
    with warehouse.reading(spark) if dry_run else warehouse.writing(spark):
        sessions, events = (warehouse.open(uri) for uri in (warehouse.sessions, warehouse.sessionized_events))
        old_rules = None if events is None else rules_of_table(events)
        raw_events = _landed(warehouse, rules)
        if events is not None:
            check_no_other_columns(events, sessionized_events_schema(rules, carried_columns))
        if not dry_run:
            events = _ready(spark, warehouse, rules, carried_columns, days, deletion_vectors)
            # Only now: whoever removes or applies rows after this look also commits to sessionized_events, and then the
            # swap is refused. On an object store nobody waits for the other.
            raw_events = _landed(warehouse, rules)
            if days is not None:
                _check_nothing_is_pending(raw_events, events)
        expected = one_pass_over(spark, warehouse, raw_events, rules, list(carried_columns))
        with work_on(spark, raw_events, events, sessions):
            schema = sessionized_events_schema(rules, carried_columns)
            found_events = _rows(spark, warehouse, SESSIONIZED_EVENTS, events, schema)
            if days is not None and old_rules == rules:
                days = extended_range(expected, found_events, days)
            differences = compare_tables(
                expected,
                {
                    SESSIONIZED_EVENTS: found_events,
                    SESSIONS: _rows(spark, warehouse, SESSIONS, sessions, SESSIONS_SCHEMA),
                },
                rules,
                list(carried_columns),
                days,
                [EVENTS_WITH_RAW, SESSIONS_WITH_RAW],
            )
            accepted_now = _accepted_now(spark, warehouse, raw_events, rules)
            if not dry_run and events is not None and _has_to_change(raw_events, events, rules, differences):
                _swap(warehouse, raw_events, events, expected, rules, carried_columns, days)
        if not dry_run:
            set_lateness(spark, warehouse, raw_events, rules)
    if not dry_run:
        _follow(spark, warehouse, differences, days)
    return RebuildReport(
        days=days,
        differences=differences,
        rules=rules,
        old_rules=old_rules,
        accepted_now=accepted_now,
        is_applied=not dry_run,
        versions=_versions(warehouse),
        seconds=time.monotonic() - began,
    )


def _landed(warehouse: Warehouse, rules: SessionRules) -> DeltaTable:
    """The newest version of `raw_events`, of which tables can be made by these rules."""
    raw_events = table_to_check(warehouse, warehouse.raw_events)
    found = slices(raw_events)
    check_one_landing(raw_events, found, found.times)
    landed_with = lateness_of(raw_events)
    if rules.lateness_days < landed_with:
        raise RulesMismatchError(
            f"The batches in {location_of(raw_events.table_uri)} landed with {landed_with} days of lateness, and "
            f"tables cannot be rebuilt from them with {rules.lateness_days}: later rows would stay in raw_events. "
            "Nothing was written. Use another warehouse root and backfill there."
        )
    return raw_events


def _ready(
    spark: SparkSession,
    warehouse: Warehouse,
    rules: SessionRules,
    carried_columns: Mapping[str, str],
    days: DateRange | None,
    deletion_vectors: bool,
) -> DeltaTable:
    """The table `sessionized_events`, ready to be rebuilt. It is created if there is none."""
    events = warehouse.open(warehouse.sessionized_events)
    if events is None or rules_of_table(events) == rules:
        events = ensure_sessionized_events(spark, warehouse, rules, carried_columns, deletion_vectors=deletion_vectors)
    elif days is not None:
        raise RulesMismatchError(
            f"{warehouse.sessionized_events} was built with {rules_of_table(events)}, and some of its dates cannot be "
            f"rebuilt with {rules}: a table has one set of rules. Nothing was written. Rebuild all dates; for some "
            "dates a dry run tells what would change."
        )
    # No entries of a dead run may count as those of the commit that follows.
    drop_uncommitted(spark, warehouse, events)
    return events


def _check_nothing_is_pending(raw_events: DeltaTable, events: DeltaTable) -> None:
    pending = pending_of(raw_events, events)
    if pending:
        raise RebuildError(
            f"Some dates cannot be rebuilt while batches have landed that are not applied: {date_list(pending)}. "
            "Nothing was written. Materialize sessionized_events for them first, or rebuild all dates."
        )


def _rows(
    spark: SparkSession, warehouse: Warehouse, name: str, table: DeltaTable | None, schema: StructType
) -> DataFrame:
    if table is None:
        return spark.createDataFrame([], schema)
    return with_columns_of(warehouse.read(spark, f"{warehouse.root}/{name}", table.version()), schema.names)


def _has_to_change(raw_events: DeltaTable, events: DeltaTable, rules: SessionRules, differences: Differences) -> bool:
    has_other_rules = rules_of_table(events) != rules
    return bool(has_other_rules or differences.of(SESSIONIZED_EVENTS) or pending_of(raw_events, events))


def _swap(
    warehouse: Warehouse,
    raw_events: DeltaTable,
    events: DeltaTable,
    rows: DataFrame,
    rules: SessionRules,
    carried_columns: Mapping[str, str],
    days: DateRange | None,
) -> None:
    applied = applied_batches(events)
    if days is None:
        landed = slices(raw_events).landings
        applied = AppliedBatches({**dict.fromkeys(applied.landings), **landed}, complete=True)
    replaced = None if days is None else _dates_in(days, raw_events, events, rules)
    if replaced is not None:
        rows = rows.where(among(EVENT_DATE, replaced))
    replace_events(
        events, warehouse.sessionized_events, rows, rules, carried_columns, replaced, applied.as_commit_metadata()
    )


def _dates_in(days: DateRange, raw_events: DeltaTable, events: DeltaTable, rules: SessionRules) -> Sequence[date]:
    """The dates of a range that the table has, or may get, rows of."""
    delivered = {day for batch in partition_dates(raw_events) for day in rules.batch_window(batch)}
    return sorted(day for day in delivered | {*partition_dates(events)} if days.first <= day <= days.last)


def _accepted_now(
    spark: SparkSession, warehouse: Warehouse, raw_events: DeltaTable, rules: SessionRules
) -> dict[date, int]:
    """How many rows of each batch were rejected because they came too late, and would be accepted by these rules."""
    rejected = warehouse.open(warehouse.rejected_events)
    if rejected is None or lateness_of(raw_events) >= rules.lateness_days:
        return {}
    rows = warehouse.read(spark, warehouse.rejected_events, rejected.version())
    lateness = F.datediff(BATCH_DATE, F.to_date(try_cast(F.col(TIMESTAMP), TimestampType())))
    # A time in a spelling that Spark does not know by itself may be near enough.
    is_near = F.coalesce(lateness <= rules.lateness_days, F.lit(True))
    accepted = rows.where((F.col(REASON) == RejectReason.TOO_LATE.value) & is_near)
    return {row[BATCH_DATE]: row["count"] for row in accepted.groupBy(BATCH_DATE).count().orderBy(BATCH_DATE).collect()}


def _follow(spark: SparkSession, warehouse: Warehouse, before: Differences, days: DateRange | None) -> None:
    """Make `sessions` what `sessionized_events` says, in one commit, also where only `sessions` was changed."""
    if before.of(SESSIONS) and warehouse.open(warehouse.sessions) is not None:
        remake_sessions(spark, warehouse, days)
    else:
        refresh_sessions(spark, warehouse)


def _versions(warehouse: Warehouse) -> dict[str, int]:
    names = ("raw_events", SESSIONIZED_EVENTS, SESSIONS)
    tables = {name: warehouse.open(f"{warehouse.root}/{name}") for name in names}
    return {name: table.version() for name, table in tables.items() if table is not None}
