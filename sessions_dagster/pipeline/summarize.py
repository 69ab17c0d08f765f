"""The statistics of some days of `sessionized_events`, read from the table."""

import logging
from collections.abc import Sequence
from datetime import date

from pyspark.sql import SparkSession

from sessions_dagster.model.counts import number_of
from sessions_dagster.model.dates import counted
from sessions_dagster.model.rules import SessionRules
from sessions_dagster.quality.day_statistics import DaySummary, summarize_dates
from sessions_dagster.spark.tuning import tuned
from sessions_dagster.storage.delta_log import rows_around
from sessions_dagster.storage.warehouse import Warehouse

logger = logging.getLogger(__name__)


def summarize_events(
    spark: SparkSession, warehouse: Warehouse, days: Sequence[date], rules: SessionRules
) -> list[DaySummary]:
    """Summarize some event dates of `sessionized_events`, which must exist, in one pass.

    Args:
        spark: A session with Delta, in UTC.
        warehouse: Where the tables are.
        days: The event dates.
        rules: The session rules that the table was built with.

    Returns:
        One summary for each date, in their order.

    Raises:
        TableNotFoundError: If there is no `sessionized_events` yet.
        SizeError: If a Spark property of `spark.tuning.Sizes` is not a size.
    """
    table = warehouse.open_existing(warehouse.sessionized_events)
    rows = rows_around(days, rules, table)
    logger.info("summarizing %s of sessionized_events: %s", counted(days, "day", "days"), number_of(rows, "row"))
    with warehouse.reading(spark), tuned(spark, rows):
        return summarize_dates(warehouse.read(spark, warehouse.sessionized_events, table.version()), days, rules)
