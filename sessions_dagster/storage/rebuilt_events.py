"""Replacing the rows of `sessionized_events` in one commit, also with the rows of other session rules."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from deltalake import DeltaTable
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from sessions_dagster.model.columns import EVENT_DATE
from sessions_dagster.model.rules import SessionRules
from sessions_dagster.model.schemas import sessionized_events_schema
from sessions_dagster.storage.delta_tables import replace_all, replace_partitions, replacing_all_partitions
from sessions_dagster.storage.exclusive_commits import exclusive_commit
from sessions_dagster.storage.sessionized_events import rule_properties, rules_of_table
from sessions_dagster.storage.sql import names_as_written, quoted


def replace_events(
    table: DeltaTable,
    table_uri: str,
    rows: DataFrame,
    rules: SessionRules,
    carried_columns: Mapping[str, str],
    days: Sequence[date] | None,
    metadata: Mapping[str, Any],
) -> int:
    """Replace the rows of `sessionized_events`, all or those of some dates, in one commit.

    If the table was built with other rules, the same commit gives it the new ones. It has another id then, and its
    columns are not declared NOT NULL any more: Delta has no way to replace rows, columns and properties at once that
    keeps this.

    Args:
        table: The handle, at the version that the rows were compared with.
        table_uri: Where it is.
        rows: The new rows, with all columns.
        rules: The rules that they were computed with.
        carried_columns: The type of each carried column, by its name.
        days: The event dates that are replaced, of which all rows are; None: all. Then the table may have other rules.
        metadata: The user metadata of the commit.

    Returns:
        The version of the table that has the rows.

    Raises:
        ConcurrentWriteError: If another run has written to it since.
    """
    complete = _as_stored(rows, sessionized_events_schema(rules, carried_columns)).repartition(EVENT_DATE)
    if days is not None:
        replace_partitions(table, table_uri, EVENT_DATE, days, complete, metadata)
    elif rules_of_table(table) == rules:
        replace_all(table, table_uri, complete, metadata)
    else:
        _replace_with_rules(table, table_uri, complete, rules, metadata)
    return table.version()


def _replace_with_rules(
    table: DeltaTable, table_uri: str, rows: DataFrame, rules: SessionRules, metadata: Mapping[str, Any]
) -> None:
    properties = {**table.metadata().configuration, **rule_properties(rules)}
    writer = rows.writeTo(quoted(table_uri)).using("delta").partitionedBy(F.col(EVENT_DATE))
    for name, value in properties.items():
        writer = writer.tableProperty(name, value)
    with names_as_written(rows.sparkSession), replacing_all_partitions(rows.sparkSession):
        exclusive_commit(rows.sparkSession, table, writer.createOrReplace, metadata)


def _as_stored(rows: DataFrame, schema: StructType) -> DataFrame:
    """The columns of a schema with their types and comments."""
    # By the names of the types: over Spark Connect a type as such would give text a collation, which Delta then stores.
    return rows.select(
        *[
            F.col(field.name).cast(field.dataType.simpleString()).alias(field.name, metadata=field.metadata)
            for field in schema
        ]
    )
