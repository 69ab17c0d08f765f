"""Timestamps in text and in numbers: which are read, as what, and which are rejected.

The table of the contract is read from docs/contract.md. Further spellings are generated, and Python's `zoneinfo` says
what they mean.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any, Final
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from sessions_dagster.input.folders import InputRoot
from sessions_dagster.input.formats import EpochUnit, InputFormat
from sessions_dagster.input.readers.timestamps import parse_timestamp, parse_timestamp_or_number
from sessions_dagster.model.columns import EVENT, PRODUCT, REASON, TIMESTAMP, USER
from sessions_dagster.model.rejects import RejectReason
from sessions_dagster.model.rules import SessionRules
from sessions_dagster.pipeline.land import land_batch
from sessions_dagster.storage.warehouse import Warehouse
from sessions_dagster_tests.frames import spark_frame

EPOCH: Final = datetime(1970, 1, 1)
CONTRACT: Final = (Path(__file__).parents[1] / "docs" / "contract.md").read_text()

few = settings(
    max_examples=2,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def parsed(spark: SparkSession, texts: Iterable[str], unit: EpochUnit | None = None) -> list[datetime | None]:
    """What each text is read as, in UTC."""
    rows = spark_frame(spark, pa.table({"text": list(texts)}))
    micros = rows.select(F.unix_micros(parse_timestamp_or_number(F.col("text"), unit))).collect()
    return [None if row[0] is None else EPOCH + timedelta(microseconds=row[0]) for row in micros]


# --- text ------------------------------------------------------------------------------------------------------------


def table_of_the_contract() -> dict[str, datetime | None]:
    """The texts in the contract, and what each is read as; None if it is not read."""
    section = CONTRACT.split("\n### Timestamps in text\n")[1].split("\n### ")[0]
    rows = re.findall(r"^\| `([^`]+)`.* \| (not read: .+|[-0-9 :.]+) \|$", section, re.MULTILINE)
    assert len(rows) == sum(line.startswith("| `") for line in section.splitlines()), "every row is understood"
    return {text: None if outcome.startswith("not read") else at(outcome) for text, outcome in rows}


FURTHER_TEXTS: Final[Mapping[str, str | None]] = {
    " 2025-09-20 10:00:00 ": "2025-09-20 10:00:00",
    "1969-12-31 23:59:59.9999999": "1969-12-31 23:59:59.999999",
    "0001-01-01 00:00:00": "0001-01-01 00:00:00",
    "2025-09-20T10:00:00.123456+02:00": "2025-09-20 08:00:00.123456",
    "2025-09-20 10:00:00+02": "2025-09-20 08:00:00",
    "2025-09-20 01:00:00+02:00": "2025-09-19 23:00:00",
    "2025-12-20 10:00:00 Europe/Berlin": "2025-12-20 09:00:00",
    "20250920T100000": "2025-09-20 10:00:00",
    "20250920t100000,25+0200": "2025-09-20 08:00:00.250000",
    "2025/9/5 1:02z": "2025-09-05 01:02:00",
    "2025-10-26T02:30:00+01:00[Europe/Berlin]": "2025-10-26 01:30:00",
    "2025-01-01T10:00Z[Europe/London]": "2025-01-01 10:00:00",
    "": None,
    "  ": None,
    "yesterday": None,
    "now": None,
    "2025-09-20 10": None,
    "1758362400": None,
    "2025-09-20 10:60:00": None,
    "2025-09-20 10:00:60": None,
    "2025-09-20 10:00:": None,
    "2025-09-20 10:00:00 + 02:00": None,
    "2025-09-20 10:00:00+2000": None,
    "2025-09-20 10:00:00+020": None,
    "2025-09-20 10:00:00 europe/berlin": None,
    "2025-09-20 10:00:00[CET]": None,
    "2025-09-20 10:00:00+02:00[Mars/Olympus]": None,
    "2025-09-20 10:00:00Z[Mars/Olympus]": None,
    "2025-09-20 10:00:00+02:00 CEST": None,
    "2025-09-20 10:00:00 +0300 -03": None,
    "20250920T10000": None,
    "2025-09-20T100000": None,
    "20251320T100000Z": None,
}

ABBREVIATIONS: Final = (
    "ACT",
    "AEST",
    "AET",
    "AGT",
    "ART",
    "AST",
    "BET",
    "BST",
    "CAT",
    "CDT",
    "CEST",
    "CET",
    "CNT",
    "CST",
    "CST6CDT",
    "CTT",
    "EAT",
    "ECT",
    "EDT",
    "EET",
    "EST",
    "EST5EDT",
    "GB",
    "GMT+0",
    "GMT0",
    "HST",
    "IET",
    "IST",
    "JST",
    "MDT",
    "MET",
    "MIT",
    "MSK",
    "MST",
    "MST7MDT",
    "NET",
    "NST",
    "NZ",
    "PDT",
    "PLT",
    "PNT",
    "PRC",
    "PRT",
    "PST",
    "PST8PDT",
    "ROK",
    "SST",
    "UCT",
    "UT",
    "UTC+2",
    "VST",
    "WET",
    "Zulu",
)

LONG: Final = 100_000
LONG_TEXTS: Final = [
    *[f"2025-09-20 10:00:00{part * LONG}x" for part in (" ", "0", ".0", "+02:00", "[A/b]", "A/", "Z", " +0200", "\n")],
    *[part * LONG + "2025-09-20 10:00:00" for part in ("0", "2025-09-20 ")],
]
"""With these, a pattern that gives characters back, or repeats a group, would take minutes, or all of the stack."""

KNOWN: Final[Mapping[str, datetime | None]] = {
    **table_of_the_contract(),
    **{text: None if expected is None else at(expected) for text, expected in FURTHER_TEXTS.items()},
    **{f"2025-09-20 10:00:00 {name}": None for name in ABBREVIATIONS},
    **{f"2025-09-20T10:00{name}": None for name in ABBREVIATIONS},
    **dict.fromkeys(LONG_TEXTS),
}


@pytest.fixture(scope="module")
def read_as(spark: SparkSession) -> Mapping[str, datetime | None]:
    return dict(zip(KNOWN, parsed(spark, KNOWN), strict=True))


@pytest.mark.parametrize("text", KNOWN, ids=lambda text: text[:50])
def test_a_text_timestamp_is_read_or_rejected_as_the_contract_says(
    read_as: Mapping[str, datetime | None], text: str
) -> None:
    assert read_as[text] == KNOWN[text]


REGIONS: Final = (
    "Africa/Casablanca",
    "America/Argentina/Buenos_Aires",
    "America/New_York",
    "America/Port-au-Prince",
    "America/St_Johns",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Asia/Tokyo",
    "Australia/Lord_Howe",
    "Etc/GMT-14",
    "Etc/GMT+12",
    "Etc/UTC",
    "Europe/Berlin",
    "Europe/London",
    "Pacific/Chatham",
    "US/Pacific",
)


def spelling(random: Random) -> tuple[str, datetime | None]:
    """A time in a random spelling, and what it means in UTC; None if its zone says too little."""
    digits = random.choice([0, 0, 1, 3, 6, 7, 9, 12])
    fraction = "".join(random.choices("0123456789", k=digits))
    with_seconds = digits > 0 or random.random() < 0.8
    moment = datetime(2015, 1, 1) + timedelta(minutes=random.randrange(10 * 366 * 24 * 60))
    if with_seconds:
        moment = moment.replace(second=random.randrange(60), microsecond=int(fraction[:6].ljust(6, "0")))
    is_basic = random.random() < 0.2
    separator = random.choice("-/")
    clock = ("%H%M" if is_basic else "%H:%M") + (("%S" if is_basic else ":%S") if with_seconds else "")
    day = "%Y%m%d" if is_basic else f"%Y{separator}%m{separator}%d"
    text = f"{moment:{day}}{random.choice('Tt' if is_basic else 'Tt ')}{moment:{clock}}"
    if not is_basic and random.random() < 0.2:
        text = re.sub(r"(?<![\d.])0(?=\d)", "", text)
    text += random.choice(".,") + fraction if digits else ""
    minutes = random.randrange(-14 * 60, 14 * 60 + 1)
    offset = timezone(timedelta(minutes=minutes))
    short = f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}{abs(minutes) % 60:02}"
    region = random.choice(REGIONS)
    there = moment.replace(tzinfo=ZoneInfo(region))
    zone, meant = random.choice(
        [
            ("", moment.replace(tzinfo=UTC)),
            (random.choice(["Z", "z", "UTC", "GMT", "+00", "-00:00", "+0000", "Z[UTC]"]), moment.replace(tzinfo=UTC)),
            (short, moment.replace(tzinfo=offset)),
            (f"{short[:3]}:{short[3:]}", moment.replace(tzinfo=offset)),
            (region, there),
            (f"[{region}]", there),
            (f"{there:%z}"[:3] + ":" + f"{there:%z}"[3:5] + f"[{region}]", there),
            (f"{short[:3]}:{short[3:]}[Mars/Olympus]", None),
            (random.choice(ABBREVIATIONS), None),
        ]
    )
    if zone and "[" not in zone:
        zone = random.choice(["", " "]) + zone
    blanks = random.choice(["", "", " "])
    return f"{blanks}{text}{zone}{blanks}", None if meant is None else meant.astimezone(UTC).replace(tzinfo=None)


@few
@given(seed=st.integers(0, 2**31))
def test_a_generated_spelling_means_what_python_takes_it_for(spark: SparkSession, seed: int) -> None:
    random = Random(seed)
    spellings = dict(spelling(random) for _ in range(600))
    wrong = {
        text: (found, expected)
        for (text, expected), found in zip(spellings.items(), parsed(spark, spellings), strict=True)
        if found != expected
    }
    assert wrong == {}


# --- numbers ---------------------------------------------------------------------------------------------------------

MICROSECONDS: Final[Mapping[EpochUnit, int]] = {"seconds": 10**6, "milliseconds": 10**3, "microseconds": 1}
NUMBERS: Final[Mapping[EpochUnit, Mapping[str, str | None]]] = {
    "seconds": {
        "1759312800": "2025-10-01 10:00:00",
        " 1759312800 ": "2025-10-01 10:00:00",
        "1759312800.0": "2025-10-01 10:00:00",
        "1.7593128E9": "2025-10-01 10:00:00",
        "0": "1970-01-01 00:00:00",
        "-1": "1969-12-31 23:59:59",
        "1759312800.5": None,
        "99999999999999999999": None,
        "9223372036854775807": None,
        "1e999": None,
        "NaN": None,
        "2025-10-01 10:00:00": "2025-10-01 10:00:00",
        "2025-10-01t10:00z": "2025-10-01 10:00:00",
    },
    "milliseconds": {"1759312800123": "2025-10-01 10:00:00.123", "-1": "1969-12-31 23:59:59.999", "0.5": None},
    "microseconds": {"1759312800123456": "2025-10-01 10:00:00.123456", "-1": "1969-12-31 23:59:59.999999"},
}


@pytest.mark.parametrize("unit", NUMBERS)
def test_a_number_in_text_counts_what_the_setting_says(spark: SparkSession, unit: EpochUnit) -> None:
    expected = {text: None if moment is None else at(moment) for text, moment in NUMBERS[unit].items()}
    assert dict(zip(expected, parsed(spark, expected, unit), strict=True)) == expected


@few
@given(numbers=st.lists(st.integers(-(2**50), 2**50), min_size=50), unit=st.sampled_from(list(MICROSECONDS)))
def test_any_number_is_read_exactly_or_not_at_all(spark: SparkSession, numbers: list[int], unit: EpochUnit) -> None:
    rows = spark_frame(spark, pa.table({"text": [str(number) for number in numbers]}))
    found = rows.select(F.unix_micros(parse_timestamp_or_number(F.col("text"), unit))).collect()
    exact = [number * MICROSECONDS[unit] for number in numbers]
    assert [row[0] for row in found] == [micros if abs(micros) < 2**63 else None for micros in exact]


def test_without_the_setting_a_number_is_no_timestamp(spark: SparkSession) -> None:
    rows = spark_frame(spark, pa.table({"text": list(NUMBERS["seconds"])}))
    found = [row[0] is not None for row in rows.select(parse_timestamp(F.col("text"))).collect()]
    assert found == [text.startswith("2025-") for text in NUMBERS["seconds"]]


DAY: Final = date(2025, 10, 1)
SECONDS: Final = 1_759_312_800
PARQUET_NUMBERS: Final[Mapping[str, tuple[pa.DataType, Sequence[Any]]]] = {
    "int32": (pa.int32(), [SECONDS, -1, None]),
    "int64": (pa.int64(), [SECONDS, 2**62, None]),
    "uint64": (pa.uint64(), [SECONDS, 2**64 - 1, None]),
    "double": (pa.float64(), [float(SECONDS), SECONDS + 0.5, float("nan")]),
    "float": (pa.float32(), [float(2**24), float(2**30), None]),
    "decimal": (pa.decimal128(38, 9), [Decimal(SECONDS), Decimal(SECONDS) + Decimal("0.000000001"), None]),
    "text": (pa.string(), [str(SECONDS), "2025-10-01 11:00:00", "soon"]),
    "nothing": (pa.null(), [None]),
}


def outcome(of_epoch: Any) -> str:
    """The time in UTC of a row that is accepted on the day of the batch, or the reason why it is not."""
    if of_epoch is None:
        return RejectReason.MISSING_TIMESTAMP
    if isinstance(of_epoch, str) and not of_epoch.isdecimal():
        return of_epoch if of_epoch.startswith("2025") else RejectReason.UNPARSABLE_TIMESTAMP
    try:
        exact = Fraction(of_epoch)
    except ValueError:
        return RejectReason.UNPARSABLE_TIMESTAMP
    if exact.denominator != 1 or not -(2**63) <= exact * 10**6 < 2**63:
        return RejectReason.UNPARSABLE_TIMESTAMP
    if isinstance(of_epoch, float) and exact == 2**30:
        return RejectReason.UNPARSABLE_TIMESTAMP
    moment = EPOCH + timedelta(seconds=int(exact))
    return str(moment) if moment.date() == DAY else RejectReason.TOO_LATE


def landed(
    spark: SparkSession, folder: Path, files: Mapping[str, pa.Table | str], input_format: InputFormat
) -> dict[str, str]:
    """The outcome of each user of a batch whose numbers are seconds: the time of the event, or a reason."""
    root, warehouse = InputRoot(str(folder / "input")), Warehouse(str(folder / "warehouse"))
    batch = Path(root.batch_folder(DAY))
    batch.mkdir(parents=True)
    for name, content in files.items():
        if isinstance(content, str):
            (batch / f"{name}.{input_format}").write_text(content)
        else:
            pq.write_table(content, batch / f"{name}.parquet")
    land_batch(spark, root, warehouse, DAY, input_format, datetime.now(UTC), SessionRules(), epoch_unit="seconds")
    accepted, rejected = (
        DeltaTable(table).to_pyarrow_table().to_pylist() for table in (warehouse.raw_events, warehouse.rejected_events)
    )
    return {
        **{row[USER]: str(row[TIMESTAMP].astimezone(UTC).replace(tzinfo=None)) for row in accepted},
        **{row[USER]: row[REASON] for row in rejected},
    }


def test_numbers_of_every_parquet_type_are_read_in_the_unit_of_the_setting(spark: SparkSession, tmp_path: Path) -> None:
    tables: dict[str, pa.Table | str] = {}
    expected: dict[str, str] = {}
    for name, (type_, values) in PARQUET_NUMBERS.items():
        users = [f"{name} {number}" for number in range(len(values))]
        expected |= {user: outcome(value) for user, value in zip(users, values, strict=True)}
        same = {EVENT: ["a"] * len(users), PRODUCT: ["idea"] * len(users)}
        tables[name] = pa.table({USER: users, **same, TIMESTAMP: pa.array(values, type_)})
    assert landed(spark, tmp_path, tables, "parquet") == expected


CELLS: Final[Mapping[str, str]] = {
    f"{SECONDS}": "2025-10-01 10:00:00",
    f"{SECONDS}.0": "2025-10-01 10:00:00",
    "1.7593128e9": "2025-10-01 10:00:00",
    f"{SECONDS}.25": RejectReason.UNPARSABLE_TIMESTAMP,
    f"{SECONDS}000": RejectReason.AFTER_BATCH_DAY,
    "1e30": RejectReason.UNPARSABLE_TIMESTAMP,
}


@pytest.mark.parametrize("input_format", ["csv", "json"])
def test_numbers_in_csv_and_json_are_read_in_the_unit_of_the_setting(
    spark: SparkSession, tmp_path: Path, input_format: InputFormat
) -> None:
    if input_format == "csv":
        content = f"{USER},{EVENT},{PRODUCT},{TIMESTAMP}\n" + "".join(f"{cell},a,idea,{cell}\n" for cell in CELLS)
    else:
        lines = [json.dumps({USER: cell, EVENT: "a", PRODUCT: "idea"})[:-1] for cell in CELLS]
        content = "".join(f'{line}, "{TIMESTAMP}": {cell}}}\n' for line, cell in zip(lines, CELLS, strict=True))
    assert landed(spark, tmp_path, {"cells": content}, input_format) == CELLS
