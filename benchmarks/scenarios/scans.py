"""What a reader of the table waits for: a query of all dates."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from benchmarks.contenders import Ours
from benchmarks.measures import timed
from benchmarks.scenarios.bench import Bench
from sessions_dagster.model.columns import PRODUCT, SESSION_START, USER


def seconds_of_scans(bench: Bench, ours: Ours) -> list[float]:
    """Time repeated scans of the table; the first one only warms the process up and is left out."""
    return [timed(lambda: _scan(ours.rows()))[0] for _ in range(bench.scale.measured_days + 1)][1:]


def _scan(rows: DataFrame) -> None:
    """Count the sessions of each user on all dates, as an analyst would."""
    of_users = rows.groupBy(USER).agg(F.count_distinct(PRODUCT, SESSION_START).alias("sessions"))
    # Collects one number, because Delta cannot read a table with deletion vectors for Spark's `noop` sink.
    of_users.agg(F.max("sessions")).collect()
