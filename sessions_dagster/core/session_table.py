"""The table `sessionized_events`: its creation, its rows, and the session rules it was built and is kept with."""

import json
from datetime import timedelta
from typing import Final

from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sessions_dagster.core.contract import EVENT_DATE, SESSION_ID, SESSIONIZED_EVENTS_SCHEMA, TIMESTAMP, SessionRules
from sessions_dagster.core.sessionize import session_id
from sessions_dagster.core.tables import STATISTICS_PROPERTY, ensure_table
from sessions_dagster.lake.places import place_of

TIMEOUT_PROPERTY: Final = "sessions.timeout_us"
USER_ACTIONS_PROPERTY: Final = "sessions.user_action_ids"


class RulesMismatchError(ValueError):
    """A table was built with other session rules than those it should be corrected with."""


def ensure_sessionized_events(spark: SparkSession, table_uri: str, rules: SessionRules) -> None:
    """Create `sessionized_events` with these rules if it is missing.

    Raises:
        RulesMismatchError: If it is there and was built with other rules.
    """
    properties = {
        "delta.enableDeletionVectors": "true",
        STATISTICS_PROPERTY: TIMESTAMP,
        TIMEOUT_PROPERTY: str(rules.timeout_us),
        USER_ACTIONS_PROPERTY: json.dumps(sorted(rules.user_action_ids)),
    }
    ensure_table(spark, table_uri, SESSIONIZED_EVENTS_SCHEMA, partition_by=EVENT_DATE, properties=properties)
    built_with = rules_of_table(DeltaTable(table_uri))
    if built_with != rules:
        raise RulesMismatchError(
            f"{table_uri} was built with {_in_words(built_with)}, this run has {_in_words(rules)}. "
            "One table cannot mix rules: run with the rules it was built with, "
            "or point SESSIONS_WAREHOUSE_ROOT at a new folder and backfill."
        )


def rules_of_table(sessionized_events: DeltaTable) -> SessionRules:
    """The session rules a table was built with.

    Raises:
        RulesMismatchError: If the table does not say: it is not one of ours.
    """
    kept = sessionized_events.metadata().configuration
    try:
        timeout = timedelta(microseconds=int(kept[TIMEOUT_PROPERTY]))
        return SessionRules(timeout, frozenset(json.loads(kept[USER_ACTIONS_PROPERTY])))
    except KeyError as missing:
        raise RulesMismatchError(
            f"{place_of(sessionized_events.table_uri)} has no table property {missing}: it was not created by this "
            "project. Point SESSIONS_WAREHOUSE_ROOT at another folder."
        ) from missing


def _in_words(rules: SessionRules) -> str:
    return f"a timeout of {rules.timeout} and user actions {', '.join(sorted(rules.user_action_ids))}"


def as_table_rows(rows: DataFrame) -> DataFrame:
    """Rows with identity, `delivered_by`, `session_start_ts` and `session_end_ts`, as `sessionized_events` rows."""
    complete = rows.withColumns({EVENT_DATE: F.to_date(TIMESTAMP), SESSION_ID: session_id()})
    return complete.select(*SESSIONIZED_EVENTS_SCHEMA.names)
