"""Landing a batch: its good rows, and its bad ones, take the place of what the batch delivered before.

How files are read is in `input.readers`, and which rows are good in `classify`.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

from pyspark.sql import Column, DataFrame, Observation, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import TimestampType

from sessions_dagster.errors import is_retryable
from sessions_dagster.input.files import BatchFile
from sessions_dagster.input.folders import InputRoot, delivery
from sessions_dagster.input.formats import EpochUnit, InputFormat
from sessions_dagster.input.readers import find_broken_file, read_batch
from sessions_dagster.input.readers.rows import broken_files_named
from sessions_dagster.model.columns import BATCH_DATE, EVENT_DATE, LANDED_AT, REASON
from sessions_dagster.model.rejects import DEFAULT_BOT_LIMIT, RejectReason
from sessions_dagster.model.rules import SessionRules
from sessions_dagster.model.schemas import NO_CARRIED_COLUMNS, REJECTED_EVENTS_SCHEMA
from sessions_dagster.pipeline.classify import (
    accepted_by_group,
    accepted_events,
    classify,
    find_bots,
    reject_users,
    rejected_events,
    without_own_columns,
)
from sessions_dagster.spark.failures import SPARK_ERRORS, is_gone
from sessions_dagster.spark.tuning import CASE_SENSITIVE, Sizes, interpreted_if_few, spark_property
from sessions_dagster.storage.commit_metadata import applied_batches
from sessions_dagster.storage.delta_tables import ensure_table, files_for, replace_slice
from sessions_dagster.storage.forgotten_users import forgotten_users
from sessions_dagster.storage.full_disks import full_disk_text, full_disks_named
from sessions_dagster.storage.landed_batches import LandedBatch, is_noted, note_landing
from sessions_dagster.storage.log_statistics import statistics_of
from sessions_dagster.storage.raw_events import ensure_raw_events
from sessions_dagster.storage.slices import Slices, slices, unused_landing_time, warn_of_replaced
from sessions_dagster.storage.warehouse import Warehouse
from sessions_dagster.transforms.forgotten import is_of_forgotten, mentions_forgotten

_BYTES_A_ROW: Final = 10
"""About what a row takes in Parquet; text takes more. A wrong guess costs time and changes nothing else."""

_REJECTED: Final = "rejected"


@dataclass(frozen=True)
class LandingReport:
    """What landing a batch did.

    Attributes:
        day: The date of the batch.
        fingerprint: Which content of its folder landed (see `BatchContent`).
        left_out: What is in the folder, may be data, and was not read.
        files: The number of its data files.
        bytes: Their size.
        rows_by_lateness: The number of rows that are now its slice of `raw_events`, duplicates included, by how many
            days after their event date they were delivered: 0, 1, and so on up to the allowed lateness.
        rejected: The number of rows that are now its slice of `rejected_events`, by reason; only reasons with rows.
        raw_events_version: Version of `raw_events` that holds the slice.
        rejected_events_version: Version of `rejected_events` that holds the slice.
        seconds: Wall time.
    """

    day: date
    fingerprint: str
    left_out: Sequence[str]
    files: int
    bytes: int
    rows_by_lateness: Sequence[int]
    rejected: Mapping[RejectReason, int]
    raw_events_version: int
    rejected_events_version: int
    seconds: float

    @property
    def accepted(self) -> int:
        """Rows that are now the batch's slice of `raw_events`."""
        return sum(self.rows_by_lateness)

    @property
    def late(self) -> int:
        """Those of them with an event date before the batch's day."""
        return sum(self.rows_by_lateness[1:])


def land_batch(
    spark: SparkSession,
    input_root: InputRoot,
    warehouse: Warehouse,
    day: date,
    input_format: InputFormat,
    landed_at: datetime,
    rules: SessionRules,
    bot_limit: int | None = DEFAULT_BOT_LIMIT,
    carried_columns: Mapping[str, str] = NO_CARRIED_COLUMNS,
    epoch_unit: EpochUnit | None = None,
) -> LandingReport:
    """Read a batch and replace its slices of `raw_events` and `rejected_events`; all other slices stay as they are.

    Each slice is replaced in one commit, first the accepted rows: while they are written, all others are counted. Last
    of all, `raw_events` is told which content of the folder has landed. Both tables are created if they are missing.

    Args:
        spark: A session with Delta, in UTC.
        input_root: Where the batch's folder is.
        warehouse: Where the tables are.
        day: The batch.
        input_format: The format of all its files.
        landed_at: Now, with a time zone. It distinguishes this landing from all others of the batch, and is kept in
            milliseconds, which is the precision of the statistics in a Delta log. If the landing that is there has the
            same, or the one that was applied, the next one is taken: the clock was set back, or both are within a
            millisecond.
        rules: The session rules; their lateness says which event dates the batch may deliver.
        bot_limit: A user with more distinct events than this in the batch is a bot; None: nobody is.
        carried_columns: The type of each carried column, by its name.
        epoch_unit: What a `timestamp` counts that is a number since 1970; None: a number is not a timestamp.

    Raises:
        BatchError: If the batch cannot be landed as a whole. Both tables are as before.
        StorageError: If the storage of the batch fails. Until the batch lands again, one table may be as before.
        RulesMismatchError: If other batches landed with another lateness.
        SchemaMismatchError: If a table has other columns, and they cannot be added to it.
        SizeError: If a Spark property of `spark.tuning.Sizes` is not a size.
        ValueError: If `landed_at` has no time zone.
    """
    began = time.monotonic()
    if landed_at.tzinfo is None:
        raise ValueError(f"landed_at must have a time zone, {landed_at} has none")
    landed_at = landed_at.replace(microsecond=landed_at.microsecond // 1000 * 1000)
    delivered = delivery(input_root, day)
    size = sum(file.size for file in delivered.files)
    sizes = Sizes.of(spark)

    def read(files: Sequence[BatchFile]) -> DataFrame:
        return read_batch(spark, files, input_format, carried_columns, epoch_unit)

    with (
        interpreted_if_few(spark, size // _BYTES_A_ROW),
        # A column of the sender's own may differ from a required one in upper and lower case only.
        spark_property(spark, CASE_SENSITIVE, "true"),
        broken_files_named(lambda: find_broken_file(delivered.files, read)),
    ):
        # While the tables are written, that is done as well.
        with full_disks_named(spark, warehouse.root):
            rows = classify(read(delivered.files), day, rules)
            rows, are_none = _without_bots(rows, bot_limit, is_small=size < sizes.bytes_per_file)
        metrics = Observation()
        # The list of forgotten users is read after both tables were looked at. So a landing that does not know a user
        # yet is refused if the user is removed from one of them before it has committed.
        with warehouse.writing(spark), warehouse.looking_once():
            ensure_table(
                spark,
                warehouse,
                warehouse.rejected_events,
                REJECTED_EVENTS_SCHEMA,
                partition_by=BATCH_DATE,
                properties=statistics_of(warehouse.rejected_events),
            )
            raw_events = ensure_raw_events(spark, warehouse, rules, carried_columns)
            found = slices(raw_events)
            warn_of_replaced(raw_events, found, day)
            landed_at = unused_landing_time(found, day, landed_at, _applied_landing(warehouse, found, day))
            forgotten = forgotten_users(spark, warehouse)
            if forgotten.hashes:
                rows = rows.where(~is_of_forgotten(forgotten))
                are_none = are_none or _none_is_accepted(rows)
            accepted = accepted_events(rows.observe(metrics, *_metrics(day, rules)), carried_columns)
            if are_none:
                # Then nothing may be written that could be counted on the way.
                accepted.write.format("noop").mode("overwrite").save()
            raw_version = replace_slice(
                warehouse,
                warehouse.raw_events,
                day,
                _slice(accepted, day, landed_at).coalesce(files_for(size, sizes.bytes_per_file, spark)),
                row_count=0 if are_none else None,
            )
            rejected_rows = metrics.get[_REJECTED]

            def replace_rejected(rows: DataFrame, reasons: Observation) -> int:
                rejected = rejected_events(rows)
                if forgotten.hashes:
                    rejected = rejected.where(~mentions_forgotten(forgotten))
                rejected = rejected.observe(reasons, *_by_reason())
                # Gathered from all tasks of the read: there are few of these rows, and they need few files.
                slice_ = _slice(rejected, day, landed_at).repartition(
                    files_for(rejected_rows, sizes.rows_per_file, spark)
                )
                return replace_slice(warehouse, warehouse.rejected_events, day, slice_, row_count=rejected_rows)

            try:
                rejected_version = replace_rejected(rows, reasons := Observation())
            except SPARK_ERRORS as error:
                if full_disk_text(error) is not None or is_retryable(error) or is_gone(error):
                    # That says nothing about the rows, and another attempt keeps all of their columns.
                    raise
                # Only now are the sender's own columns read. What is damaged in them must not separate the two tables.
                rejected_version = replace_rejected(without_own_columns(rows), reasons := Observation())
            by_lateness = tuple(metrics.get[_late(days)] for days in rules.latenesses)
            landed = LandedBatch(delivered.fingerprint, landed_at if any(by_lateness) else None)
            note_landing(warehouse, day, landed)
    return LandingReport(
        day=day,
        fingerprint=delivered.fingerprint,
        left_out=delivered.left_out,
        files=len(delivered.files),
        bytes=size,
        rows_by_lateness=by_lateness,
        rejected=_rejected_in(reasons) if rejected_rows else {},
        raw_events_version=raw_version,
        rejected_events_version=rejected_version,
        seconds=time.monotonic() - began,
    )


def _applied_landing(warehouse: Warehouse, found: Slices, day: date) -> datetime | None:
    """The landing of a batch that was applied; None if there is none."""
    if day not in found.times and not is_noted(warehouse, day):
        # This is its first landing, as on most days.
        return None
    events = warehouse.open(warehouse.sessionized_events)
    return None if events is None else applied_batches(events).landings.get(day)


def _without_bots(rows: DataFrame, bot_limit: int | None, *, is_small: bool) -> tuple[DataFrame, bool]:
    """Classified rows, those of bots rejected, and whether none of them is accepted."""
    if bot_limit is not None and is_small:
        # Each query of a small batch counts. Hardly ever does it have so many rows that this one cannot answer both.
        counts = accepted_by_group(rows)
        if max(counts, default=0) <= bot_limit:
            return rows, not counts
    if bot_limit is not None:
        rows = reject_users(rows, find_bots(rows, bot_limit))
    return rows, _none_is_accepted(rows)


def _none_is_accepted(rows: DataFrame) -> bool:
    # This ends with the first accepted row.
    return rows.where(F.col(REASON).isNull()).isEmpty()


def _slice(rows: DataFrame, day: date, landed_at: datetime) -> DataFrame:
    return rows.select(
        "*",
        F.lit(day).alias(BATCH_DATE),
        F.lit(landed_at).cast(TimestampType()).alias(LANDED_AT),
    )


def _metrics(day: date, rules: SessionRules) -> list[Column]:
    """What is counted of all classified rows while the accepted ones are written."""
    is_accepted = F.col(REASON).isNull()
    event_dates = {days: F.lit(day - timedelta(days=days)) for days in rules.latenesses}
    return [
        *[F.count_if(is_accepted & (F.col(EVENT_DATE) == at)).alias(_late(days)) for days, at in event_dates.items()],
        F.count(REASON).alias(_REJECTED),
    ]


def _late(days: int) -> str:
    return f"late_{days}"


def _by_reason() -> list[Column]:
    """What is counted while the rejected rows are written. For all rows of a good batch it would not be worth it."""
    return [F.count_if(F.col(REASON) == reason.value).alias(reason.value) for reason in RejectReason]


def _rejected_in(reasons: Observation) -> dict[RejectReason, int]:
    return {reason: reasons.get[reason.value] for reason in RejectReason if reasons.get[reason.value]}
