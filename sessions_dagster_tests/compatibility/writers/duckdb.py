"""DuckDB: every file is the result of a query."""

from pathlib import Path

import duckdb

from sessions_dagster_tests.compatibility.writers.rows import ACTIONS, PRODUCTS, TIMES, USERS, UUIDS, Write, main

PLAIN = {
    "user_id": "n::VARCHAR",
    "event_id": "e",
    "product_code": "p",
    "timestamp": "t AT TIME ZONE 'UTC'",
}
OWN_TEXT = """CASE e WHEN 'x' THEN E'two\\nlines' ELSE 'a comma, a "quote", ü' END"""


def rows() -> str:
    values = zip(USERS, UUIDS, ACTIONS, PRODUCTS, TIMES, strict=True)
    return ", ".join(f"({n}, UUID '{u}', '{e}', '{p}', TIMESTAMP '{t}')" for n, u, e, p, t in values)


def copy(path: Path, options: str, others: dict[str, str], condition: str = "true") -> None:
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    columns = ", ".join(f'{value} AS "{name}"' for name, value in {**PLAIN, **others}.items())
    query = f"SELECT {columns} FROM (VALUES {rows()}) AS v(n, u, e, p, t) WHERE {condition}"
    connection.execute(f"COPY ({query}) TO '{path}' ({options})")


def parquet(**others: str) -> Write:
    return lambda path: copy(path, "FORMAT parquet", others)


def codec(name: str) -> Write:
    return lambda path: copy(path, f"FORMAT parquet, CODEC '{name}'", {})


def csv(options: str = "", **others: str) -> Write:
    return lambda path: copy(path, f"FORMAT csv, HEADER{options}", others)


def json(options: str = "", **others: str) -> Write:
    return lambda path: copy(path, f"FORMAT json{options}", others)


CASES: dict[str, Write] = {
    "user_id: text.parquet": parquet(),
    "user_id: enum.parquet": parquet(user_id=f"n::VARCHAR::ENUM({', '.join(repr(str(user)) for user in USERS)})"),
    "user_id: int32.parquet": parquet(user_id="n::INTEGER"),
    "user_id: int64.parquet": parquet(user_id="n::BIGINT"),
    "user_id: uint64.parquet": parquet(user_id="n::UBIGINT"),
    "user_id: int128.parquet": parquet(user_id="n::HUGEINT"),
    "user_id: float64.parquet": parquet(user_id="n::DOUBLE"),
    "user_id: decimal.parquet": parquet(user_id="n::DECIMAL(38, 9)"),
    "user_id: UUID.parquet": parquet(user_id="u"),
    "user_id: bytes of text.parquet": parquet(user_id="encode(n::VARCHAR)"),
    "timestamp: milliseconds.parquet": parquet(timestamp="t::TIMESTAMP_MS"),
    "timestamp: microseconds.parquet": parquet(),
    "timestamp: nanoseconds.parquet": parquet(timestamp="t::TIMESTAMP_NS"),
    "timestamp: without a zone.parquet": parquet(timestamp="t"),
    "timestamp: date.parquet": parquet(timestamp="t::DATE"),
    "timestamp: text.parquet": parquet(timestamp="strftime(t, '%Y-%m-%dT%H:%M:%S.%gZ')"),
    "timestamp: epoch milliseconds.parquet": parquet(timestamp="epoch_ms(t)"),
    "own: UUID.parquet": parquet(own="u"),
    "own: time.parquet": parquet(own="TIME '10:00:01'"),
    "own: time with a zone.parquet": parquet(own="TIMETZ '10:00:01+02'"),
    "own: interval.parquet": parquet(own="INTERVAL 1 DAY"),
    "own: decimal.parquet": parquet(own="n::DECIMAL(38, 9)"),
    "own: uint64.parquet": parquet(own="18446744073709551615::UBIGINT"),
    "own: int128.parquet": parquet(own="1::HUGEINT << 100"),
    "own: bytes.parquet": parquet(own="'\\xFF\\x00'::BLOB"),
    "own: list.parquet": parquet(own="['x', 'y']"),
    "own: struct.parquet": parquet(own="{'x': 1}"),
    "own: map.parquet": parquet(own="MAP {'x': 1}"),
    "own: JSON.parquet": parquet(own="""'{"x": 1}'::JSON"""),
    "own: only NULL.parquet": parquet(own="NULL"),
    "own: named _metadata.parquet": parquet(_metadata="p"),
    "frame: without rows.parquet": lambda path: copy(path, "FORMAT parquet", {}, "false"),
    **{
        f"codec: {name}.parquet": codec(as_duckdb_has_it)
        for name, as_duckdb_has_it in {"none": "uncompressed", "lz4": "lz4_raw"}.items()
    },
    **{f"codec: {name}.parquet": codec(name) for name in ("snappy", "gzip", "zstd", "brotli")},
    "timestamp: with a zone.csv": csv(),
    "timestamp: without a zone.csv": csv(timestamp="t"),
    "user_id: number.csv": csv(user_id="n"),
    "user_id: float64.csv": csv(user_id="n::DOUBLE"),
    "own: quotes and line breaks.csv": csv(own=OWN_TEXT),
    "frame: without rows.csv": lambda path: copy(path, "FORMAT csv, HEADER", {}, "false"),
    "timestamp: with a zone.json": json(),
    "timestamp: without a zone.json": json(timestamp="t"),
    "user_id: number.json": json(user_id="n"),
    "user_id: float64.json": json(user_id="n::DOUBLE"),
    "own: quotes and line breaks.json": json(own=OWN_TEXT),
    "own: nested.json": json(own="{'x': [1, NULL]}"),
    "codec: gz.csv.gz": csv(", COMPRESSION gzip"),
    "codec: zst.csv.zst": csv(", COMPRESSION zstd"),
    "codec: gz.json.gz": json(", COMPRESSION gzip"),
    "codec: zst.json.zst": json(", COMPRESSION zstd"),
}

if __name__ == "__main__":
    main("duckdb", CASES)
