#!/usr/bin/env bash
# Seen with: deltalake 1.6.6, pyarrow 26.0.1 (Python 3.11, Linux).
#
# Behaviour: `alter.add_constraint` does not store the CHECK as it was typed but prints it anew from the parsed expression, and the literal
# beside a decimal column is printed without its point: on a decimal(10, 2) column `price >= 1.50` is stored as
# `price >= '150'::decimal(10, 2)`, on decimal(10, 4) as `price >= '15000'::decimal(10, 4)`. So a table whose prices all keep to the rule
# "violates" it, and one whose prices happen to be large takes a rule a hundred times as strict, which then refuses right rows of
# every later append; `price <= 1.50`, the other way round, lets 149.99 through. The rule in the log is wrong for any other engine as well.
# With a cast the same rule is right (`price >= CAST(1.50 AS DOUBLE)`), and so is the same text on a float column.
#
# Output that was seen:
#   price >= 1.50 on a table with 20.00: DeltaError (1 rows failed validation check)
#   price >= 1.50 on a table with 200.00 is stored as: price >= '150'::decimal(10, 2)
#     appending 2.00: refused, 149.99: refused, 150.00: taken
#   price <= 1.50 on a table with 1.00 is stored as: price <= '150'::decimal(10, 2)
#     appending 2.00: taken, 149.99: taken, 150.01: refused
#   scale 4: price >= '15000'::decimal(10, 4)
#   a float column: price >= 1.5
#
# Who meets it: whoever guards money columns of a Delta table, for which decimals are the usual type, from Python.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check deltalake==1.6.6 pyarrow==26.0.1
venv/bin/python - <<'PY'
from decimal import Decimal

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError

CENTS = pa.decimal128(10, 2)
tables = 0


def prices(text, of=CENTS):
    value = float(text) if pa.types.is_floating(of) else Decimal(text)
    return pa.table({"price": pa.array([value], of)})


def guarded(check, first, of=CENTS):
    global tables
    tables += 1
    write_deltalake(f"prices{tables}", prices(first, of))
    DeltaTable(f"prices{tables}").alter.add_constraint({"rule": check})
    return f"prices{tables}"


def rule(uri):
    return DeltaTable(uri).metadata().configuration["delta.constraints.rule"]


def append(uri, *values):
    outcome = []
    for value in values:
        try:
            write_deltalake(uri, prices(value), mode="append")
            outcome.append("taken")
        except DeltaError:
            outcome.append("refused")
    print("  appending", ", ".join(f"{v}: {o}" for v, o in zip(values, outcome)))
    return outcome


try:
    guarded("price >= 1.50", "20.00")
    raise SystemExit("20.00 passes price >= 1.50 now")
except DeltaError as error:
    assert "failed validation" in str(error), error
    print("price >= 1.50 on a table with 20.00: DeltaError (1 rows failed validation check)")

low = guarded("price >= 1.50", "200.00")
print("price >= 1.50 on a table with 200.00 is stored as:", rule(low))
assert rule(low) == "price >= '150'::decimal(10, 2)"
assert append(low, "2.00", "149.99", "150.00") == ["refused", "refused", "taken"]

high = guarded("price <= 1.50", "1.00")
print("price <= 1.50 on a table with 1.00 is stored as:", rule(high))
assert append(high, "2.00", "149.99", "150.01") == ["taken", "taken", "refused"]

fine = guarded("price >= 1.50", "20000", pa.decimal128(10, 4))
print("scale 4:", rule(fine))
assert rule(fine) == "price >= '15000'::decimal(10, 4)"

binary = guarded("price >= 1.50", "20.00", pa.float64())
print("a float column:", rule(binary))
assert rule(binary) == "price >= 1.5"
PY
echo "as described"
