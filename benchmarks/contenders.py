"""What the product is compared with, and the product itself: each contender takes a batch day, and leaves a table.

All of them read the same batches and run in the same process, on the same Spark where they need one. What a contender
prepares outside its own time (an empty table) it says. Who computes the same as whom is for `comparison` to judge.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

import duckdb
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from sessions_dagster.core.apply import ApplyReport, apply_batches
from sessions_dagster.core.contract import (
    BATCH_DATE,
    BOT_LIMIT,
    EVENT_DATE,
    EVENT_IDENTITY,
    LATENESS_DAYS,
    SESSIONIZED_EVENTS_SCHEMA,
    TIMESTAMP,
    SessionRules,
)
from sessions_dagster.core.landing import LandingReport, land_batch
from sessions_dagster.core.sessionize import REACH, assign_sessions, reach_of_event, session_id
from sessions_dagster.core.summary import summarize_dates
from sessions_dagster.core.tables import ensure_table
from sessions_dagster.lake.places import InputRoot, Warehouse

CONTRACT_SCHEMA: Final = StructType(SESSIONIZED_EVENTS_SCHEMA.fields[:8])
"""The columns of `sessionized_events` that the contract asks for, without those the product adds for its own use."""

_RULES: Final = SessionRules()


def window_of(day: date) -> list[date]:
    """The six batches that can bring events of a day or late ones with it: those a run of that day looks at."""
    return [day - timedelta(days=back) for back in range(LATENESS_DAYS, -1, -1)]


@dataclass(frozen=True)
class Ours:
    """The product: `raw_events` and `sessionized_events` of a day, as the assets make them."""

    spark: SparkSession
    input: InputRoot
    warehouse: Warehouse
    bot_limit: int | None = BOT_LIMIT

    def land(self, day: date) -> LandingReport:
        """`raw_events` of a day."""
        return land_batch(
            self.spark,
            self.input,
            self.warehouse,
            day,
            "parquet",
            landed_at=datetime.now(UTC),
            bot_limit=self.bot_limit,
        )

    def sessionize(self, day: date) -> ApplyReport:
        """`sessionized_events` of a day, with the counts that the asset shows in the UI."""
        report = self.sessionize_range([day])
        summarize_dates(self.spark, self.warehouse.sessionized_events, [day])
        return report

    def sessionize_range(self, days: Sequence[date]) -> ApplyReport:
        """`sessionized_events` of consecutive days in one commit."""
        window = sorted({each for day in days for each in window_of(day)})
        return apply_batches(self.spark, self.warehouse, window, _RULES)

    def raw_events(self) -> DataFrame:
        """All landed rows."""
        return self.spark.read.format("delta").load(self.warehouse.raw_events)

    def rows(self) -> DataFrame:
        """The table."""
        return self.spark.read.format("delta").load(self.warehouse.sessionized_events)


@dataclass(frozen=True)
class Floor:
    """The least that sessions of a batch can cost: it alone is sessionized and appended; nothing is corrected."""

    ours: Ours
    table_uri: str

    def prepare(self) -> None:
        """An empty table with the deletion vectors and partitions of ours, but Delta's own choice of statistics."""
        shutil.rmtree(self.table_uri, ignore_errors=True)
        _ensure_sessions_table(self.ours.spark, self.table_uri)

    def sessionize(self, day: date) -> None:
        """Sessions of the batch alone."""
        batch = self.ours.raw_events().where(F.col(BATCH_DATE) == day)
        _with_sessions(batch.select(*EVENT_IDENTITY)).write.format("delta").mode("append").save(self.table_uri)

    def rows(self) -> DataFrame:
        """The table."""
        return self.ours.spark.read.format("delta").load(self.table_uri)


@dataclass(frozen=True)
class Recompute:
    """The simple way: the six batches of the window are sessionized anew and overwrite their six dates."""

    ours: Ours
    table_uri: str

    def sessionize(self, day: date) -> None:
        """The six dates that end with a day."""
        _ensure_sessions_table(self.ours.spark, self.table_uri)
        window = window_of(day)
        delivered = self.ours.raw_events().where(F.col(BATCH_DATE).isin(*window))
        sessionized = _with_sessions(delivered.select(*EVENT_IDENTITY).distinct())
        # Not BETWEEN, which Delta does not resolve there.
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
        """The table."""
        return self.ours.spark.read.format("delta").load(self.table_uri)


@dataclass(frozen=True)
class DuckRecompute:
    """What one machine can do without Spark: DuckDB recomputes the window, from the input files to Parquet files.

    It has its defaults: all cores, and most of the memory, where Spark has the heap that is the product's default.
    It is also the judge of all others: its SQL shares nothing with the product.
    """

    spark: SparkSession
    input: InputRoot
    folder: Path

    def prepare(self) -> None:
        """No files: DuckDB is spared to remove those it replaces."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def sessionize(self, day: date) -> None:
        """The six dates that end with a day."""
        window = window_of(day)
        self.sessionize_batches(window, since=window[0])

    def sessionize_batches(self, days: Sequence[date], since: date) -> None:
        """One pass over the distinct union of some batches (those of them that there are), as files by event date.

        Args:
            days: The batches.
            since: The first event date to write.
        """
        folders = [Path(self.input.batch_folder(day)) for day in days]
        files = [str(file) for folder in folders for file in sorted(folder.glob("*.parquet"))]
        self.folder.mkdir(parents=True, exist_ok=True)
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            # Where the output is kept in a file, that would fill pages.
            connection.execute("SET enable_progress_bar = false")
            connection.execute(_DUCKDB_SESSIONS.format(destination=self.folder), {"files": files, "since": since})

    def rows(self) -> DataFrame:
        """The files as a table."""
        return self.spark.read.parquet(str(self.folder)).select(*CONTRACT_SCHEMA.names)


@dataclass(frozen=True)
class LandingFloor:
    """The least that landing can cost: Spark reads the folder and appends its four columns, unjudged."""

    spark: SparkSession
    input: InputRoot
    table_uri: str

    def land(self, day: date) -> None:
        """The batch of a day."""
        delivered = self.spark.read.parquet(self.input.batch_folder(day)).select(*EVENT_IDENTITY)
        rows = delivered.withColumn(BATCH_DATE, F.lit(day))
        rows.write.format("delta").mode("append").partitionBy(BATCH_DATE).save(self.table_uri)

    def rows(self) -> DataFrame:
        """The table."""
        return self.spark.read.format("delta").load(self.table_uri)


def _ensure_sessions_table(spark: SparkSession, table_uri: str) -> None:
    properties = {"delta.enableDeletionVectors": "true"}
    ensure_table(spark, table_uri, CONTRACT_SCHEMA, partition_by=EVENT_DATE, properties=properties)


def _with_sessions(events: DataFrame) -> DataFrame:
    placed = assign_sessions(events.withColumn(REACH, reach_of_event(_RULES)))
    complete = placed.withColumns({EVENT_DATE: F.to_date(TIMESTAMP), "session_id": session_id()})
    return complete.select(*CONTRACT_SCHEMA.names)


_DUCKDB_SESSIONS: Final = """
COPY (
    WITH event AS (
        SELECT DISTINCT user_id, event_id, product_code, epoch_us(timestamp) AS us, event_id IN ('a', 'b', 'c') AS acts
        FROM read_parquet($files)
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
) TO '{destination}' (FORMAT parquet, PARTITION_BY (event_date))
"""
