"""DataFrames of Spark from tables of Arrow, and back, on each Spark that is supported."""

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from sessions_dagster.spark.compat import SPARK_LINE


def spark_frame(spark: SparkSession, table: pa.Table) -> DataFrame:
    """The rows of a table; its timestamps are in UTC."""
    if SPARK_LINE >= (4, 0):
        return spark.createDataFrame(table)
    rows = [tuple(row.values()) for row in table.to_pylist()]
    return spark.createDataFrame(rows, from_arrow_schema(table.schema))


def arrow_table(rows: DataFrame) -> pa.Table:
    """The rows of a DataFrame."""
    if SPARK_LINE >= (4, 0):
        return rows.toArrow()
    batches = rows._collect_as_arrow()  # type: ignore[operator]
    return pa.Table.from_batches(batches) if batches else pa.table({name: [] for name in rows.columns})
