"""The table `sessionized_events`: its creation, and the session rules it was built with, which it is kept with."""

import json
from datetime import timedelta
from typing import Final

from deltalake import DeltaTable
from pyspark.sql import SparkSession

from sessions_dagster.core.contract import EVENT_DATE, SESSIONIZED_EVENTS_SCHEMA, SessionRules
from sessions_dagster.core.tables import ensure_table

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
            f"{sessionized_events.table_uri} has no table property {missing}: it was not created by this project. "
            "Point SESSIONS_WAREHOUSE_ROOT at another folder."
        ) from missing


def _in_words(rules: SessionRules) -> str:
    return f"a timeout of {rules.timeout} and user actions {', '.join(sorted(rules.user_action_ids))}"
