"""The table `sessionized_events`: its creation, and the session rules that it was built with and keeps."""

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from deltalake import DeltaTable
from pyspark.sql import SparkSession

from sessions_dagster.errors import RulesMismatchError
from sessions_dagster.model.columns import EVENT_DATE
from sessions_dagster.model.rules import SessionRules
from sessions_dagster.model.schemas import sessionized_events_schema
from sessions_dagster.storage.delta_tables import (
    check_no_other_columns,
    ensure_table,
    set_property,
)
from sessions_dagster.storage.filesystem import location_of
from sessions_dagster.storage.log_statistics import statistics_of
from sessions_dagster.storage.warehouse import Warehouse

DELETION_VECTORS_PROPERTY: Final = "delta.enableDeletionVectors"
TIMEOUT_PROPERTY: Final = "sessions.timeout_us"
USER_ACTIONS_PROPERTY: Final = "sessions.user_action_ids"
LATENESS_PROPERTY: Final = "sessions.lateness_days"

LATENESS_OF_FIRST_RELEASE: Final = 5
"""Tables of the first release do not say which lateness they were built with: it knew no other one."""


def ensure_sessionized_events(
    spark: SparkSession,
    warehouse: Warehouse,
    rules: SessionRules,
    carried_columns: Mapping[str, str],
    *,
    deletion_vectors: bool,
) -> DeltaTable:
    """Create `sessionized_events` with these rules if there is none, or add the carried columns that it lacks.

    Files that have a deletion vector keep it, whatever is asked for, until a compaction writes them again.

    Args:
        spark: A session with Delta.
        warehouse: Where the tables are.
        rules: The session rules.
        carried_columns: The type of each carried column, by its name.
        deletion_vectors: Whether writes from now on mark rows as deleted, instead of writing their files again.

    Returns:
        The newest version of the table.

    Raises:
        RulesMismatchError: If there is a table that was built with other rules.
        SchemaMismatchError: If there is a table with other columns, and they cannot be added to it.
    """
    existing = warehouse.open(warehouse.sessionized_events)
    schema = sessionized_events_schema(rules, carried_columns)
    if existing is not None:
        _check_rules(existing, rules)
        check_no_other_columns(existing, schema)
    vectors = str(deletion_vectors).lower()
    properties = {
        DELETION_VECTORS_PROPERTY: vectors,
        **statistics_of(warehouse.sessionized_events),
        **rule_properties(rules),
    }
    table = ensure_table(
        spark,
        warehouse,
        warehouse.sessionized_events,
        schema,
        partition_by=EVENT_DATE,
        properties=properties,
    )
    # Another process may have created it in the meantime.
    _check_rules(table, rules)
    if table.metadata().configuration.get(DELETION_VECTORS_PROPERTY, "false") != vectors:
        set_property(spark, warehouse.sessionized_events, DELETION_VECTORS_PROPERTY, vectors)
        table.update_incremental()
    return table


def rule_properties(rules: SessionRules) -> dict[str, str]:
    """The table properties that say which rules a table was built with."""
    return {
        TIMEOUT_PROPERTY: str(rules.timeout_us),
        USER_ACTIONS_PROPERTY: json.dumps(sorted(rules.user_action_ids)),
        LATENESS_PROPERTY: str(rules.lateness_days),
    }


def rules_of_table(sessionized_events: DeltaTable) -> SessionRules:
    """The session rules that a table was built with.

    Raises:
        RulesMismatchError: If the table does not say: it was not created by this project.
    """
    properties = sessionized_events.metadata().configuration
    try:
        return SessionRules(
            timeout=timedelta(microseconds=int(properties[TIMEOUT_PROPERTY])),
            user_action_ids=frozenset(json.loads(properties[USER_ACTIONS_PROPERTY])),
            lateness_days=int(properties.get(LATENESS_PROPERTY, LATENESS_OF_FIRST_RELEASE)),
        )
    except KeyError as missing:
        raise RulesMismatchError(
            f"{location_of(sessionized_events.table_uri)} has no table property {missing}: it was not created by this "
            "project. Use another warehouse root."
        ) from missing


def _check_rules(table: DeltaTable, rules: SessionRules) -> None:
    built_with = rules_of_table(table)
    if built_with != rules:
        raise RulesMismatchError(
            f"{location_of(table.table_uri)} was built with {built_with}, but this run has {rules}. One table cannot "
            "mix rules: run with the rules that it was built with, or make the tables anew with the others "
            "(rebuild; it first tells what changes)."
        )
