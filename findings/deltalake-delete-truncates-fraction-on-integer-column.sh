#!/usr/bin/env bash
# Seen with: deltalake 1.6.6, pyarrow 26.0.1 (Python 3.11, Linux).
#
# Behaviour: a predicate that deltalake is handed as SQL text is first made to fit the column's type, and the literal of a comparison
# with an integer column loses its fraction on the way, toward zero: `score = 2.5`, which no integer satisfies, becomes
# `score = 2` and deletes the twos; `score >= 0.5` becomes `score >= 0` and deletes the zeros too; `score < 2.5` becomes
# `score < 2` and keeps the twos. `delete`, `update`, `merge` (the join's condition and a WHEN clause's) and the predicate of an overwrite
# all do so, no error or warning is given, and the history shows the changed predicate only.
# The library's own `QueryBuilder` (and Spark, DuckDB, pandas...) compare with the fraction: a SELECT that is run first, to see what
# a DELETE would hit, shows other rows than the DELETE hits. Only with a cast of the column (`CAST(score AS DOUBLE) = 2.5`) it is right.
#
# Output that was seen (scores 0 1 2 3 4):
#   predicate                   a SELECT finds   what goes
#   score = 2.5                 []               [2]
#   score >= 0.5                [1, 2, 3, 4]     [0, 1, 2, 3, 4]
#   score < 2.5                 [0, 1, 2]        [0, 1]
#   score BETWEEN 0.5 AND 2.5   [1, 2]           [0, 1, 2]
#   CAST(score AS DOUBLE) = 2.5 []               []
#   update where score = 2.5           -> [0, 1, 3, 4, 99]
#   overwrite (empty) of score < 2.5   -> [2, 3, 4]
#   merge, delete if t.score >= 0.5    -> [1, 2, 3, 4]   (the source has only the key 0)
#   the history's predicate of the delete of score = 2.5: score = 2
#
# Who meets it: whoever cleans a Delta table by a computed threshold (a mean, a quantile, a share) on a column of whole numbers.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check deltalake==1.6.6 pyarrow==26.0.1
venv/bin/python - <<'PY'
import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder, write_deltalake

SCORES = range(5)
tables = 0


def scores_of(values):
    return pa.table({"score": pa.array(list(values), pa.int64())})


def table():
    global tables
    tables += 1
    write_deltalake(f"scores{tables}", scores_of(SCORES))
    return DeltaTable(f"scores{tables}")


def read(delta, where="true"):
    query = QueryBuilder().register("t", DeltaTable(delta.table_uri))
    return sorted(pa.table(query.execute(f"SELECT score FROM t WHERE {where}").read_all())["score"].to_pylist())


seen = {}
print(f"{'predicate':28}{'a SELECT finds':17}what goes")
for predicate in ("score = 2.5", "score >= 0.5", "score < 2.5", "score BETWEEN 0.5 AND 2.5", "CAST(score AS DOUBLE) = 2.5"):
    delta = table()
    found = read(delta, predicate)
    delta.delete(predicate)
    gone = sorted(set(SCORES) - set(read(delta)))
    seen[predicate] = (found, gone)
    print(f"{predicate:28}{str(found):17}{gone}")

delta = table()
delta.update(predicate="score = 2.5", updates={"score": "99"})
updated = read(delta)
print("update where score = 2.5           ->", updated)

delta = table()
write_deltalake(delta.table_uri, scores_of([]), mode="overwrite", predicate="score < 2.5")
overwritten = read(delta)
print("overwrite (empty) of score < 2.5   ->", overwritten)

delta = table()
merger = delta.merge(scores_of([0]), "s.score = t.score", source_alias="s", target_alias="t")
merger.when_matched_delete("t.score >= 0.5").execute()
merged = read(delta)
print("merge, delete if t.score >= 0.5    ->", merged)

delta = table()
delta.delete("score = 2.5")
logged = delta.history(1)[0]["operationParameters"]["predicate"]
print("the history's predicate of the delete of score = 2.5:", logged)

assert seen == {
    "score = 2.5": ([], [2]),
    "score >= 0.5": ([1, 2, 3, 4], [0, 1, 2, 3, 4]),
    "score < 2.5": ([0, 1, 2], [0, 1]),
    "score BETWEEN 0.5 AND 2.5": ([1, 2], [0, 1, 2]),
    "CAST(score AS DOUBLE) = 2.5": ([], []),
}
assert updated == [0, 1, 3, 4, 99] and overwritten == [2, 3, 4] and merged == [1, 2, 3, 4]
assert logged == "score = 2"
PY
echo "as described"
