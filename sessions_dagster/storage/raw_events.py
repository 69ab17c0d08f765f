"""The table `raw_events`: its creation, and the lateness that its batches landed with."""

from collections.abc import Mapping

from deltalake import DeltaTable
from pyspark.sql import SparkSession

from sessions_dagster.errors import RulesMismatchError
from sessions_dagster.model.columns import BATCH_DATE
from sessions_dagster.model.rules import SessionRules
from sessions_dagster.model.schemas import raw_events_schema
from sessions_dagster.storage.delta_tables import check_no_other_columns, ensure_table, set_property
from sessions_dagster.storage.log_statistics import statistics_of
from sessions_dagster.storage.sessionized_events import LATENESS_OF_FIRST_RELEASE, LATENESS_PROPERTY
from sessions_dagster.storage.warehouse import Warehouse


def ensure_raw_events(
    spark: SparkSession, warehouse: Warehouse, rules: SessionRules, carried_columns: Mapping[str, str]
) -> DeltaTable:
    """Create `raw_events` if there is none, or add the carried columns that it lacks.

    Args:
        spark: A session with Delta.
        warehouse: Where the tables are.
        rules: The session rules; their lateness says which events a batch may have.
        carried_columns: The type of each carried column, by its name.

    Returns:
        The newest version of the table.

    Raises:
        RulesMismatchError: If there is a table whose batches landed with another lateness.
        SchemaMismatchError: If there is a table with other columns, and they cannot be added to it.
    """
    schema = raw_events_schema(carried_columns)
    existing = warehouse.open(warehouse.raw_events)
    if existing is not None:
        _check_lateness(existing, warehouse, rules)
        check_no_other_columns(existing, schema)
    return ensure_table(
        spark,
        warehouse,
        warehouse.raw_events,
        schema,
        partition_by=BATCH_DATE,
        properties={**statistics_of(warehouse.raw_events), LATENESS_PROPERTY: str(rules.lateness_days)},
    )


def lateness_of(raw_events: DeltaTable) -> int:
    """The lateness (days) that the batches of the table landed with."""
    return int(raw_events.metadata().configuration.get(LATENESS_PROPERTY, LATENESS_OF_FIRST_RELEASE))


def set_lateness(spark: SparkSession, warehouse: Warehouse, raw_events: DeltaTable, rules: SessionRules) -> None:
    """Have the batches land with another lateness from now on, in a commit that changes no row, or none if they do."""
    if lateness_of(raw_events) != rules.lateness_days:
        set_property(spark, warehouse.raw_events, LATENESS_PROPERTY, str(rules.lateness_days))
        raw_events.update_incremental()


def _check_lateness(table: DeltaTable, warehouse: Warehouse, rules: SessionRules) -> None:
    days = lateness_of(table)
    if days != rules.lateness_days:
        raise RulesMismatchError(
            f"The batches in {warehouse.raw_events} landed with {days} days of lateness, but this run has {rules}. One "
            f"table cannot mix rules: run with {days} days, or make the tables anew with the others (rebuild; it first "
            "tells what changes)."
        )
