"""The table `forgotten_users`: hashes of the ids of users whom no landing lets in again, and the salt of the hashes.

The salt is a property of the table, so a list and its salt are never separated.
"""

from collections.abc import Collection
from datetime import UTC, datetime
from secrets import token_hex
from typing import Final

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from sessions_dagster.model.columns import FORGOTTEN_AT, USER_HASH
from sessions_dagster.model.forgotten import NOBODY, ForgottenUsers
from sessions_dagster.model.schemas import FORGOTTEN_USERS_SCHEMA
from sessions_dagster.storage.delta_tables import append, ensure_table
from sessions_dagster.storage.log_statistics import statistics_of
from sessions_dagster.storage.warehouse import Warehouse

SALT_PROPERTY: Final = "sessions.salt"

_SALT_BYTES: Final = 16


def forgotten_users(spark: SparkSession, warehouse: Warehouse) -> ForgottenUsers:
    """The list; nobody if there is none. Then Spark has nothing to do.

    Args:
        spark: A session with Delta.
        warehouse: Where the tables are.

    Raises:
        StorageError: If the storage fails.
    """
    table = warehouse.open(warehouse.forgotten_users) if warehouse.has(warehouse.forgotten_users) else None
    if table is None:
        # There may be a log without a commit: that of a run that was killed while it made the table.
        return NOBODY
    version, metadata = table.version(), table.metadata()
    rows = warehouse.read(spark, warehouse.forgotten_users, version).select(USER_HASH).collect()
    hashes = frozenset(row[USER_HASH] for row in rows)
    return ForgottenUsers(metadata.configuration[SALT_PROPERTY], hashes, str(metadata.id), version)


def add_forgotten(spark: SparkSession, warehouse: Warehouse, users: Collection[str]) -> None:
    """Put users on the list in one commit, or none if all of them are on it. The first ones create it.

    Args:
        spark: A session with Delta.
        warehouse: Where the tables are.
        users: The ids of the users.

    Raises:
        ConcurrentWriteError: If another run has put users on the list meanwhile.
    """
    uri = warehouse.forgotten_users
    salt = {SALT_PROPERTY: token_hex(_SALT_BYTES)}
    table = ensure_table(spark, warehouse, uri, FORGOTTEN_USERS_SCHEMA, properties={**statistics_of(uri), **salt})
    listed = forgotten_users(spark, warehouse)
    new = sorted({listed.hash_of(user) for user in users} - listed.hashes)
    if new:
        hashes = F.explode(F.split(F.lit(",".join(new)), ",")).alias(USER_HASH)
        now = F.lit(datetime.now(UTC)).cast("timestamp").alias(FORGOTTEN_AT)
        append(table, uri, spark.range(1).select(hashes, now).coalesce(1))
