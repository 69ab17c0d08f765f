"""The names of the tables in a schema of the session's catalogue, by which SQL finds them."""

import re
from typing import Final

from pyspark.sql import SparkSession

from sessions_dagster.errors import SettingsError
from sessions_dagster.spark.failures import SPARK_ERRORS
from sessions_dagster.storage.filesystem import location_of
from sessions_dagster.storage.sql import identifier, names_as_written, run_sql, text_literal

_IS_MISSING: Final = re.compile(r"\[((TABLE_OR_VIEW|SCHEMA)_NOT_FOUND|DELTA_(TABLE_NOT_FOUND|PATH_DOES_NOT_EXIST))\b")
"""What is said of a name that nothing has, and of one of a table whose files are gone: Delta does not describe that."""


def check_name(spark: SparkSession, schema: str, table_uri: str) -> None:
    """Check that a table, which need not exist yet, can have its name in a schema, which need not exist either.

    Args:
        spark: A session with Delta.
        schema: A schema of its catalogue, or a catalogue and a schema with a point in between.
        table_uri: The table. The last part of its location is its name.

    Raises:
        SettingsError: If the schema has another table or a view of that name.
    """
    _, name = _names(schema, table_uri)
    try:
        _check_described(spark, schema, name, table_uri)
    except SPARK_ERRORS as error:
        if _IS_MISSING.search(str(error)) is None:
            raise


def register_table(spark: SparkSession, schema: str, table_uri: str) -> None:
    """Give a Delta table its name in a schema, which is created if it is missing.

    The table is external: the catalogue keeps its name and its location, and dropping it there removes no file.

    Args:
        spark: A session with Delta.
        schema: As for `check_name`.
        table_uri: The table, which exists. The last part of its location is its name.

    Raises:
        SettingsError: If the schema has another table or a view of that name.
    """
    within, name = _names(schema, table_uri)
    with names_as_written(spark):
        is_there = spark.catalog.databaseExists(within)
    if not is_there:
        # Hive warns, with a stack trace, of each schema that it need not create.
        run_sql(spark, f"CREATE SCHEMA IF NOT EXISTS {within}")
    run_sql(spark, f"CREATE TABLE IF NOT EXISTS {name} USING delta LOCATION {text_literal(table_uri)}")
    _check_described(spark, schema, name, table_uri)


def _names(schema: str, table_uri: str) -> tuple[str, str]:
    """The names of the schema and of the table, as SQL has them."""
    within = ".".join(map(identifier, schema.split(".")))
    return within, f"{within}.{identifier(table_uri.rsplit('/', 1)[-1])}"


def _check_described(spark: SparkSession, schema: str, name: str, table_uri: str) -> None:
    described = run_sql(spark, f"DESCRIBE TABLE EXTENDED {name}").collect()
    found = [location_of(row["data_type"]) for row in described if row["col_name"] == "Location"]
    if found[-1:] != [table_uri]:
        what = f"a table at {found[-1]}" if found else "a view"
        raise SettingsError(
            f"catalog_schema (SESSIONS_CATALOG_SCHEMA) names the schema {schema}, where {name} is {what} and not the "
            f"table at {table_uri}. Use another schema, or drop it there: DROP TABLE removes no file of an external "
            "table. Nothing was written."
        )
