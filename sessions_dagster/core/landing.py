"""Landing a batch: good rows are told from bad, and take the place of what the batch delivered before.

What a delivered row is, whatever the format of its file, is in `batch`.
"""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

from pyspark.sql import Column, DataFrame, Observation, Row, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DateType, StructType, TimestampType

from sessions_dagster.core.batch import (
    TIMESTAMP_TEXT,
    UNREADABLE,
    InputFormat,
    batch_files,
    broken_files_named,
    read_batch,
)
from sessions_dagster.core.contract import (
    BATCH_DATE,
    BOT_LIMIT,
    EVENT,
    EVENT_DATE,
    EVENT_IDENTITY,
    LANDED_AT,
    LATENESS_DAYS,
    LATENESSES,
    PRODUCT,
    RAW_EVENTS_SCHEMA,
    REASON,
    REJECTED_EVENTS_SCHEMA,
    TIMESTAMP,
    USER,
    RejectReason,
)
from sessions_dagster.core.settings import compiled_if_worth
from sessions_dagster.core.tables import STATISTICS_PROPERTY, ensure_table, files_for, replace_slice
from sessions_dagster.lake.places import InputRoot, Warehouse
from sessions_dagster.runtime.sizing import Sizes

_BYTES_A_ROW: Final = 10
"""About what Parquet takes; text takes more. A wrong guess costs time and changes nothing else."""

_GROUP: Final = "group_of_users"
_GROUPS_OF_USERS: Final = 65_536
"""So many that an ordinary batch of a billion events has 15,000 in each, far below a sensible limit."""

_REJECTED: Final = "rejected"

_PROPERTIES: Final = {STATISTICS_PROPERTY: LANDED_AT}
"""`lake.log.landings` asks for it."""


@dataclass(frozen=True)
class LandingReport:
    """What landing a batch did.

    Attributes:
        day: The batch.
        files: Its data files.
        bytes: Their size.
        rows_by_lateness: Rows that are now its slice of `raw_events`, duplicates included, by how many days after their
            event date they came: 0 .. 5.
        rejected: Rows that are now its slice of `rejected_events`, by reason; a reason without rows is not there.
        raw_events_version: Version of `raw_events` that holds the slice.
        rejected_events_version: Version of `rejected_events` that holds the slice.
        seconds: Wall time.
    """

    day: date
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
    bot_limit: int | None = BOT_LIMIT,
) -> LandingReport:
    """Read a batch and replace its slices of `raw_events` and `rejected_events`; all other slices stay as they are.

    Each slice is replaced in one commit, the accepted rows first: writing them also counts all others. Both tables are
    created if they are missing.

    Args:
        spark: A session with Delta, in UTC, with `spark.sql.legacy.parquet.nanosAsLong`.
        input_root: Where the batch's folder is.
        warehouse: Where the tables are.
        day: The batch.
        input_format: The format of all its files.
        landed_at: Now, with a time zone. What tells this landing from any other one of the batch: kept in milliseconds,
            the precision of the statistics in a Delta log.
        bot_limit: A user with more distinct events than this in the batch is a bot; None: nobody is.

    Raises:
        BatchError: If the batch cannot be landed as a whole. Both tables are as before.
        StorageError: If the storage of the batch fails. Until the batch lands again, one table may be as before.
        SizeError: If a property of the session is to be a size, and is none.
        ValueError: If `landed_at` has no time zone.
    """
    began = time.monotonic()
    if landed_at.tzinfo is None:
        raise ValueError(f"landed_at must have a time zone, {landed_at} has none")
    files = batch_files(input_root, day)
    size = sum(file.size for file in files)
    sizes = Sizes.of(spark)
    with broken_files_named(), compiled_if_worth(spark, size // _BYTES_A_ROW):
        rows = classify(read_batch(spark, files, input_format), day)
        if bot_limit is not None:
            rows = reject_users(rows, find_bots(rows, bot_limit))
        counts, reasons = Observation(), Observation()
        with warehouse.writing():
            _ensure_tables(spark, warehouse)
            raw_version = replace_slice(
                warehouse.raw_events,
                day,
                _slice(accepted_events(rows.observe(counts, *_tallies(day))), day, landed_at).coalesce(
                    files_for(size, sizes.bytes_per_file, spark)
                ),
            )
            rejected_rows = counts.get[_REJECTED]
            rejected_version = replace_slice(
                warehouse.rejected_events,
                day,
                # Gathered from all tasks of the read: there are few of them, and they need few files.
                _slice(rejected_events(rows.observe(reasons, *_by_reason())), day, landed_at).repartition(
                    files_for(rejected_rows, sizes.rows_per_file, spark)
                ),
                row_count=rejected_rows,
            )
    return LandingReport(
        day=day,
        files=len(files),
        bytes=size,
        rows_by_lateness=tuple(counts.get[_late(days)] for days in LATENESSES),
        rejected=_rejected_in(reasons) if rejected_rows else {},
        raw_events_version=raw_version,
        rejected_events_version=rejected_version,
        seconds=time.monotonic() - began,
    )


def classify(delivered: DataFrame, day: date) -> DataFrame:
    """Say of each delivered row whether it is accepted.

    Args:
        delivered: Rows as `read_batch` gives them.
        day: The batch that delivered them.

    Returns:
        The same rows with two more columns: `event_date` (date, UTC; NULL where there is no timestamp) and `reason`
        (string, a `RejectReason`; NULL where the row is accepted).
    """
    event_date = F.col(TIMESTAMP).cast(DateType())
    verdicts = {
        RejectReason.UNREADABLE_RECORD: F.col(UNREADABLE),
        RejectReason.EMPTY_USER_ID: _is_empty(USER),
        RejectReason.EMPTY_EVENT_ID: _is_empty(EVENT),
        RejectReason.EMPTY_PRODUCT_CODE: _is_empty(PRODUCT),
        RejectReason.MISSING_TIMESTAMP: F.col(TIMESTAMP).isNull() & _is_empty(TIMESTAMP_TEXT),
        RejectReason.UNPARSABLE_TIMESTAMP: F.col(TIMESTAMP).isNull(),
        RejectReason.AFTER_BATCH_DAY: event_date > F.lit(day),
        RejectReason.TOO_LATE: event_date < F.lit(day - timedelta(days=LATENESS_DAYS)),
    }
    in_order = [reason for reason in RejectReason if reason in verdicts]
    reason = F.coalesce(*[F.when(verdicts[reason], F.lit(reason.value)) for reason in in_order])
    return delivered.select("*", event_date.alias(EVENT_DATE), reason.alias(REASON))


def find_bots(classified: DataFrame, bot_limit: int) -> list[str]:
    """The users who have more distinct accepted events in the batch than the limit allows, in order.

    Args:
        classified: Rows as `classify` gives them.
        bot_limit: So many events are still fine.
    """
    # First a pass over one column, and not by user: hardly ever has a group of users as many events as one may have.
    in_groups = classified.select(_group_of_users().alias(_GROUP))
    crowded = [row[_GROUP] for row in _larger(in_groups, _GROUP, bot_limit)]
    if not crowded:
        return []
    events = accepted_events(classified).where(_group_of_users().isin(*crowded))
    return sorted(row[USER] for row in _larger(events.select(*EVENT_IDENTITY).distinct(), USER, bot_limit))


def reject_users(classified: DataFrame, bots: Collection[str]) -> DataFrame:
    """Give every accepted row of some users the reason `bot`.

    Args:
        classified: Rows as `classify` gives them.
        bots: The users.

    Returns:
        The same rows and columns.
    """
    if not bots:
        return classified
    is_bot = F.col(REASON).isNull() & F.col(USER).isin(*bots)
    return classified.withColumn(REASON, F.when(is_bot, F.lit(RejectReason.BOT.value)).otherwise(F.col(REASON)))


def accepted_events(classified: DataFrame) -> DataFrame:
    """The accepted rows, with the columns of `raw_events` except those of its slice."""
    return classified.where(F.col(REASON).isNull()).select(*_own_columns(RAW_EVENTS_SCHEMA))


def rejected_events(classified: DataFrame) -> DataFrame:
    """The rejected rows, with the columns of `rejected_events` except those of its slice."""
    rejected = classified.where(F.col(REASON).isNotNull()).withColumn(TIMESTAMP, F.col(TIMESTAMP_TEXT))
    # As delivered, but for bytes that are no text: with them in a string, nobody but Spark could read the file.
    as_text = {name: F.make_valid_utf8(name) for name in EVENT_IDENTITY}
    return rejected.withColumns(as_text).select(*_own_columns(REJECTED_EVENTS_SCHEMA))


def _ensure_tables(spark: SparkSession, warehouse: Warehouse) -> None:
    schemas = {warehouse.rejected_events: REJECTED_EVENTS_SCHEMA, warehouse.raw_events: RAW_EVENTS_SCHEMA}
    for table_uri, schema in schemas.items():
        ensure_table(spark, table_uri, schema, partition_by=BATCH_DATE, properties=_PROPERTIES)


def _own_columns(schema: StructType) -> list[str]:
    return [name for name in schema.names if name not in {BATCH_DATE, LANDED_AT}]


def _slice(rows: DataFrame, day: date, landed_at: datetime) -> DataFrame:
    in_milliseconds = landed_at.replace(microsecond=landed_at.microsecond // 1000 * 1000)
    return rows.select(
        "*",
        F.lit(day).alias(BATCH_DATE),
        F.lit(in_milliseconds).cast(TimestampType()).alias(LANDED_AT),
    )


def _is_empty(column: str) -> Column:
    # The column once only: what it is made of is not computed ahead then, but where the condition gets that far.
    return F.coalesce(column, F.lit("")) == ""


def _group_of_users() -> Column:
    return F.pmod(F.hash(USER), F.lit(_GROUPS_OF_USERS))


def _larger(rows: DataFrame, column: str, limit: int) -> list[Row]:
    """The values of a column that more rows have than the limit allows."""
    return rows.groupBy(column).count().where(F.col("count") > limit).collect()


def _tallies(day: date) -> list[Column]:
    """What is counted of all classified rows while the accepted ones are written."""
    is_accepted = F.col(REASON).isNull()
    event_dates = {days: F.lit(day - timedelta(days=days)) for days in LATENESSES}
    return [
        *[F.count_if(is_accepted & (F.col(EVENT_DATE) == at)).alias(_late(days)) for days, at in event_dates.items()],
        F.count(REASON).alias(_REJECTED),
    ]


def _late(days: int) -> str:
    return f"late_{days}"


def _by_reason() -> list[Column]:
    """What is counted while the rejected ones are: for all rows of a good batch it would cost more than it tells."""
    return [F.count_if(F.col(REASON) == reason.value).alias(reason.value) for reason in RejectReason]


def _rejected_in(reasons: Observation) -> dict[RejectReason, int]:
    return {reason: reasons.get[reason.value] for reason in RejectReason if reasons.get[reason.value]}
