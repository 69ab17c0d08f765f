"""Delta tables in general: creating one, and replacing the slice of a batch in one."""

from collections.abc import Mapping
from datetime import date
from typing import Final

import deltalake
from delta.tables import DeltaTable
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

from sessions_dagster.core.contract import BATCH_DATE
from sessions_dagster.lake.log import batch_days

RETENTION_PROPERTY: Final = "delta.deletedFileRetentionDuration"
"""The table property that says how long a vacuum keeps what the newest version does not need."""

STATISTICS_PROPERTY: Final = "delta.dataSkippingStatsColumns"
"""The table property that says of which columns the log keeps the smallest and the greatest value in each file.

By default of all. They cost a tenth of the time in which rows are written, and those of our strings tell no file from
another: rows are laid out by hash or as they came.
"""

DEFAULT_RETENTION: Final = "interval 7 days"


def ensure_table(
    spark: SparkSession, table_uri: str, schema: StructType, *, partition_by: str | None, properties: Mapping[str, str]
) -> None:
    """Create a Delta table if there is none. One that is there is left as it is, whatever its schema.

    Args:
        spark: A session with Delta.
        table_uri: Where the table is.
        schema: Its columns; comments and NOT NULL are kept with the table.
        partition_by: The column it is partitioned by, if any.
        properties: Table properties beside the retention, which every table gets.
    """
    if deltalake.DeltaTable.is_deltatable(table_uri):
        return
    builder = DeltaTable.createIfNotExists(spark).location(table_uri).addColumns(schema)
    if partition_by is not None:
        builder = builder.partitionedBy(partition_by)
    for name, value in {RETENTION_PROPERTY: DEFAULT_RETENTION, **properties}.items():
        builder = builder.property(name, value)
    try:
        builder.execute()
    except (PySparkException, Py4JJavaError):
        # Of several processes that create a table at once all but one fail, and have what they wanted.
        if not deltalake.DeltaTable.is_deltatable(table_uri):
            raise


def replace_slice(table_uri: str, day: date, rows: DataFrame, row_count: int | None = None) -> int:
    """Replace the rows of a batch in a table that is partitioned by `batch_date`, in one commit.

    Only one process may write the table at a time.

    Args:
        table_uri: The table.
        day: The batch.
        rows: Complete table rows, all of this batch.
        row_count: How many rows these are, where that is known: nothing replaced by nothing is then no commit.

    Returns:
        The version of the table that holds the slice.
    """
    writer = rows.write.format("delta")
    if day in batch_days(deltalake.DeltaTable(table_uri)):
        # Not the dynamic partition overwrite: it leaves a slice as it is where no row comes in its place.
        where = f"{BATCH_DATE} = DATE'{day.isoformat()}'"
        writer.mode("overwrite").option("replaceWhere", where).save(table_uri)
    elif row_count != 0:
        # An overwrite has Spark rebuild the table's state first, which costs as much as half a million rows.
        writer.mode("append").save(table_uri)
    return deltalake.DeltaTable(table_uri).version()


def files_for(amount: int, worth_a_file: int, spark: SparkSession) -> int:
    """How many files, and so tasks, to write something in: one for so much of it, but no more than Spark has cores.

    Args:
        amount: How much there is to write, in rows or bytes.
        worth_a_file: How much of it a file should have at least.
        spark: The session that writes.
    """
    return max(1, min(spark.sparkContext.defaultParallelism, amount // worth_a_file))
