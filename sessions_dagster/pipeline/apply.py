"""Applying batches: one atomic commit after which `sessionized_events` reflects them exactly."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession

from sessions_dagster.errors import BatchError, ConcurrentWriteError
from sessions_dagster.model.changes import Change, ChangeSet, SessionChange, count_of_corrected
from sessions_dagster.model.counts import number_of
from sessions_dagster.model.dates import counted, date_list
from sessions_dagster.model.rules import SessionRules
from sessions_dagster.model.schemas import NO_CARRIED_COLUMNS
from sessions_dagster.pipeline.compute_changes import ExistingEvents, IncomingBatches, compute_changes
from sessions_dagster.pipeline.pending import PendingBatch, pending_batches
from sessions_dagster.spark.tuning import is_remote, tuned
from sessions_dagster.storage.commit_metadata import AppliedBatches, applied_batches
from sessions_dagster.storage.correction_log import drop_uncommitted, write_ahead
from sessions_dagster.storage.delta_log import landed_rows, partition_dates, rows_around
from sessions_dagster.storage.filesystem import location_of, storage_errors
from sessions_dagster.storage.raw_events import ensure_raw_events
from sessions_dagster.storage.sessionized_events import ensure_sessionized_events
from sessions_dagster.storage.slices import NO_SLICES, Slices, check_one_landing, slices
from sessions_dagster.storage.warehouse import Warehouse
from sessions_dagster.storage.write_changes import write_changes

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ApplyReport:
    """What applying batches did; all counts are of this run.

    Attributes:
        version: The version of `sessionized_events` after the run.
        committed: False if nothing had to change and so nothing was written.
        applied: The batches whose landing was new to the table.
        present: The batches of the window that have rows in `raw_events`.
        pending_elsewhere: The landed batches outside of the window whose landing the table does not reflect.
        inserted, updated, deleted: The number of rows, by event date.
        sessions_new: The number of sessions that share no user action with one written before.
        session_changes: The number of sessions written before, by what became of them; `kept` if nothing did.
        seconds: Wall time.
    """

    version: int
    committed: bool
    applied: tuple[date, ...]
    present: tuple[date, ...]
    pending_elsewhere: tuple[date, ...] = ()
    inserted: Mapping[date, int] = field(default_factory=dict)
    updated: Mapping[date, int] = field(default_factory=dict)
    deleted: Mapping[date, int] = field(default_factory=dict)
    sessions_new: int = 0
    session_changes: Mapping[SessionChange, int] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def sessions_corrected(self) -> int:
        """The number of sessions written before whose bounds changed, or that are gone."""
        return count_of_corrected(self.session_changes)

    @property
    def dates_touched(self) -> tuple[date, ...]:
        """The event dates with any row inserted, updated or deleted, in order."""
        return tuple(sorted({*self.inserted, *self.updated, *self.deleted}))


def apply_batches(
    spark: SparkSession,
    warehouse: Warehouse,
    window: Sequence[date],
    rules: SessionRules,
    carried_columns: Mapping[str, str] = NO_CARRIED_COLUMNS,
    *,
    deletion_vectors: bool = True,
) -> ApplyReport:
    """Make `sessionized_events` reflect every landed batch of a window exactly, in one commit, or none if it does.

    What becomes of sessions that were written before is kept in `session_corrections`. Of two runs at the same time one
    waits on a local warehouse; on S3 the later commit is refused, and on other stores the scheduler must let only one
    run write.

    Args:
        spark: A session with Delta, in UTC.
        warehouse: Where the tables are.
        window: The dates of the batches to look at. What other batches delivered stays as it is.
        rules: The session rules; they must be those that the table was built with.
        carried_columns: The type of each carried column, by its name.
        deletion_vectors: Whether rows that are replaced are only marked as deleted, from this run on.

    Raises:
        BatchError: If `raw_events` is gone although batches of it were applied.
        SliceError: If a batch of the window has rows of several landings in `raw_events`: somebody else wrote them.
        RulesMismatchError: If the table was built with other rules, or the batches landed with another lateness.
        SchemaMismatchError: If the table has other columns, and they cannot be added to it.
        ConcurrentWriteError: If somebody else committed to the table in the meantime; running again is safe.
        SizeError: If a Spark property of `spark.tuning.Sizes` is not a size.
    """
    began = time.monotonic()
    with warehouse.writing(spark):
        events = ensure_sessionized_events(spark, warehouse, rules, carried_columns, deletion_vectors=deletion_vectors)
        checked = drop_uncommitted(spark, warehouse, events)
        raw_events = warehouse.open(warehouse.raw_events)
        found = NO_SLICES
        if raw_events is not None:
            found = slices(raw_events)
            # The values of carried columns are looked up in slices outside of the window, too.
            check_one_landing(raw_events, found, found.times if carried_columns else window)
            _warn_of_others(raw_events, found, window)
        landed = found.landings
        applied = applied_batches(events)
        pending = pending_batches(window, landed, applied)
        present = tuple(day for day in window if day in landed)
        elsewhere = tuple(batch.day for batch in pending_batches(sorted(landed.keys() - {*window}), landed, applied))
        if not pending:
            seconds = time.monotonic() - began
            return ApplyReport(events.version(), False, (), present, elsewhere, seconds=seconds)
        if raw_events is None:
            raise BatchError(
                f"There is no table {warehouse.raw_events}, but {warehouse.sessionized_events} reflects batches from "
                "it. Put the table back, or land the batches again."
            )
        # The batches may have landed before a column was carried.
        ensure_raw_events(spark, warehouse, rules, carried_columns)
        days = [batch.day for batch in pending]
        row_count = landed_rows(raw_events, days)
        logger.info("applying %s: %s", counted(days, "batch", "batches"), number_of(row_count, "row"))
        with tuned(spark, rows_around(window, rules, raw_events, events)):
            existing = ExistingEvents(_existing_rows(spark, warehouse, events), partition_dates(events))
            raw_rows = warehouse.read(spark, warehouse.raw_events, raw_events.version())
            incoming = IncomingBatches(raw_rows, pending, row_count)
            changes = compute_changes(existing, incoming, rules, carried_columns)
            _check_unchanged(events)
            written = changes.count(Change.INSERT, Change.UPDATE, Change.REMOVE)
            logger.info("writing %s, and the new rows that no existing one is near", number_of(written, "changed row"))
            of_entries = write_ahead(spark, warehouse, changes, events, checked)
            metadata = {**_applied_after(applied, pending).as_commit_metadata(), **of_entries}
            committed = write_changes(events, warehouse.sessionized_events, changes, metadata)
        return _report(events, committed, days, present, elsewhere, changes, time.monotonic() - began)


def _warn_of_others(raw_events: DeltaTable, found: Slices, window: Sequence[date]) -> None:
    """Warns of slices outside of the window that a run for their days would refuse."""
    others = sorted(found.unclear - {*window})
    if others:
        logger.warning(
            "%s has rows of several landings in slices that this run does not apply: %s. A run for these days is "
            "refused, and says which version did that.",
            location_of(raw_events.table_uri),
            date_list(others),
        )


def _existing_rows(spark: SparkSession, warehouse: Warehouse, events: DeltaTable) -> DataFrame:
    if is_remote(spark):
        # Over Spark Connect each query looks up the table anew, and the one that writes does so after the last check.
        return warehouse.read(spark, warehouse.sessionized_events, events.version())
    # The newest version: Delta keeps its state in memory, but not that of a version that is asked for by its number.
    # That nobody committed in the meantime is checked before the run commits.
    return spark.read.format("delta").load(warehouse.sessionized_events)


def _report(
    events: DeltaTable,
    committed: int | None,
    applied: Sequence[date],
    present: tuple[date, ...],
    elsewhere: tuple[date, ...],
    changes: ChangeSet,
    seconds: float,
) -> ApplyReport:
    inserted, begun = dict(changes.counts.get(Change.INSERT, {})), changes.sessions_begun
    if committed is not None and changes.append_only is not None:
        appended = changes.append_only.metrics.get
        day = changes.append_only.event_date
        begun += appended["sessions"]
        if appended["rows"]:
            inserted[day] = inserted.get(day, 0) + appended["rows"]
    return ApplyReport(
        version=events.version() if committed is None else committed,
        committed=committed is not None,
        applied=tuple(applied),
        present=present,
        pending_elsewhere=elsewhere,
        inserted=inserted,
        updated=changes.counts.get(Change.UPDATE, {}),
        deleted=changes.counts.get(Change.REMOVE, {}),
        sessions_new=begun,
        session_changes=changes.session_counts,
        seconds=seconds,
    )


def _applied_after(applied: AppliedBatches, pending: Sequence[PendingBatch]) -> AppliedBatches:
    landings_after = {**applied.landings, **{batch.day: batch.landed_at for batch in pending}}
    return AppliedBatches(landings_after, applied.complete)


def _check_unchanged(events: DeltaTable) -> None:
    """Checks that a correction was computed from the version that it says. A landing since then is for the next run."""
    version = events.version()
    with storage_errors():
        # Lists the log, so a table that was put back with fewer versions is noticed as well.
        events.update_incremental()
    if events.version() != version:
        raise ConcurrentWriteError(
            f"{location_of(events.table_uri)} went from version {version} to {events.version()} while a correction was "
            "computed from it: another run wrote to it. Nothing was written. Run this partition again, and let only "
            "one run write at a time."
        )
