#!/usr/bin/env bash
# Seen with: duckdb 2.0.0 (Python 3.11, Linux), one thread.
#
# Behaviour: if several rows of the right table tie (same key, same time), which of them an ASOF join takes depends on how many rows the planner
# expects on the LEFT side, though the others have nothing to do with it: up to 63 it is the first of the tied ones, from 64 on the last one.
# The join of a small left side is planned as a nested loop with an aggregate, and the two ways settle a tie the opposite way.
# It is the estimate that counts, not the rows: of 1000 orders, `WHERE id = 0` (estimated as one row) takes the first, `WHERE id < 10` (ten
# rows, estimated as a fifth of the table) the last, like the whole table; the same `WHERE id < 10` on 300 orders takes the first.
# A tie is the user's own to break, and any of its rows is a legal answer; what nobody expects is that a left row's answer changes with its
# neighbours. `SET asof_loop_join_threshold = 0` makes it the last one always (with one thread: with more, even that is not stable).
#
# Output that was seen:
#   orders   of them read   quote taken by order 0
#   1        all            first
#   63       all            first
#   64       all            last
#   1000     all            last
#   1000     id = 0         first
#   1000     id < 10        last
#   300      id < 10        first
#   threshold 0, 1 order: last
#
# Who meets it: whoever tries an as-of join (trades to quotes, events to the state then) on a sample or in a unit test, where it "takes the first",
# and runs it on a day's data, where it takes the last; or who compares the run of one id with the full run.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check duckdb==2.0.0
venv/bin/python - <<'PY'
import duckdb

db = duckdb.connect()
db.execute("SET threads = 1")
db.execute("CREATE TABLE quotes AS SELECT * FROM (VALUES (9, 'old'), (10, 'first'), (10, 'middle'), (10, 'last')) v(t, quote)")


def order_0(orders, where="true"):
    db.execute(f"CREATE OR REPLACE TABLE orders AS SELECT range AS id, 11 AS t FROM range({orders})")
    rows = db.execute(f"""
        SELECT o.id, q.quote FROM (SELECT * FROM orders WHERE {where}) o ASOF JOIN quotes q ON o.t >= q.t ORDER BY o.id
    """).fetchall()
    return rows[0][1]


print("orders   of them read   quote taken by order 0")
seen = {}
for orders, where in ((1, ""), (63, ""), (64, ""), (1000, ""), (1000, "id = 0"), (1000, "id < 10"), (300, "id < 10")):
    seen[orders, where] = order_0(orders, where or "true")
    print(f"{orders:<9}{where or 'all':15}{seen[orders, where]}")
db.execute("SET asof_loop_join_threshold = 0")
always = order_0(1)
print("threshold 0, 1 order:", always)
assert list(seen.values()) == ["first", "first", "last", "last", "first", "last", "first"]
assert always == "last"
PY
echo "as described"
