"""Settings of a Spark session that hold for one piece of work only."""

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from datetime import date, timedelta
from typing import Final

from deltalake import DeltaTable
from pyspark.sql import SparkSession

from sessions_dagster.core.contract import LATENESS_DAYS
from sessions_dagster.lake.log import partition_rows
from sessions_dagster.runtime.sizing import SHUFFLE_PARTITIONS, Sizes

UNCOMPILED: Final = {"spark.sql.codegen.wholeStage": "false", "spark.sql.codegen.factoryMode": "NO_CODEGEN"}
"""The properties of a session that runs its plans as they are."""

_ADAPTIVE: Final = "spark.sql.adaptive.enabled"

_AROUND: Final = timedelta(days=LATENESS_DAYS)
"""How far from its days work looks, but for sessions that are longer."""


@contextmanager
def setting(spark: SparkSession, name: str, value: str) -> Iterator[None]:
    """Gives a property of the session a value, and afterwards the one that it had before, if any."""
    before = spark.conf.get(name, None)
    spark.conf.set(name, value)
    try:
        yield
    finally:
        if before is None:
            spark.conf.unset(name)
        else:
            spark.conf.set(name, before)


@contextmanager
def compiled_if_worth(spark: SparkSession, rows: int) -> Iterator[None]:
    """Leaves it to the session whether it compiles its plans, except where they are about few rows: then it does not.

    Args:
        spark: The session.
        rows: How many rows the work may have to look at.

    Raises:
        SizeError: If a property of the session is to be a size, and is none.
    """
    with ExitStack() as few:
        if rows < Sizes.of(spark).rows_worth_compiling:
            for name, value in UNCOMPILED.items():
                few.enter_context(setting(spark, name, value))
        yield


@contextmanager
def partitions_for(spark: SparkSession, rows: int) -> Iterator[None]:
    """Shuffles into the partitions of the session, unless they would get too few rows each, or too many.

    Args:
        spark: The session.
        rows: How many rows the work shuffles.

    Raises:
        SizeError: If a property of the session is to be a size, and is none.
    """
    of_session = int(spark.conf.get(SHUFFLE_PARTITIONS) or 0)
    with setting(spark, SHUFFLE_PARTITIONS, str(Sizes.of(spark).partitions(rows, usual=of_session))):
        yield


@contextmanager
def planned_ahead(spark: SparkSession, joined_rows: int) -> Iterator[None]:
    """Has Spark keep to its first plan, unless a table may have to be shuffled for it to be joined with so many rows.

    Adaptive execution plans anew after each stage, and Delta then lists all files of a table with deletion vectors each
    time. Where partitions fit their rows (`partitions_for`) and what is joined is broadcast, it finds nothing to adapt.
    In a shuffled table it does: keys that have too many rows for one task.

    Args:
        spark: The session.
        joined_rows: How many rows tables are joined with.

    Raises:
        SizeError: If a property of the session is to be a size, and is none.
    """
    with ExitStack() as few:
        if joined_rows <= Sizes.of(spark).broadcast_rows:
            few.enter_context(setting(spark, _ADAPTIVE, "false"))
        yield


def rows_around(days: Collection[date], *table_uris: str) -> int:
    """How many rows some Delta tables have around some days, for `compiled_if_worth`; about.

    Args:
        days: What the work is about.
        table_uris: Tables that are partitioned by a date. Where there is none, there are no rows.
    """
    if not days:
        return 0
    first, last = min(days) - _AROUND, max(days) + _AROUND
    there = [partition_rows(DeltaTable(uri)) for uri in table_uris if DeltaTable.is_deltatable(uri)]
    return sum(rows for of_table in there for day, rows in of_table.items() if first <= day <= last)
