"""Statements of SQL, and how names and texts are written in them."""

from contextlib import AbstractContextManager

from pyspark.sql import DataFrame, SparkSession

from sessions_dagster.spark.tuning import spark_property


def run_sql(spark: SparkSession, statement: str) -> DataFrame:
    """Run a statement in which `${...}` stands for itself. By default Spark replaces it, also in a name or a text.

    Args:
        spark: A session with Delta.
        statement: SQL.

    Returns:
        What the statement tells.
    """
    with names_as_written(spark):
        return spark.sql(statement)


def names_as_written(spark: SparkSession) -> AbstractContextManager[None]:
    """A context in which `${...}` in SQL, and in the name of a table, stands for itself."""
    return spark_property(spark, "spark.sql.variable.substitute", "false")


def quoted(table_uri: str) -> str:
    """The name of a table by its location, for SQL."""
    return f"delta.{identifier(table_uri)}"


def text_literal(text: str) -> str:
    """A text as SQL has it."""
    return "'{}'".format(text.replace("\\", "\\\\").replace("'", "\\'"))


def identifier(name: str) -> str:
    """A name as SQL has it."""
    return "`{}`".format(name.replace("`", "``"))
