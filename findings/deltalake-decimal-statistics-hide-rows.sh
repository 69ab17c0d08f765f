#!/usr/bin/env bash
# Seen with: deltalake 1.6.6, pyarrow 26.0.1, polars 2.1.0 (Python 3.11, Linux).
#
# Behaviour: deltalake writes a decimal column's least and greatest value into the Delta log as a binary float, reckoned as "digits times a power of ten" and
# not even rounded to the nearest one: the decimal(18, 6) value 9876543210.123457 is logged as 9876543210.123455 for both bounds, so the file "ends" below
# the value that is in it. Whole numbers of decimal(20, 0) above a 64-bit integer are logged as 9223372036854775807. Every reader that trusts the log skips the
# file: a filter for the value, or for at least the value, finds no row, and `delete` reports 0 rows deleted. A read without a filter has the row.
# It is the file's bounds that are wrong, so in a file of many rows only those near its least and greatest value go missing: the newest id, the largest sum.
# From about 16 digits on; below, the float is near enough to come back as the same decimal.
#
# Output that was seen:
#   decimal(18, 6) 9876543210.123457
#     logged: min 9876543210.123455 max 9876543210.123455
#     rows read 1, with x = the value: deltalake 0, polars 0, pyarrow dataset 0; deleted 0
#   decimal(20, 0) 18446744073709551615
#     logged: min 9223372036854775807 max 9223372036854775807
#     rows read 1, with x = the value: deltalake 0, polars 0, pyarrow dataset 0; deleted 0
#   decimal(18, 6) 76543210.123457
#     logged: min 76543210.123457 max 76543210.123457
#     rows read 1, with x = the value: deltalake 1, polars 1, pyarrow dataset 1; deleted 1
#
# Who meets it: whoever keeps ledger sums with six digits after the point, or unsigned 64-bit ids as decimal(20, 0), the usual type for them in a Delta table.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check deltalake==1.6.6 pyarrow==26.0.1 polars==2.1.0
venv/bin/python - <<'PY'
import json
from decimal import Decimal
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, QueryBuilder, write_deltalake


def seen(uri, precision, scale, text):
    kind = pa.decimal128(precision, scale)
    write_deltalake(uri, pa.table({"x": pa.array([Decimal(text)], kind)}))
    adds = [json.loads(line).get("add") for line in Path(uri, "_delta_log", f"{0:020}.json").read_text().splitlines()]
    stats = json.loads(next(add for add in adds if add)["stats"])
    low, high = stats["minValues"]["x"], stats["maxValues"]["x"]
    table = DeltaTable(uri)
    literal = f"CAST('{text}' AS DECIMAL({precision}, {scale}))"
    query = QueryBuilder().register("t", table).execute(f"SELECT x FROM t WHERE x = {literal}")
    found = [
        pa.table(query.read_all()).num_rows,
        pl.scan_delta(uri).filter(pl.col("x") == pl.lit(Decimal(text), pl.Decimal(precision, scale))).collect().height,
        table.to_pyarrow_dataset().to_table(filter=pc.field("x") == pa.scalar(Decimal(text), kind)).num_rows,
    ]
    everything = table.to_pyarrow_table().num_rows
    deleted = table.delete(f"x = {literal}")["num_deleted_rows"]
    print(f"decimal({precision}, {scale}) {text}\n  logged: min {low} max {high}")
    print(f"  rows read {everything}, with x = the value: deltalake {found[0]}, polars {found[1]}, pyarrow dataset {found[2]}; deleted {deleted}")
    return [everything, *found, deleted]


assert seen("ledger", 18, 6, "9876543210.123457") == [1, 0, 0, 0, 0]
assert seen("ids", 20, 0, "18446744073709551615") == [1, 0, 0, 0, 0]
assert seen("short", 18, 6, "76543210.123457") == [1, 1, 1, 1, 1]
PY
echo "as described"
