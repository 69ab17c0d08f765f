"""Computing a DataFrame once although several queries use it."""

from collections.abc import Mapping
from typing import Any

from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame, Observation


def checkpoint(rows: DataFrame, *metrics: Column) -> tuple[DataFrame, Mapping[str, Any]]:
    """Compute rows once, and some aggregates of them on the way.

    Args:
        rows: Any rows.
        metrics: Aggregates with an alias.

    Returns:
        The rows as they were computed, whatever becomes of the tables that they were read from, and the values of the
        aggregates by their alias.
    """
    # Not a cache: it would be dropped, and computed again, as soon as Delta commits to a table it was computed from.
    level = StorageLevel.MEMORY_AND_DISK_DESER
    if not metrics:
        return rows.localCheckpoint(eager=True, storageLevel=level), {}
    observed = Observation()
    return rows.observe(observed, *metrics).localCheckpoint(eager=True, storageLevel=level), observed.get
