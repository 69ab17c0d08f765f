"""Commits that are refused if another of our commits came in between, whoever is still writing.

A run that is killed leaves its lock behind, but not always its query: a server of Spark Connect goes on with it. Delta
would let such a query append its rows once more, because an append conflicts with nothing. So each of our commits says,
as a transaction of one application, which version of the table it was computed from, and Delta makes only one commit of
those that were computed from the same version, or from an older one.
"""

import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from deltalake import DeltaTable
from pyspark.sql import SparkSession

from sessions_dagster.errors import ConcurrentWriteError
from sessions_dagster.spark.tuning import spark_property
from sessions_dagster.storage.delta_log import commits_since
from sessions_dagster.storage.filesystem import location_of

APPLICATION: Final = "sessions_dagster"
"""The application of all our transactions."""

WRITER_KEY: Final = "writer"
"""The key (JSON) in the user metadata of a commit that tells it from all others."""

_NO_METADATA: Final[Mapping[str, Any]] = {}


@contextmanager
def exclusive_commit(
    spark: SparkSession, table: DeltaTable, metadata: Mapping[str, Any] = _NO_METADATA
) -> Iterator[None]:
    """A context for one write to a table, which has the rows of the version that a handle is at as its base.

    Args:
        spark: The session that writes.
        table: The handle, which nobody may update before the context begins. Afterwards it is at the new version.
        metadata: The user metadata of the commit.

    Raises:
        ConcurrentWriteError: If Delta has left the write out, because another run has committed since. Delta itself
            raises `ConcurrentTransactionException` if that happened while the write was under way.
    """
    base, writer = table.version(), uuid.uuid4().hex
    # Not options of the writer, which MERGE and DELETE do not have. They must not stay set: Delta would leave out
    # every further write.
    properties = {
        "spark.databricks.delta.write.txnAppId": APPLICATION,
        "spark.databricks.delta.write.txnVersion": str(base + 1),
        "spark.databricks.delta.commitInfo.userMetadata": json.dumps(
            {**metadata, WRITER_KEY: writer}, separators=(",", ":")
        ),
    }
    with ExitStack() as set_properties:
        for name, value in properties.items():
            set_properties.enter_context(spark_property(spark, name, value))
        yield
    table.update_incremental()
    since = (action.get("commitInfo", {}) for commit in commits_since(table, base) for action in commit)
    if not any(writer in info.get("userMetadata", "") for info in since):
        raise ConcurrentWriteError(
            f"{location_of(table.table_uri)} went from version {base} to {table.version()} while a commit to it was "
            "computed: another run wrote to it. Nothing was written. Run this partition again, and let only one run "
            "write at a time."
        )
