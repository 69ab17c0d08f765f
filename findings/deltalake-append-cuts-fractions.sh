#!/usr/bin/env bash
# Seen with: deltalake 1.6.6, pyarrow 26.0.1 (Python 3.11, Linux).
#
# Behaviour: an append whose column has another type than the table's is not refused for that, but cast, value by value, and a cast to whole numbers cuts: 2.7 and -2.7
# come to lie as 2 and -2, with no `schema_mode` given, no error and no warning. So does a decimal 2.7, and a `merge` inserts the same 2.
# A number goes into a boolean column as true, and into a timestamp column as microseconds since 1970.
# What makes one trust it: its neighbours are refused. A NaN and 1e30 for a whole-number column are errors, and so is the text '7.9'; a decimal(5, 4) for
# a decimal(10, 2) is "cannot cast", also where no digit would be lost, while the same number as a float goes in, rounded to two digits.
#
# Output that was seen (column <- appended = what lies in the table):
#   int64 <- double 2.7 = 2
#   int64 <- double -2.7 = -2
#   int64 <- decimal128(2, 1) 2.7 = 2
#   int64 <- double nan: Exception
#   int64 <- string 7.9: Exception
#   decimal128(10, 2) <- double 1.006 = 1.01
#   decimal128(10, 2) <- decimal128(5, 4) 1.5000: SchemaMismatchError
#   timestamp[us] <- int64 5 = 1970-01-01 00:00:00.000005
#   bool <- int64 2 = True
#   merge: int64 <- double 2.7 = 2
#
# Who meets it: whoever appends what pandas or Polars computed (a mean, a share, minutes as hours) to a table whose column is of whole numbers since the first load.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check deltalake==1.6.6 pyarrow==26.0.1
venv/bin/python - <<'PY'
import itertools
from datetime import datetime
from decimal import Decimal

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

numbers = itertools.count()


def column(values):
    return pa.table({"x": values})


def inserted(uri, values):
    merger = DeltaTable(uri).merge(column(values), "s.x = t.x", source_alias="s", target_alias="t")
    merger.when_not_matched_insert_all().execute()


def appended(uri, values):
    write_deltalake(uri, column(values), mode="append")


def seen(kind, value, given, write=appended, label=""):
    uri = f"table{next(numbers)}"
    write_deltalake(uri, column(pa.array([], kind)))
    told = f"{label}{kind} <- {given} {value}"
    try:
        write(uri, pa.array([value], given))
    except Exception as error:
        print(f"{told}: {type(error).__name__}")
        return type(error).__name__
    (held,) = DeltaTable(uri).to_pyarrow_table()["x"].to_pylist()
    print(f"{told} = {held}")
    return held


whole, double, cents = pa.int64(), pa.float64(), pa.decimal128(10, 2)
assert seen(whole, 2.7, double) == 2
assert seen(whole, -2.7, double) == -2
assert seen(whole, Decimal("2.7"), pa.decimal128(2, 1)) == 2
assert seen(whole, float("nan"), double) == "Exception"
assert seen(whole, "7.9", pa.string()) == "Exception"
assert seen(cents, 1.006, double) == Decimal("1.01")
assert seen(cents, Decimal("1.5000"), pa.decimal128(5, 4)) == "SchemaMismatchError"
assert seen(pa.timestamp("us"), 5, whole) == datetime(1970, 1, 1, 0, 0, 0, 5)
assert seen(pa.bool_(), 2, whole) is True
assert seen(whole, 2.7, double, inserted, "merge: ") == 2
PY
echo "as described"
