"""fastparquet, which writes frames of pandas by itself."""

from typing import Any

import fastparquet
import pandas as pd

from sessions_dagster_tests.compatibility.writers.rows import (
    COUNT,
    TIMES,
    USERS,
    Write,
    columns,
    decimals,
    iso_times,
    main,
    texts,
)

UTC_TIMES = pd.Series(TIMES).dt.tz_localize("UTC")


def frame(**others: Any) -> pd.DataFrame:
    return pd.DataFrame(columns(**{"timestamp": UTC_TIMES, **others}))


def parquet(options: dict[str, Any] | None = None, /, **others: Any) -> Write:
    return lambda path: fastparquet.write(str(path), frame(**others), **(options or {}))


CASES: dict[str, Write] = {
    "user_id: text.parquet": parquet(),
    "user_id: dictionary.parquet": parquet(user_id=pd.Categorical(texts())),
    "user_id: int32.parquet": parquet(user_id=pd.Series(USERS, dtype="int32")),
    "user_id: int64.parquet": parquet(user_id=list(USERS)),
    "user_id: uint64.parquet": parquet(user_id=pd.Series(USERS, dtype="uint64")),
    "user_id: float64.parquet": parquet(user_id=pd.Series(USERS, dtype="float64")),
    "user_id: decimal.parquet": parquet({"object_encoding": {"user_id": "decimal"}}, user_id=decimals()),
    "user_id: bytes of text.parquet": parquet(
        {"object_encoding": {"user_id": "bytes"}},
        user_id=pd.Series([each.encode() for each in texts()], dtype="object"),
    ),
    "timestamp: milliseconds.parquet": parquet(timestamp=UTC_TIMES.astype("datetime64[ms, UTC]")),
    "timestamp: microseconds.parquet": parquet(timestamp=UTC_TIMES.astype("datetime64[us, UTC]")),
    "timestamp: nanoseconds.parquet": parquet(timestamp=UTC_TIMES.astype("datetime64[ns, UTC]")),
    "timestamp: without a zone.parquet": parquet(timestamp=pd.Series(TIMES)),
    "timestamp: another zone.parquet": parquet(timestamp=UTC_TIMES.dt.tz_convert("Europe/Berlin")),
    "timestamp: INT96.parquet": parquet({"times": "int96"}, timestamp=pd.Series(TIMES, dtype="datetime64[ns]")),
    "timestamp: text.parquet": parquet(timestamp=iso_times()),
    "own: duration.parquet": parquet(own=pd.Series([pd.Timedelta(seconds=1)] * COUNT)),
    "own: JSON.parquet": parquet({"object_encoding": {"own": "json"}}, own=[{"x": 1}] * COUNT),
    "own: named _metadata.parquet": parquet(_metadata=texts()),
    "frame: with an index.parquet": lambda path: fastparquet.write(str(path), frame().set_index("user_id")),
    "frame: without rows.parquet": lambda path: fastparquet.write(str(path), frame().iloc[:0]),
    **{
        f"codec: {codec}.parquet": parquet({"compression": codec.upper()})
        for codec in ("snappy", "gzip", "zstd", "lz4", "brotli")
    },
}

if __name__ == "__main__":
    main("fastparquet", CASES)
