"""The product and what it is compared with: each contender takes the batch of a day and writes a table.

All contenders read the same batches and run in the same process. Those that use Spark share one session. What a
contender prepares before its time is measured, such as an empty table, is in its method `prepare`. Whether the
contenders computed the same rows is for `comparison` to decide.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

import duckdb
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from sessions_dagster.input.folders import InputRoot
from sessions_dagster.model.columns import BATCH_DATE, EVENT_DATE, EVENT_IDENTITY, TIMESTAMP
from sessions_dagster.model.rejects import DEFAULT_BOT_LIMIT
from sessions_dagster.model.rules import SessionRules
from sessions_dagster.model.schemas import sessionized_events_schema
from sessions_dagster.pipeline.apply import ApplyReport, apply_batches
from sessions_dagster.pipeline.land import LandingReport, land_batch
from sessions_dagster.pipeline.summarize import summarize_events
from sessions_dagster.storage.delta_tables import ensure_table
from sessions_dagster.storage.warehouse import Warehouse
from sessions_dagster.transforms.sessionize import (
    INTERVAL_END,
    INTERVAL_START,
    assign_sessions,
    interval_end_of_event,
    session_id,
)

_RULES: Final = SessionRules()

_ROWS_AT_ONCE: Final = 50_000_000
"""What DuckDB sessionizes in some 10 GB."""

CONTRACT_SCHEMA: Final = StructType(sessionized_events_schema(_RULES, {}).fields[:8])
"""The columns of `sessionized_events` that the contract requires, without those for the product's own use."""


def window_of(day: date) -> list[date]:
    """Return the batch days of the window of a day: the day itself and the five days before it."""
    return _RULES.batch_window(day)


@dataclass(frozen=True)
class Ours:
    """The product: it makes `raw_events` and `sessionized_events` of a day as its assets do."""

    spark: SparkSession
    input: InputRoot
    warehouse: Warehouse
    bot_limit: int | None = DEFAULT_BOT_LIMIT
    deletion_vectors: bool = True

    def land(self, day: date) -> LandingReport:
        """Make `raw_events` of a day."""
        return land_batch(
            self.spark,
            self.input,
            self.warehouse,
            day,
            "parquet",
            landed_at=datetime.now(UTC),
            rules=_RULES,
            bot_limit=self.bot_limit,
        )

    def sessionize(self, day: date) -> ApplyReport:
        """Make `sessionized_events` of a day, with the summary that the asset shows in the UI."""
        report = self.sessionize_range([day])
        summarize_events(self.spark, self.warehouse, [day], _RULES)
        return report

    def sessionize_range(self, days: Sequence[date]) -> ApplyReport:
        """Make `sessionized_events` of consecutive days in one commit."""
        window = sorted({each for day in days for each in window_of(day)})
        return apply_batches(self.spark, self.warehouse, window, _RULES, deletion_vectors=self.deletion_vectors)

    def raw_events(self) -> DataFrame:
        """Return all landed rows."""
        return self.spark.read.format("delta").load(self.warehouse.raw_events)

    def rows(self) -> DataFrame:
        """Return the rows of the table."""
        return self.spark.read.format("delta").load(self.warehouse.sessionized_events)


@dataclass(frozen=True)
class Floor:
    """The least that the sessions of a batch can cost: only this batch is sessionized and appended."""

    ours: Ours
    table_uri: str

    def prepare(self) -> None:
        """Create an empty table with the product's partitions and deletion vectors, and Delta's default statistics."""
        shutil.rmtree(self.table_uri, ignore_errors=True)
        _ensure_sessions_table(self.ours.spark, self.table_uri)

    def sessionize(self, day: date) -> None:
        """Append the sessions of the batch of a day."""
        batch = self.ours.raw_events().where(F.col(BATCH_DATE) == day)
        _with_sessions(batch.select(*EVENT_IDENTITY)).write.format("delta").mode("append").save(self.table_uri)

    def rows(self) -> DataFrame:
        """Return the rows of the table."""
        return self.ours.spark.read.format("delta").load(self.table_uri)


@dataclass(frozen=True)
class Recompute:
    """The simple way: the six batches of the window are sessionized again and overwrite their six dates."""

    ours: Ours
    table_uri: str

    def sessionize(self, day: date) -> None:
        """Overwrite the six dates that end with a day."""
        _ensure_sessions_table(self.ours.spark, self.table_uri)
        window = window_of(day)
        incoming = self.ours.raw_events().where(F.col(BATCH_DATE).isin(*window))
        sessionized = _with_sessions(incoming.select(*EVENT_IDENTITY).distinct())
        # Two comparisons, because Delta does not resolve BETWEEN in `replaceWhere`.
        first, last = window[0].isoformat(), window[-1].isoformat()
        dates = f"{EVENT_DATE} >= DATE'{first}' AND {EVENT_DATE} <= DATE'{last}'"
        (
            sessionized.where(dates)
            .write.format("delta")
            .mode("overwrite")
            .option("replaceWhere", dates)
            .save(self.table_uri)
        )

    def rows(self) -> DataFrame:
        """Return the rows of the table."""
        return self.ours.spark.read.format("delta").load(self.table_uri)


@dataclass(frozen=True)
class DuckRecompute:
    """The recompute without Spark: DuckDB reads the input files of the window and writes Parquet files.

    DuckDB runs with its default settings: all cores and most of the memory, while Spark has only the product's default
    heap. `one_pass` uses it as the reference for all contenders, because its SQL shares no code with the product.
    """

    spark: SparkSession
    input: InputRoot
    folder: Path

    def prepare(self) -> None:
        """Remove the files of the last run, so that DuckDB does not spend time on it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def sessionize(self, day: date) -> None:
        """Overwrite the six dates that end with a day."""
        window = window_of(day)
        self.sessionize_batches(window, since=window[0])

    def sessionize_batches(self, days: Sequence[date], since: date, rows_at_once: int | None = None) -> None:
        """Sessionize the distinct events of several batches in one pass, and write a folder for each event date.

        Args:
            days: The days of the batches. Days without a batch are skipped.
            since: The first event date to write.
            rows_at_once: About how many rows fit into memory. More than these are taken by some users at a time.
        """
        folders = [Path(self.input.batch_folder(day)) for day in days]
        files = [str(file) for folder in folders for file in sorted(folder.glob("*.parquet"))]
        self.folder.mkdir(parents=True, exist_ok=True)
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            # The progress bar would fill pages of a log file.
            connection.execute("SET enable_progress_bar = false")
            for part, users in enumerate(_parts_of_users(files, rows_at_once)):
                statement = _DUCKDB_SESSIONS.format(destination=self.folder, users=users, part=part)
                connection.execute(statement, {"files": files, "since": since})

    def rows(self) -> DataFrame:
        """Return the rows of the files."""
        return self.spark.read.parquet(str(self.folder)).select(*CONTRACT_SCHEMA.names)


@dataclass(frozen=True)
class LandingFloor:
    """The least that landing can cost: Spark reads the folder and appends its four columns without validating them."""

    spark: SparkSession
    input: InputRoot
    table_uri: str

    def land(self, day: date) -> None:
        """Append the batch of a day."""
        incoming = self.spark.read.parquet(self.input.batch_folder(day)).select(*EVENT_IDENTITY)
        rows = incoming.withColumn(BATCH_DATE, F.lit(day))
        rows.write.format("delta").mode("append").partitionBy(BATCH_DATE).save(self.table_uri)

    def rows(self) -> DataFrame:
        """Return the rows of the table."""
        return self.spark.read.format("delta").load(self.table_uri)


def one_pass(spark: SparkSession, input_root: InputRoot, days: Sequence[date], folder: Path) -> DataFrame:
    """Sessionize all batches in one pass by DuckDB: the reference that every result has to equal.

    Args:
        spark: The session that reads the result.
        input_root: The input root with the batches.
        days: The days of the batches.
        folder: A folder for the result. It is emptied first.

    Returns:
        The rows with the columns of the contract.
    """
    reference = DuckRecompute(spark, input_root, folder)
    reference.prepare()
    reference.sessionize_batches(days, window_of(days[0])[0], _ROWS_AT_ONCE)
    return reference.rows()


def _parts_of_users(files: Sequence[str], rows_at_once: int | None) -> list[str]:
    """Conditions that each choose some of the users, and together all of them."""
    if rows_at_once is None:
        return ["true"]
    count = sum(pq.read_metadata(file).num_rows for file in files) // rows_at_once + 1
    return [f"hash(user_id) % {count} = {part}" for part in range(count)]


def _ensure_sessions_table(spark: SparkSession, table_uri: str) -> None:
    properties = {"delta.enableDeletionVectors": "true"}
    warehouse = Warehouse(str(Path(table_uri).parent))
    ensure_table(spark, warehouse, table_uri, CONTRACT_SCHEMA, partition_by=EVENT_DATE, properties=properties)


def _with_sessions(events: DataFrame) -> DataFrame:
    intervals = {INTERVAL_START: F.col(TIMESTAMP), INTERVAL_END: interval_end_of_event(_RULES)}
    placed = assign_sessions(events.withColumns(intervals))
    complete = placed.withColumns({EVENT_DATE: F.to_date(TIMESTAMP), "session_id": session_id()})
    return complete.select(*CONTRACT_SCHEMA.names)


_DUCKDB_SESSIONS: Final = """
COPY (
    WITH event AS (
        SELECT DISTINCT user_id, event_id, product_code, epoch_us(timestamp) AS us, event_id IN ('a', 'b', 'c') AS acts
        FROM read_parquet($files)
        WHERE {users}
    ),
    gap AS (
        SELECT *, max(us) FILTER (acts) OVER (
            PARTITION BY user_id, product_code ORDER BY us, NOT acts
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS acted_before
        FROM event
    ),
    started AS (
        SELECT *, max(us) FILTER (acts AND (acted_before IS NULL OR us - acted_before >= 300000000)) OVER (
            PARTITION BY user_id, product_code ORDER BY us, NOT acts
            ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        ) AS latest_start
        FROM gap
    ),
    ended AS (
        SELECT *, max(us) FILTER (acts) OVER (PARTITION BY user_id, product_code, latest_start) + 300000000 AS its_end
        FROM started
    ),
    placed AS (SELECT *, latest_start IS NOT NULL AND us <= its_end AS is_inside FROM ended)
    SELECT
        user_id, event_id, product_code, make_timestamptz(us) AS timestamp, make_timestamp(us)::DATE AS event_date,
        CASE WHEN is_inside THEN make_timestamptz(latest_start) END AS session_start_ts,
        CASE WHEN is_inside THEN make_timestamptz(its_end) END AS session_end_ts,
        CASE WHEN is_inside THEN user_id || '#' || product_code || '#'
            || strftime(make_timestamp(latest_start), '%Y-%m-%dT%H:%M:%S.%gZ') END AS session_id
    FROM placed
    WHERE make_timestamp(us)::DATE >= $since
) TO '{destination}'
(FORMAT parquet, PARTITION_BY (event_date), OVERWRITE_OR_IGNORE, FILENAME_PATTERN 'users_{part}_{{i}}')
"""
