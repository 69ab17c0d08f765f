"""Commits that are refused if another of our commits came in between, whoever is still writing.

A run that is killed leaves its lock behind, but not always its query: a server of Spark Connect goes on with it. Delta
would let such a query append its rows once more, because an append conflicts with nothing. So our commits to a table
have numbers, as transactions of one application: each has the one after the newest that it knows, and Delta makes only
one commit of a number, and none of a lower one.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, Final
from uuid import uuid4

from deltalake import DeltaTable
from pyspark.sql import SparkSession

from sessions_dagster.errors import ConcurrentWriteError
from sessions_dagster.spark.tuning import spark_property
from sessions_dagster.storage.commit_metadata import BASE_KEY, WRITER_KEY
from sessions_dagster.storage.delta_log import commit_info
from sessions_dagster.storage.filesystem import location_of

APPLICATION: Final = "sessions_dagster"
"""The application of all our transactions."""

NO_METADATA: Final[Mapping[str, Any]] = {}


def exclusive_commit(
    spark: SparkSession,
    table: DeltaTable,
    write: Callable[[], object],
    metadata: Mapping[str, Any] = NO_METADATA,
) -> int | None:
    """Let a function write to a table once, unless another run writes to it since the version that a handle is at.

    Compactions and other commits of maintenance may come in between.

    Args:
        spark: The session that writes. Nobody may write with it to another table meanwhile.
        table: The handle, at the version that the write was computed from. Afterwards it is at the newest version.
        write: Makes at most one commit, and only to this table.
        metadata: The user metadata of the commit.

    Returns:
        The version that the commit is; None if there was nothing to commit.

    Raises:
        ConcurrentWriteError: If Delta has left the write out, because another run has committed since. Delta itself
            raises `ConcurrentTransactionException` if that happened while the write was under way.
    """
    base, number, writer = table.version(), newest_number(table), uuid4().hex
    # Not options of the writer, which MERGE and DELETE do not have. They must not stay set: Delta would leave out
    # every further write.
    properties = {
        "spark.databricks.delta.write.txnAppId": APPLICATION,
        "spark.databricks.delta.write.txnVersion": str(number + 1),
        "spark.databricks.delta.commitInfo.userMetadata": json.dumps(
            {**metadata, BASE_KEY: base, WRITER_KEY: writer}, separators=(",", ":")
        ),
    }
    with ExitStack() as set_properties:
        for name, value in properties.items():
            set_properties.enter_context(spark_property(spark, name, value))
        write()
    table.update_incremental()
    for version in range(base + 1, table.version() + 1):
        if writer in str(commit_info(table, version).get("userMetadata")):
            return version
    if newest_number(table) > number:
        raise ConcurrentWriteError(
            f"{location_of(table.table_uri)} went from version {base} to {table.version()} while a commit to it was "
            "computed: another run wrote to it. Nothing was written. Run this partition again, and let only one run "
            "write at a time."
        )
    return None


def newest_number(table: DeltaTable) -> int:
    """The number of the newest of our commits that a handle knows; 0 if there is none. Maintenance has no numbers."""
    return table.transaction_version(APPLICATION) or 0
