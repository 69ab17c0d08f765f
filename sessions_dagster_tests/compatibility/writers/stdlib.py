"""The modules `csv` and `json` of Python."""

import bz2
import csv
import gzip
import io
import json
import lzma
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sessions_dagster_tests.compatibility.writers.rows import (
    OWN_TEXT,
    TIMES,
    USERS,
    Write,
    epoch_milliseconds,
    records,
    write_cases,
)


def with_column(name: str, values: list[Any]) -> list[dict[str, Any]]:
    return [{**record, name: value} for record, value in zip(records(), values, strict=True)]


def as_csv(rows: list[dict[str, Any]], **options: Any) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), **options)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def as_json(rows: list[dict[str, Any]], **options: Any) -> bytes:
    return "".join(f"{json.dumps(row, **options)}\n" for row in rows).encode()


def to(content: bytes, compress: Callable[[bytes], bytes] = bytes) -> Write:
    return lambda path: Path(path).write_bytes(compress(content))


COMPRESSED: dict[str, Callable[[bytes], bytes]] = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}
CASES: dict[str, Write] = {
    "timestamp: with a zone.csv": to(as_csv(records())),
    "timestamp: without a zone.csv": to(as_csv(with_column("timestamp", list(TIMES)))),
    "timestamp: epoch milliseconds.csv": to(as_csv(with_column("timestamp", epoch_milliseconds()))),
    "user_id: number.csv": to(as_csv(with_column("user_id", list(USERS)))),
    "user_id: float64.csv": to(as_csv(with_column("user_id", [float(user) for user in USERS]))),
    "own: quotes and line breaks.csv": to(as_csv(with_column("own", OWN_TEXT))),
    "file: all values quoted.csv": to(as_csv(records(), quoting=csv.QUOTE_ALL)),
    "file: lines that end in LF.csv": to(as_csv(records(), lineterminator="\n")),
    "file: with a byte order mark.csv": to("\ufeff".encode() + as_csv(records())),
    "file: a tab between the values.csv": to(as_csv(records(), delimiter="\t")),
    "timestamp: as text.json": to(as_json(records())),
    "timestamp: epoch milliseconds.json": to(as_json(with_column("timestamp", epoch_milliseconds()))),
    "user_id: number.json": to(as_json(with_column("user_id", list(USERS)))),
    "user_id: float64.json": to(as_json(with_column("user_id", [float(user) for user in USERS]))),
    "own: quotes and line breaks.json": to(as_json(with_column("own", OWN_TEXT))),
    "own: nested.json": to(as_json(with_column("own", [{"x": [1, None]}] * len(USERS)))),
    "own: NaN.json": to(as_json(with_column("own", [float("nan")] * len(USERS)))),
    "file: letters as they are.json": to(as_json(with_column("own", OWN_TEXT), ensure_ascii=False)),
    "file: with a byte order mark.json": to("\ufeff".encode() + as_json(records())),
    "file: one array.json": to(json.dumps(records(), indent=2).encode()),
    **{f"codec: {suffix}.csv.{suffix}": to(as_csv(records()), compress) for suffix, compress in COMPRESSED.items()},
    **{f"codec: {suffix}.json.{suffix}": to(as_json(records()), compress) for suffix, compress in COMPRESSED.items()},
}


def write_all(folder: Path) -> None:
    """Write the file of each case. These modules have the version of Python."""
    write_cases(CASES, folder, platform.python_version())


if __name__ == "__main__":
    write_all(Path(sys.argv[1]))
