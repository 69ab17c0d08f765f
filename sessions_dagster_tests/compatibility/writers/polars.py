"""Polars."""

from datetime import time, timedelta
from typing import Any

import polars as pl

from sessions_dagster_tests.compatibility.writers.rows import (
    COUNT,
    OWN_TEXT,
    TIMES,
    USERS,
    Write,
    columns,
    decimals,
    epoch_milliseconds,
    iso_times,
    main,
    texts,
)

UTC_TIMES = pl.Series(TIMES, dtype=pl.Datetime("us")).dt.replace_time_zone("UTC")


def frame(**others: Any) -> pl.DataFrame:
    return pl.DataFrame(columns(**{"timestamp": UTC_TIMES, **others}))


def parquet(options: dict[str, Any] | None = None, /, **others: Any) -> Write:
    return lambda path: frame(**others).write_parquet(path, **(options or {}))


def csv(**others: Any) -> Write:
    return lambda path: frame(**others).write_csv(path)


def json(**others: Any) -> Write:
    return lambda path: frame(**others).write_ndjson(path)


def user(dtype: Any, values: Any = USERS) -> Write:
    return parquet(user_id=pl.Series(values, dtype=dtype))


NO_ROWS = pl.DataFrame({name: [] for name in columns()})
CASES: dict[str, Write] = {
    "user_id: text.parquet": parquet(),
    "user_id: dictionary.parquet": user(pl.Categorical, texts()),
    "user_id: enum.parquet": user(pl.Enum(texts()), texts()),
    "user_id: int32.parquet": user(pl.Int32),
    "user_id: int64.parquet": user(pl.Int64),
    "user_id: uint64.parquet": user(pl.UInt64),
    "user_id: int128.parquet": user(pl.Int128),
    "user_id: float64.parquet": user(pl.Float64),
    "user_id: decimal.parquet": user(pl.Decimal(38, 9), decimals()),
    "user_id: bytes of text.parquet": user(pl.Binary, [each.encode() for each in texts()]),
    "timestamp: milliseconds.parquet": parquet(timestamp=UTC_TIMES.cast(pl.Datetime("ms", "UTC"))),
    "timestamp: microseconds.parquet": parquet(),
    "timestamp: nanoseconds.parquet": parquet(timestamp=UTC_TIMES.cast(pl.Datetime("ns", "UTC"))),
    "timestamp: without a zone.parquet": parquet(timestamp=list(TIMES)),
    "timestamp: another zone.parquet": parquet(timestamp=UTC_TIMES.dt.convert_time_zone("Europe/Berlin")),
    "timestamp: date.parquet": parquet(timestamp=UTC_TIMES.dt.date()),
    "timestamp: text.parquet": parquet(timestamp=iso_times()),
    "timestamp: epoch milliseconds.parquet": parquet(timestamp=epoch_milliseconds()),
    "own: time in nanoseconds.parquet": parquet(own=[time(10, 0, 1)] * COUNT),
    "own: duration.parquet": parquet(own=[timedelta(seconds=1)] * COUNT),
    "own: decimal.parquet": parquet(own=decimals()),
    "own: uint64.parquet": parquet(own=pl.Series([2**64 - 1] * COUNT, dtype=pl.UInt64)),
    "own: int128.parquet": parquet(own=pl.Series([2**100] * COUNT, dtype=pl.Int128)),
    "own: bytes.parquet": parquet(own=[b"\xff\x00"] * COUNT),
    "own: list.parquet": parquet(own=[["x", "y"]] * COUNT),
    "own: struct.parquet": parquet(own=[{"x": 1}] * COUNT),
    "own: only NULL.parquet": parquet(own=[None] * COUNT),
    "own: named _metadata.parquet": parquet(_metadata=texts()),
    "own: without a name.parquet": parquet(**{"": texts()}),
    "frame: without rows.parquet": lambda path: frame().clear().write_parquet(path),
    "frame: without rows, of type null.parquet": NO_ROWS.write_parquet,
    **{
        f"codec: {codec}.parquet": parquet({"compression": name})
        for codec, name in {"none": "uncompressed", "lz4": "lz4"}.items()
    },
    **{f"codec: {codec}.parquet": parquet({"compression": codec}) for codec in ("snappy", "gzip", "zstd", "brotli")},
    "timestamp: with a zone.csv": csv(),
    "timestamp: without a zone.csv": csv(timestamp=list(TIMES)),
    "user_id: number.csv": csv(user_id=list(USERS)),
    "user_id: float64.csv": csv(user_id=[float(each) for each in USERS]),
    "own: quotes and line breaks.csv": csv(own=OWN_TEXT),
    "frame: without rows.csv": NO_ROWS.write_csv,
    "timestamp: as text.json": json(),
    "user_id: number.json": json(user_id=list(USERS)),
    "user_id: float64.json": json(user_id=[float(each) for each in USERS]),
    "own: quotes and line breaks.json": json(own=OWN_TEXT),
    "own: nested.json": json(own=[{"x": [1, None]}] * COUNT),
}

if __name__ == "__main__":
    main("polars", CASES)
