"""The audit: whether `sessionized_events` and `sessions` are what `raw_events` says. It writes nothing."""

import logging
import time
from dataclasses import dataclass
from datetime import date

from deltalake import DeltaTable
from pyspark.sql import SparkSession

from sessions_dagster.errors import AuditError
from sessions_dagster.model.dates import date_list, day_range
from sessions_dagster.pipeline.check_tables import table_to_check
from sessions_dagster.pipeline.comparison import (
    EVENTS_WITH_RAW,
    SESSIONIZED_EVENTS,
    SESSIONS,
    SESSIONS_WITH_EVENTS,
    SESSIONS_WITH_RAW,
    DateRange,
    Differences,
    carried_columns_of,
    compare_tables,
    one_pass_over,
    work_on,
)
from sessions_dagster.pipeline.pending import pending_batches
from sessions_dagster.storage.commit_metadata import WRITER_KEY, applied_batches, version_followed
from sessions_dagster.storage.delta_log import commit_info
from sessions_dagster.storage.sessionized_events import rules_of_table
from sessions_dagster.storage.slices import check_one_landing, slices
from sessions_dagster.storage.warehouse import Warehouse

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class AuditReport:
    """What an audit found.

    Attributes:
        days: The event dates that were compared; None: all.
        differences: In what the tables differ.
        pending: The batches that have landed and are not applied yet. They are differences, too.
        is_behind: Whether a run has corrected `sessionized_events`, and `sessions` has not followed yet.
        versions: The version of each table that was read, by its name.
        seconds: Wall time.
    """

    days: DateRange | None
    differences: Differences
    pending: tuple[date, ...]
    is_behind: bool
    versions: dict[str, int]
    seconds: float

    @property
    def count(self) -> int:
        """How many rows of both tables differ. Of the two comparisons of `sessions` it is the one that finds more."""
        of_events, *of_sessions = (
            sum(self.differences.counts.get(comparison, {}).values())
            for comparison in (EVENTS_WITH_RAW, SESSIONS_WITH_RAW, SESSIONS_WITH_EVENTS)
        )
        return of_events + max(of_sessions)

    def check(self) -> None:
        """Check that nothing differs.

        Raises:
            AuditError: If something does. The message says what to do next.
        """
        if not self.count:
            return
        days = "" if self.days is None else f" on {day_range(*self.days)}"
        if self.pending:
            step = (
                f"These batches have landed and are not applied yet: {date_list(self.pending)}. Materialize "
                "sessionized_events and sessions for them, and audit again."
            )
        elif self.is_behind:
            step = (
                "sessionized_events was corrected, and sessions has not followed yet. Materialize sessions, and audit "
                "again."
            )
        else:
            step = "Run rebuild, which first tells what it would change, and makes both tables anew from raw_events."
        raise AuditError(f"The tables are not what raw_events says{days}. Nothing was changed. {step}")


def audit(spark: SparkSession, warehouse: Warehouse, days: DateRange | None = None) -> AuditReport:
    """Compare `sessionized_events` with one pass over `raw_events`, and `sessions` with both. Nothing is written.

    All rows of `raw_events` are read, also for few dates: a session can cross any number of midnights.

    Args:
        spark: A session with Delta, in UTC.
        warehouse: Where the tables are.
        days: The event dates to compare, and those that a session has to lie over to be compared; None: all.

    Raises:
        TableNotFoundError: If one of the three tables is missing.
        RulesMismatchError: If `sessionized_events` was not created by this project.
        SliceError: If a batch has rows of several landings in `raw_events`.
        DamagedTableError: If a file of one of them cannot be read.
        FullDiskError: If a disk is full.
        SizeError: If a Spark property of `spark.tuning.Sizes` is not a size.
    """
    began = time.monotonic()
    # What another run does meanwhile is pending then, and no difference that nobody can explain.
    sessions = table_to_check(warehouse, warehouse.sessions)
    events = table_to_check(warehouse, warehouse.sessionized_events)
    raw_events = table_to_check(warehouse, warehouse.raw_events)
    rules = rules_of_table(events)
    found = slices(raw_events)
    check_one_landing(raw_events, found, found.times)
    carried = carried_columns_of(events, rules)
    with warehouse.reading(spark), work_on(spark, raw_events, events, sessions):
        differences = compare_tables(
            one_pass_over(spark, warehouse, raw_events, rules, carried),
            {
                SESSIONIZED_EVENTS: warehouse.read(spark, warehouse.sessionized_events, events.version()),
                SESSIONS: warehouse.read(spark, warehouse.sessions, sessions.version()),
            },
            rules,
            carried,
            days,
            [EVENTS_WITH_RAW, SESSIONS_WITH_RAW, SESSIONS_WITH_EVENTS],
        )
    versions = {"raw_events": raw_events.version(), SESSIONIZED_EVENTS: events.version(), SESSIONS: sessions.version()}
    return AuditReport(
        days=days,
        differences=differences,
        pending=pending_of(raw_events, events),
        is_behind=_is_behind(events, sessions),
        versions=versions,
        seconds=time.monotonic() - began,
    )


def _is_behind(events: DeltaTable, sessions: DeltaTable) -> bool:
    """Whether the newest commit is one of our runs that `sessions` does not reflect, and nobody else's since."""
    if version_followed(sessions, events) == events.version():
        return False
    try:
        return WRITER_KEY in str(commit_info(events, events.version()).get("userMetadata"))
    except FileNotFoundError:
        return False


def pending_of(raw_events: DeltaTable, events: DeltaTable) -> tuple[date, ...]:
    """The batches whose newest landing `sessionized_events` does not reflect, by what the logs say, in order."""
    landed, applied = slices(raw_events).landings, applied_batches(events)
    return tuple(batch.day for batch in pending_batches(sorted({*landed, *applied.landings}), landed, applied))
