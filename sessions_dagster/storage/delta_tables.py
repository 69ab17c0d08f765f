"""Delta tables in general: creating one, adding columns that a newer version needs, and replacing partitions."""

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import date
from pathlib import Path
from typing import Any, Final

import deltalake
from pyspark.sql import DataFrame, DataFrameWriter, SparkSession
from pyspark.sql.types import StructField, StructType

from sessions_dagster.errors import SchemaMismatchError
from sessions_dagster.model.columns import BATCH_DATE
from sessions_dagster.model.dates import date_literals
from sessions_dagster.spark.failures import SPARK_ERRORS
from sessions_dagster.spark.tuning import spark_property, task_slots
from sessions_dagster.storage.delta_log import partitions
from sessions_dagster.storage.exclusive_commits import NO_METADATA, exclusive_commit
from sessions_dagster.storage.filesystem import is_local, location_of
from sessions_dagster.storage.sql import identifier, quoted, run_sql, text_literal
from sessions_dagster.storage.torn_logs import remove_log_without_commits
from sessions_dagster.storage.warehouse import Warehouse

RETENTION_PROPERTY: Final = "delta.deletedFileRetentionDuration"
"""The table property that says how long a vacuum keeps what the newest version does not need."""

DEFAULT_RETENTION: Final = "interval 7 days"

_NO_PROPERTIES: Final[Mapping[str, str]] = {}


def ensure_table(
    spark: SparkSession,
    warehouse: Warehouse,
    table_uri: str,
    schema: StructType,
    *,
    partition_by: str | None = None,
    properties: Mapping[str, str] = _NO_PROPERTIES,
) -> deltalake.DeltaTable:
    """Create a Delta table if there is none, or add the columns to it that it lacks.

    Args:
        spark: A session with Delta.
        warehouse: Where the tables are.
        table_uri: Where this table is.
        schema: Its columns; comments and NOT NULL are kept with the table.
        partition_by: The column that it is partitioned by, if any.
        properties: Table properties of a new table, in addition to the retention that every table gets.

    Returns:
        The newest version of the table.

    Raises:
        SchemaMismatchError: If there is a table whose columns cannot be brought in line with the schema. It is as
            before.
        SettingsError: If there is no table, and its name is taken in the catalogue. There is none afterwards.
    """
    table = warehouse.open(table_uri)
    if table is None:
        warehouse.check_name(spark, table_uri)
        _create(spark, warehouse, table_uri, schema, partition_by, properties)
        table = warehouse.open_existing(table_uri)
        warehouse.register(spark, table_uri)
    missing = _missing_columns(table, table_uri, schema)
    if missing:
        _add_columns(spark, table_uri, missing)
        table.update_incremental()
    return table


def check_no_other_columns(table: deltalake.DeltaTable, schema: StructType) -> None:
    """Check that a table has no column besides some, whose values a correction would lose.

    Args:
        table: The table.
        schema: The columns that are written.

    Raises:
        SchemaMismatchError: If it has one.
    """
    for name in sorted({field.name for field in table.schema().fields} - set(schema.names)):
        raise SchemaMismatchError(
            f"{location_of(table.table_uri)} has the column {name}, which this run does not write: every correction "
            "would lose its values. If it is a carried column, name it in the setting of the carried columns again; "
            "otherwise use another warehouse."
        )


def replace_slice(
    warehouse: Warehouse,
    table_uri: str,
    day: date,
    rows: DataFrame,
    row_count: int | None = None,
) -> int:
    """Replace the rows of a batch in a table that is partitioned by `batch_date`, in one commit.

    Args:
        warehouse: Where the tables are.
        table_uri: The table, which must exist.
        day: The date of the batch.
        rows: Complete table rows, all of this batch.
        row_count: How many rows there are, if that is known. If nothing is to replace nothing, there is no commit.

    Returns:
        The version of the table that has the slice.

    Raises:
        ConcurrentWriteError: If another run has written to the table since it was opened.
    """
    table = warehouse.open_existing(table_uri)
    if day in partitions(table):
        replace_partitions(table, table_uri, BATCH_DATE, [day], rows)
    elif row_count != 0:
        # An overwrite makes Delta rebuild the table's state first, which costs as much as half a million rows.
        append(table, table_uri, rows)
    return table.version()


def append(
    table: deltalake.DeltaTable, table_uri: str, rows: DataFrame, metadata: Mapping[str, Any] = NO_METADATA
) -> None:
    """Add rows in one commit, which is made even if there are none.

    Args:
        table: The table, at the version that the rows are computed from.
        table_uri: Where it is.
        rows: Complete table rows.
        metadata: The user metadata of the commit.

    Raises:
        ConcurrentWriteError: If another run has written to it since.
    """
    writer = rows.write.format("delta").mode("append")
    exclusive_commit(rows.sparkSession, table, lambda: writer.save(table_uri), metadata)


def replace_all(
    table: deltalake.DeltaTable, table_uri: str, rows: DataFrame, metadata: Mapping[str, Any] = NO_METADATA
) -> None:
    """Replace all rows of a table in one commit.

    Args:
        table: The table, at the version that the rows are computed from.
        table_uri: Where it is.
        rows: Complete table rows.
        metadata: The user metadata of the commit.

    Raises:
        ConcurrentWriteError: If another run has written to it since.
    """
    writer = rows.write.format("delta").mode("overwrite")
    with replacing_all_partitions(rows.sparkSession):
        exclusive_commit(rows.sparkSession, table, lambda: writer.save(table_uri), metadata)


def replacing_all_partitions(spark: SparkSession) -> AbstractContextManager[None]:
    """A context in which an overwrite also removes the partitions that get no row, whatever the session is set to."""
    return spark_property(spark, "spark.sql.sources.partitionOverwriteMode", "static")


def replace_partitions(
    table: deltalake.DeltaTable,
    table_uri: str,
    column: str,
    days: Sequence[date],
    rows: DataFrame,
    metadata: Mapping[str, Any] = NO_METADATA,
) -> None:
    """Replace all rows of some partitions in one commit.

    Args:
        table: The table, at the version that the rows are computed from.
        table_uri: Where it is.
        column: The date column that it is partitioned by.
        days: The partitions; those that get no row become empty.
        rows: Complete table rows, all of these partitions.
        metadata: The user metadata of the commit.

    Raises:
        ConcurrentWriteError: If another run has written to it since.
    """
    writer = _overwriting(column, days, rows)
    exclusive_commit(rows.sparkSession, table, lambda: writer.save(table_uri), metadata)


def rewrite_partitions(table_uri: str, column: str, days: Sequence[date], rows: DataFrame) -> None:
    """Write the rows of some partitions again, in one commit that counts as a compaction: it changes no row.

    Delta reads the rows in the transaction that writes them, so none is lost if another run commits at the same time:
    what it appends stays, and if it has changed one of the files, this commit is refused.

    Args:
        table_uri: The table.
        column: The date column that it is partitioned by.
        days: The partitions.
        rows: All rows that these partitions have, read from the table.
    """
    # Not as `exclusive_commit`: Delta refuses a transaction in a commit that changes no row.
    _overwriting(column, days, rows).option("dataChange", "false").save(table_uri)


def files_for(amount: int, worth_a_file: int, spark: SparkSession) -> int:
    """How many files, and so tasks, to write something in, but no more than Spark runs tasks at once.

    Args:
        amount: How much there is to write, in rows or bytes.
        worth_a_file: How much of it a file should have at least.
        spark: The session that writes.
    """
    return max(1, min(task_slots(spark), amount // worth_a_file))


def set_property(spark: SparkSession, table_uri: str, name: str, value: str) -> None:
    """Set a table property, in a commit of its own."""
    run_sql(spark, f"ALTER TABLE {quoted(table_uri)} SET TBLPROPERTIES ({text_literal(name)} = {text_literal(value)})")


def _overwriting(column: str, days: Sequence[date], rows: DataFrame) -> DataFrameWriter:
    # Not a dynamic partition overwrite: that leaves a partition as it is if there is no row for it.
    where = f"{column} IN ({date_literals(days)})"
    return rows.write.format("delta").mode("overwrite").option("replaceWhere", where)


def _create(
    spark: SparkSession,
    warehouse: Warehouse,
    table_uri: str,
    schema: StructType,
    partition_by: str | None,
    properties: Mapping[str, str],
) -> None:
    columns = ", ".join(f"{_column(field)}{'' if field.nullable else ' NOT NULL'}{_comment(field)}" for field in schema)
    partitioned = "" if partition_by is None else f"PARTITIONED BY ({partition_by})"
    named = {RETENTION_PROPERTY: DEFAULT_RETENTION, **properties}
    listed = ", ".join(f"{text_literal(name)} = {text_literal(value)}" for name, value in named.items())
    statement = f"CREATE TABLE IF NOT EXISTS {quoted(table_uri)} ({columns}) USING delta"
    if is_local(table_uri):
        remove_log_without_commits(Path(table_uri))
    try:
        run_sql(spark, f"{statement} {partitioned} TBLPROPERTIES ({listed})")
    except SPARK_ERRORS:
        # Of several processes that create a table at the same time all but one fail, and there is a table all the same.
        if warehouse.open(table_uri) is None:
            raise


def _missing_columns(table: deltalake.DeltaTable, table_uri: str, schema: StructType) -> list[StructField]:
    existing = _types_by_name(json.loads(table.schema().to_json()))
    wanted = _types_by_name(schema.jsonValue())
    for name in schema.names:
        if name in existing and existing[name] != wanted[name]:
            raise SchemaMismatchError(
                f"{table_uri} has the column {name} with the type {existing[name]}, but this run writes "
                f"{wanted[name]}. A column does not change its type: give the carried column another name, or use "
                "another warehouse and backfill."
            )
    missing = [field for field in schema if field.name not in existing]
    for field in missing:
        if not field.nullable:
            raise SchemaMismatchError(
                f"{table_uri} lacks the required column {field.name}: it was not written by this project, or by a "
                "version that is too old. Use another warehouse and backfill."
            )
    return missing


def _types_by_name(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The types of columns as the log has them. Whether an array can contain NULL depends on who has written it."""

    def plain(type_: Any) -> Any:
        return f"array of {type_['elementType']}" if isinstance(type_, dict) and type_["type"] == "array" else type_

    return {field["name"]: plain(field["type"]) for field in schema["fields"]}


def _add_columns(spark: SparkSession, table_uri: str, fields: Sequence[StructField]) -> None:
    columns = ", ".join(f"{_column(field)}{_comment(field)}" for field in fields)
    run_sql(spark, f"ALTER TABLE {quoted(table_uri)} ADD COLUMNS ({columns})")


def _column(field: StructField) -> str:
    return f"{identifier(field.name)} {field.dataType.simpleString()}"


def _comment(field: StructField) -> str:
    return f" COMMENT {text_literal(field.metadata['comment'])}" if "comment" in field.metadata else ""
