"""pandas, with the types that it chooses by itself."""

from typing import Any

import pandas as pd

from sessions_dagster_tests.compatibility.writers.rows import (
    COUNT,
    OWN_TEXT,
    TIMES,
    USERS,
    UUIDS,
    Write,
    columns,
    decimals,
    epoch_milliseconds,
    iso_times,
    main,
    texts,
)

UTC_TIMES = pd.Series(TIMES).dt.tz_localize("UTC")


def frame(**others: Any) -> pd.DataFrame:
    return pd.DataFrame(columns(**{"timestamp": UTC_TIMES, **others}))


def parquet(options: dict[str, Any] | None = None, /, **others: Any) -> Write:
    return lambda path: frame(**others).to_parquet(path, **(options or {}))


def csv(**others: Any) -> Write:
    return lambda path: frame(**others).to_csv(path, index=False)


def json(date_format: str, **others: Any) -> Write:
    return lambda path: frame(**others).to_json(path, orient="records", lines=True, date_format=date_format)


NO_ROWS = pd.DataFrame(columns=list(columns()))
CASES: dict[str, Write] = {
    "user_id: text.parquet": parquet(),
    "user_id: dictionary.parquet": parquet(user_id=pd.Categorical(texts())),
    "user_id: int64.parquet": parquet(user_id=list(USERS)),
    "user_id: uint64.parquet": parquet(user_id=pd.Series(USERS, dtype="uint64")),
    "user_id: float64.parquet": parquet(user_id=pd.Series(USERS, dtype="float64")),
    "user_id: decimal.parquet": parquet(user_id=decimals()),
    "user_id: UUID.parquet": parquet(user_id=list(UUIDS)),
    "user_id: bytes of text.parquet": parquet(user_id=[each.encode() for each in texts()]),
    "timestamp: milliseconds.parquet": parquet(timestamp=UTC_TIMES.astype("datetime64[ms, UTC]")),
    "timestamp: microseconds.parquet": parquet(timestamp=UTC_TIMES.astype("datetime64[us, UTC]")),
    "timestamp: nanoseconds.parquet": parquet(timestamp=UTC_TIMES.astype("datetime64[ns, UTC]")),
    "timestamp: without a zone.parquet": parquet(timestamp=pd.Series(TIMES)),
    "timestamp: another zone.parquet": parquet(timestamp=UTC_TIMES.dt.tz_convert("Europe/Berlin")),
    "timestamp: date.parquet": parquet(timestamp=[each.date() for each in TIMES]),
    "timestamp: text.parquet": parquet(timestamp=iso_times()),
    "timestamp: epoch milliseconds.parquet": parquet(timestamp=epoch_milliseconds()),
    "own: UUID.parquet": parquet(own=list(UUIDS)),
    "own: time.parquet": parquet(own=[each.time() for each in TIMES]),
    "own: duration.parquet": parquet(own=[pd.Timedelta(seconds=1)] * COUNT),
    "own: decimal.parquet": parquet(own=decimals()),
    "own: bytes.parquet": parquet(own=[b"\xff\x00"] * COUNT),
    "own: list.parquet": parquet(own=[["x", "y"]] * COUNT),
    "own: struct.parquet": parquet(own=[{"x": 1}] * COUNT),
    "own: only NULL.parquet": parquet(own=[None] * COUNT),
    "own: named _metadata.parquet": parquet(_metadata=texts()),
    "frame: with an index.parquet": lambda path: frame().set_index("user_id").to_parquet(path),
    "frame: without rows.parquet": frame().iloc[:0].to_parquet,
    "frame: without rows, of type object.parquet": NO_ROWS.to_parquet,
    **{
        f"codec: {codec}.parquet": parquet({"compression": codec})
        for codec in ("snappy", "gzip", "zstd", "lz4", "brotli")
    },
    "timestamp: with a zone.csv": csv(),
    "timestamp: without a zone.csv": csv(timestamp=list(TIMES)),
    "user_id: number.csv": csv(user_id=list(USERS)),
    "user_id: float64.csv": csv(user_id=pd.Series(USERS, dtype="float64")),
    "own: quotes and line breaks.csv": csv(own=OWN_TEXT),
    "frame: without rows.csv": lambda path: NO_ROWS.to_csv(path, index=False),
    "timestamp: as text.json": json("iso"),
    "timestamp: epoch milliseconds.json": json("epoch"),
    "user_id: number.json": json("iso", user_id=list(USERS)),
    "user_id: float64.json": json("iso", user_id=pd.Series(USERS, dtype="float64")),
    "own: quotes and line breaks.json": json("iso", own=OWN_TEXT),
    "own: nested.json": json("iso", own=[{"x": [1, None]}] * COUNT),
    **{f"codec: {codec}.csv.{codec}": csv() for codec in ("gz", "bz2", "zst", "xz", "zip")},
    **{f"codec: {codec}.json.{codec}": json("iso") for codec in ("gz", "bz2", "zst", "xz", "zip")},
}

if __name__ == "__main__":
    main("pandas", CASES)
