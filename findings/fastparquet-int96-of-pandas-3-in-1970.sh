#!/usr/bin/env bash
# Seen with: fastparquet 2026.9.0, pandas 3.1.1, pyarrow 26.0.1 (Python 3.11, Linux).
#
# Behaviour: pandas 3 keeps times in microseconds by default, no longer in nanoseconds. With times="int96", the format that older Spark and Impala ask for,
# fastparquet takes the stored whole numbers for nanoseconds whatever their unit is. Nothing is raised: every time in the file is some weeks after the beginning of
# 1970. pyarrow reads the wrong time, and so does fastparquet itself. The default, times="int64", is
# right except for times in seconds, which become milliseconds.
#
# Output that was seen:
#   int96, datetime64[s]:  2025-09-20 10:00:00 is read as 1970-01-01 00:00:01.758362400
#   int96, datetime64[ms]: 2025-09-20 10:00:00 is read as 1970-01-01 00:29:18.362400
#   int96, datetime64[us]: 2025-09-20 10:00:00 is read as 1970-01-21 08:26:02.400000
#   int96, datetime64[ns]: 2025-09-20 10:00:00 is read as 2025-09-20 10:00:00
#   int64, datetime64[s]:  2025-09-20 10:00:00 is read as 1970-01-01 00:29:18.362000
#   int64, other units:    2025-09-20 10:00:00
#
# Who meets it: whoever moves a job to pandas 3 that writes Parquet for an old reader with fastparquet. In a system that rejects late rows, a whole day is rejected as
# too late.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check fastparquet==2026.9.0 pandas==3.1.1 pyarrow==26.0.1
venv/bin/python - <<'PY'
import fastparquet
import pandas as pd
import pyarrow.parquet as pq

RIGHT = pd.Timestamp("2025-09-20 10:00:00")
IN_SECONDS = pd.Timestamp("1970-01-01 00:29:18.362")
SEEN = {
    "s": "1970-01-01 00:00:01.758362400",
    "ms": "1970-01-01 00:29:18.362400",
    "us": "1970-01-21 08:26:02.400000",
    "ns": "2025-09-20 10:00:00",
}
for unit, seen in SEEN.items():
    frame = pd.DataFrame({"t": pd.Series([RIGHT], dtype=f"datetime64[{unit}]")})
    for times in ("int96", "int64"):
        path = f"{times}-{unit}.parquet"
        fastparquet.write(path, frame, times=times)
        by_pyarrow = pd.Timestamp(pq.read_table(path).column("t").to_pylist()[0])
        print(f"{times}, datetime64[{unit}]: {RIGHT} is read as {by_pyarrow}")
        expected = pd.Timestamp(seen) if times == "int96" else IN_SECONDS if unit == "s" else RIGHT
        assert by_pyarrow == expected, (by_pyarrow, expected)
by_itself = fastparquet.ParquetFile("int96-us.parquet").to_pandas()["t"].iloc[0]
print(f"int96, datetime64[us], by fastparquet itself: {by_itself}")
assert by_itself == pd.Timestamp(SEEN["us"]), by_itself
print("as described")
PY
