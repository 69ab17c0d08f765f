"""Of which columns the logs of the tables have the smallest and the greatest value in each file.

By default Delta keeps them for all columns. They take a tenth of the time in which rows are written, and for strings
they do not distinguish one file from another: rows are laid out by hash, or in the order of arrival. And with those of
`user_id`, the log would know a user who is forgotten until its old commits are removed, weeks after the rows.
"""

from collections.abc import Mapping
from typing import Final

from pyspark.sql import SparkSession

from sessions_dagster.model.columns import EVENTS_VERSION, FORGOTTEN_AT, LANDED_AT, LAST_DATE, TIMESTAMP
from sessions_dagster.model.tables import FORGOTTEN_USERS
from sessions_dagster.storage.delta_tables import set_property
from sessions_dagster.storage.warehouse import Warehouse

STATISTICS_PROPERTY: Final = "delta.dataSkippingStatsColumns"
"""The table property that names the columns."""

_COLUMNS: Final[Mapping[str, str]] = {
    # `slices.slices` needs it.
    "raw_events": LANDED_AT,
    "rejected_events": LANDED_AT,
    "sessionized_events": TIMESTAMP,
    # `commit_metadata.newest_entries` needs it, for entries of an older version.
    "session_corrections": EVENTS_VERSION,
    "sessions": LAST_DATE,
    FORGOTTEN_USERS: FORGOTTEN_AT,
}


def statistics_of(table_uri: str) -> dict[str, str]:
    """The property of a new table that names its columns with statistics.

    Args:
        table_uri: Where the table is; its folder has the name of one of our tables.
    """
    return {STATISTICS_PROPERTY: _COLUMNS[table_uri.rpartition("/")[2]]}


def keep_users_out(spark: SparkSession, warehouse: Warehouse, table_uri: str) -> None:
    """Let a table keep no statistics of users from now on; there is no commit if it keeps none.

    An older version made some tables without the property.

    Args:
        spark: A session with Delta.
        warehouse: Where the tables are.
        table_uri: The table, which must exist.
    """
    table = warehouse.open_existing(table_uri)
    ((name, columns),) = statistics_of(table_uri).items()
    if table.metadata().configuration.get(name) is None:
        set_property(spark, table_uri, name, columns)
        table.update_incremental()
