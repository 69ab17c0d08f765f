"""pyarrow, which has the widest choice of Parquet types."""

from datetime import time, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sessions_dagster_tests.compatibility.writers.rows import (
    COUNT,
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


def write(path: Path, options: dict[str, Any] | None = None, **others: Any) -> None:
    pq.write_table(pa.table(columns(**others)), path, **(options or {}))


def user(values: list[Any], type_: pa.DataType) -> Write:
    return lambda path: write(path, user_id=pa.array(values, type_))


def times(type_: pa.DataType, **options: Any) -> Write:
    return lambda path: write(path, options, timestamp=pa.array(TIMES, type_))


def own(values: list[Any], type_: pa.DataType, name: str = "own") -> Write:
    return lambda path: write(path, **{name: pa.array(values, type_)})


def compressed(codec: str) -> Write:
    return lambda path: write(path, {"compression": codec})


def same_name_twice(path: Path) -> None:
    plain = columns()
    arrays = [pa.array(values) for values in (*plain.values(), texts(), texts())]
    pq.write_table(pa.Table.from_arrays(arrays, [*plain, "own", "own"]), path)


UUID_TYPE = pa.uuid()
CASES: dict[str, Write] = {
    "user_id: text.parquet": user(texts(), pa.string()),
    "user_id: large text.parquet": user(texts(), pa.large_string()),
    "user_id: text view.parquet": user(texts(), pa.string_view()),
    "user_id: dictionary.parquet": user(texts(), pa.dictionary(pa.int32(), pa.string())),
    "user_id: int32.parquet": user(list(USERS), pa.int32()),
    "user_id: int64.parquet": user(list(USERS), pa.int64()),
    "user_id: uint64.parquet": user(list(USERS), pa.uint64()),
    "user_id: float64.parquet": user([float(each) for each in USERS], pa.float64()),
    "user_id: decimal.parquet": user(decimals(), pa.decimal128(38, 9)),
    "user_id: UUID.parquet": user([each.bytes for each in UUIDS], UUID_TYPE),
    "user_id: bytes of text.parquet": user([each.encode() for each in texts()], pa.binary()),
    "user_id: 16 raw bytes.parquet": user([each.bytes for each in UUIDS], pa.binary(16)),
    "timestamp: milliseconds.parquet": times(pa.timestamp("ms", "UTC")),
    "timestamp: microseconds.parquet": times(pa.timestamp("us", "UTC")),
    "timestamp: nanoseconds.parquet": times(pa.timestamp("ns", "UTC")),
    "timestamp: without a zone.parquet": times(pa.timestamp("us")),
    "timestamp: another zone.parquet": times(pa.timestamp("us", "Europe/Berlin")),
    "timestamp: INT96.parquet": times(pa.timestamp("us"), use_deprecated_int96_timestamps=True),
    "timestamp: date.parquet": times(pa.date32()),
    "timestamp: text.parquet": lambda path: write(path, timestamp=iso_times()),
    "timestamp: epoch milliseconds.parquet": lambda path: write(path, timestamp=epoch_milliseconds()),
    "own: UUID.parquet": own([each.bytes for each in UUIDS], UUID_TYPE),
    "own: time.parquet": own([time(10, 0, 1)] * COUNT, pa.time64("us")),
    "own: time in nanoseconds.parquet": own([time(10, 0, 1)] * COUNT, pa.time64("ns")),
    "own: time in milliseconds.parquet": own([time(10, 0, 1)] * COUNT, pa.time32("ms")),
    "own: duration.parquet": own([timedelta(seconds=1)] * COUNT, pa.duration("us")),
    "own: decimal.parquet": own(decimals(), pa.decimal128(38, 9)),
    "own: wide decimal.parquet": own(decimals(), pa.decimal256(60, 9)),
    "own: uint64.parquet": own([2**64 - 1] * COUNT, pa.uint64()),
    "own: half float.parquet": own([0.5] * COUNT, pa.float16()),
    "own: bytes.parquet": own([b"\xff\x00"] * COUNT, pa.binary()),
    "own: list.parquet": own([["x", "y"]] * COUNT, pa.list_(pa.string())),
    "own: struct.parquet": own([{"x": 1}] * COUNT, pa.struct([("x", pa.int64())])),
    "own: map.parquet": own([[("x", 1)]] * COUNT, pa.map_(pa.string(), pa.int64())),
    "own: only NULL.parquet": own([None] * COUNT, pa.null()),
    "own: named _metadata.parquet": own(texts(), pa.string(), "_metadata"),
    "own: named _c4.parquet": own(texts(), pa.string(), "_c4"),
    "own: without a name.parquet": own(texts(), pa.string(), ""),
    "own: the same name twice.parquet": same_name_twice,
    "frame: without rows.parquet": lambda path: pq.write_table(pa.table(columns()).slice(0, 0), path),
    "frame: without rows, of type null.parquet": lambda path: pq.write_table(
        pa.table({n: [] for n in columns()}), path
    ),
    **{f"codec: {codec}.parquet": compressed(codec) for codec in ("none", "snappy", "gzip", "zstd", "lz4", "brotli")},
}

if __name__ == "__main__":
    main("pyarrow", CASES)
