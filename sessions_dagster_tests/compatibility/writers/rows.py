"""The four rows that every writer writes: three that land on `DAY`, and one that came too late for its batch."""

import importlib.metadata
import json
import sys
from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

DAY = date(2025, 10, 1)

USERS = (12345678, 23456789, 87654321, 99999999)
ACTIONS = ("a", "b", "x", "a")
PRODUCTS = ("idea", "pyc", "idea", "pyc")
TIMES = (
    datetime(2025, 10, 1, 0, 0, 0, 1000),
    datetime(2025, 10, 1, 10, 0, 0, 123000),
    datetime(2025, 10, 1, 23, 59, 59, 999000),
    datetime(2025, 9, 1, 10, 0),
)
UUIDS = tuple(UUID(int=user) for user in USERS)
EPOCH = datetime(1970, 1, 1)
COUNT = len(USERS)
OWN_TEXT = ['a comma, a "quote"', "two\nlines", "", "ü, 日本"]
"""The values of an own column of text: what CSV has to quote, and letters beyond ASCII."""

Write = Callable[[Path], object]


def texts() -> list[str]:
    """The users as text."""
    return [str(user) for user in USERS]


def decimals() -> list[Decimal]:
    """The users as decimals with nine places."""
    return [Decimal(user).quantize(Decimal("1e-9")) for user in USERS]


def iso_times() -> list[str]:
    """The times as text with a zone."""
    return [f"{time.isoformat(timespec='milliseconds')}Z" for time in TIMES]


def epoch_milliseconds() -> list[int]:
    """The times as milliseconds since 1970."""
    return [(time - EPOCH) // timedelta(milliseconds=1) for time in TIMES]


def columns(**others: Any) -> dict[str, Any]:
    """The four columns, and what a case has instead of them or beside them."""
    plain = {"user_id": texts(), "event_id": list(ACTIONS), "product_code": list(PRODUCTS), "timestamp": list(TIMES)}
    return {**plain, **others}


def records() -> list[dict[str, str]]:
    """The rows as text."""
    names = ("user_id", "event_id", "product_code", "timestamp")
    return [dict(zip(names, row, strict=True)) for row in zip(texts(), ACTIONS, PRODUCTS, iso_times(), strict=True)]


def write_cases(cases: Mapping[str, Write], folder: Path, version: str) -> None:
    """Write a file for each case, and the manifest.

    Args:
        cases: How to write the file of each case, by its name with the suffix of the file: `user_id: text.parquet`.
        folder: Where the files go. It is created.
        version: The version of the tool.
    """
    folder.mkdir(parents=True, exist_ok=True)
    refused: dict[str, str] = {}
    for name, write in cases.items():
        try:
            write(folder / name)
        except Exception as error:  # Whatever a tool says, it does not write this.
            (folder / name).unlink(missing_ok=True)
            refused[name] = f"{type(error).__name__}: {error}".splitlines()[0]
    written = [name for name in cases if name not in refused]
    (folder / "manifest.json").write_text(json.dumps({"version": version, "written": written, "refused": refused}))


def main(package: str, cases: Mapping[str, Write]) -> None:
    """Write the files of a package into the folder that the program is called with."""
    write_cases(cases, Path(sys.argv[1]), importlib.metadata.version(package))
