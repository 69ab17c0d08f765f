"""Computing a DataFrame once although several queries use it."""

from collections.abc import Mapping
from typing import Any

from pyspark.sql import Column, DataFrame

from sessions_dagster.spark.compat import local_checkpoint


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
    if not metrics:
        return local_checkpoint(rows, eager=True), {}
    # The aggregates are what computes the rows, so both take one job. They are not observed: over Spark Connect a
    # checkpoint tells nothing of what was observed on the way.
    computed = local_checkpoint(rows, eager=False)
    (values,) = computed.agg(*metrics).collect()
    return computed, values.asDict()
