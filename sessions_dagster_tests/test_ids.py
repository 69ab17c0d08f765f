"""Ids that are delivered as numbers: whole numbers are written alike, and others are rejected.

Carried columns follow the same rule. Python's `decimal` and `json` say what is right.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from math import isfinite
from pathlib import Path
from random import Random
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from sessions_dagster.input.folders import InputRoot
from sessions_dagster.input.formats import InputFormat
from sessions_dagster.model.columns import EVENT, PRODUCT, REASON, RECORD, TIMESTAMP, USER
from sessions_dagster.model.rejects import RejectReason
from sessions_dagster.model.rules import SessionRules
from sessions_dagster.model.schemas import NO_CARRIED_COLUMNS
from sessions_dagster.pipeline.land import land_batch
from sessions_dagster.storage.warehouse import Warehouse

DAY: Final = date(2025, 10, 1)
AT: Final = "2025-10-01 10:00:00"
NUMBER: Final = "number"
"""An own column with the number of the row."""

few = settings(
    max_examples=2,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)

Row = dict[str, Any]


class Landed:
    """What became of a batch."""

    def __init__(
        self,
        spark: SparkSession,
        folder: Path,
        files: Sequence[pa.Table | str],
        input_format: InputFormat,
        carried_columns: Mapping[str, str] = NO_CARRIED_COLUMNS,
    ) -> None:
        root, warehouse = InputRoot(str(folder / "input")), Warehouse(str(folder / "warehouse"))
        batch = Path(root.batch_folder(DAY))
        batch.mkdir(parents=True)
        for number, content in enumerate(files):
            if isinstance(content, str):
                (batch / f"{number}.{input_format}").write_text(content)
            else:
                pq.write_table(content, batch / f"{number}.parquet")
        land_batch(
            spark,
            root,
            warehouse,
            DAY,
            input_format,
            datetime.now(UTC),
            SessionRules(),
            carried_columns=carried_columns,
        )
        self.accepted: list[Row] = DeltaTable(warehouse.raw_events).to_pyarrow_table().to_pylist()
        self.rejected: list[Row] = DeltaTable(warehouse.rejected_events).to_pyarrow_table().to_pylist()


def parquet(name: str, values: pa.Array, **others: pa.Array) -> pa.Table:
    """A batch's table in which one column has some values. The own column `number` numbers the rows."""
    count = len(values)
    columns = {USER: ["ada"] * count, EVENT: ["a"] * count, PRODUCT: ["idea"] * count, TIMESTAMP: [AT] * count}
    return pa.table({**columns, name: values, NUMBER: [str(number) for number in range(count)], **others})


def whole(number: Any, limit: int | None = None) -> str | None:
    """The digits of a whole number, or None."""
    if not isfinite(number):
        return None
    exact = Fraction(number)
    return str(exact.numerator) if exact.denominator == 1 and (limit is None or abs(exact) <= limit) else None


def random_number(random: Random) -> Fraction:
    """A whole number of any size up to 2^70, or a number with a fraction that every type can hold."""
    size = random.randrange(2 ** random.randrange(1, 70))
    number = Fraction(random.choice([1, -1]) * size, random.choice([1, 1, 1, 2, 4]))
    return random.choice([number, Fraction(2**53 + random.randrange(-2, 3)), Fraction(2**24 + random.randrange(-2, 3))])


# --- Parquet ---------------------------------------------------------------------------------------------------------

INTEGERS: Final[Mapping[pa.DataType, Sequence[Any]]] = {
    pa.int8(): [-128, 0, 5, 127],
    pa.uint8(): [5, 255],
    pa.int16(): [5, -32768],
    pa.uint16(): [5, 65535],
    pa.int32(): [5, 12345678, -(2**31)],
    pa.uint32(): [5, 12345678, 2**32 - 1],
    pa.int64(): [5, 12345678, 2**53 + 1, -(2**63), 2**63 - 1],
    pa.uint64(): [5, 12345678, 2**64 - 1],
    pa.decimal128(38, 0): [Decimal(5), Decimal(10**38 - 1), Decimal(-(10**38) + 1)],
    pa.decimal128(38, 9): [Decimal(5), Decimal(12345678), Decimal(10**29 - 1), Decimal("1.5"), Decimal("0.000000001")],
    pa.decimal128(38, 38): [Decimal(0), Decimal("0.5")],
    pa.decimal128(9, 2): [Decimal(1234567), Decimal("-5.00"), Decimal("0.01")],
}
FLOATS: Final = [5.0, 12345678.0, 0.0, -0.0, -5.0, 1.5, 1e15, 2.0**53, -(2.0**53), 2.0**53 + 2, 1e300, 5e-324]
FLOATS_32: Final = [5.0, -0.0, 2.0**24, 2.0**24 + 2, -(2.0**24), 0.5, 2.0**100]
NO_NUMBERS: Final = [float("nan"), float("inf"), float("-inf")]
FROM_PARQUET: Final[Sequence[tuple[pa.Array, Sequence[str | None]]]] = [
    *[(pa.array(values, type_), [whole(value) for value in values]) for type_, values in INTEGERS.items()],
    (pa.array([*FLOATS, *NO_NUMBERS]), [whole(value, 2**53) for value in (*FLOATS, *NO_NUMBERS)]),
    (
        pa.array([*FLOATS_32, *NO_NUMBERS], pa.float32()),
        [whole(value, 2**24) for value in (*FLOATS_32, *NO_NUMBERS)],
    ),
    (pa.array(text := ["5", "5.0", "1e3", "NaN", "-0", "1.2345678E7"]), text),
]
"""Columns, and what is written for each value; None if it cannot be an id."""


def check(landed: Landed, name: str, expected: Sequence[str | None]) -> None:
    """Check that a column of the accepted rows has the expected values, and that as many are rejected as expected."""
    assert sorted(row[name] for row in landed.accepted) == sorted(each for each in expected if each is not None)
    assert [row[REASON] for row in landed.rejected] == [RejectReason.UNUSABLE_ID] * expected.count(None)


@pytest.mark.parametrize("name", [USER, EVENT, PRODUCT])
def test_a_whole_number_is_the_same_id_in_every_type_of_parquet(spark: SparkSession, tmp_path: Path, name: str) -> None:
    columns = FROM_PARQUET if name == USER else [FROM_PARQUET[number] for number in (6, 9, 12)]
    landed = Landed(spark, tmp_path, [parquet(name, values) for values, _ in columns], "parquet")
    check(landed, name, [text for _, texts in columns for text in texts])


@few
@given(seed=st.integers(0, 2**31))
def test_generated_numbers_are_written_as_python_writes_them(
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    random = Random(seed)
    numbers = [random_number(random) for _ in range(200)]
    integers = [int(number) for number in numbers if number.denominator == 1 and abs(number) < 2**63]
    decimals = [Decimal(number.numerator) / number.denominator for number in numbers]
    singles = [value.as_py() for value in pa.array(map(float, numbers)).cast(pa.float32())]
    columns = [pa.array(integers), pa.array(decimals, pa.decimal128(38, 9)), pa.array(map(float, numbers))]
    tables = [parquet(USER, values) for values in (*columns, pa.array(singles, pa.float32()))]
    expected = [
        *map(str, integers),
        *map(whole, decimals),
        *[whole(float(number), 2**53) for number in numbers],
        *[whole(single, 2**24) for single in singles],
    ]
    check(Landed(spark, tmp_path_factory.mktemp("numbers"), tables, "parquet"), USER, expected)


def test_a_missing_id_is_missing_in_every_type(spark: SparkSession, tmp_path: Path) -> None:
    types = [pa.int64(), pa.float64(), pa.decimal128(38, 9), pa.null()]
    landed = Landed(spark, tmp_path, [parquet(USER, pa.nulls(1, type_)) for type_ in types], "parquet")
    assert [row[REASON] for row in landed.rejected] == [RejectReason.EMPTY_USER_ID] * len(types)


def test_an_unusable_id_is_quarantined_as_it_was_delivered(spark: SparkSession, tmp_path: Path) -> None:
    landed = Landed(spark, tmp_path, [parquet(USER, pa.array([1.5, float("nan")]))], "parquet")
    assert sorted((row[USER], json.loads(row[RECORD])[NUMBER]) for row in landed.rejected) == [
        ("1.5", "0"),
        ("NaN", "1"),
    ]


# --- JSON ------------------------------------------------------------------------------------------------------------

IN_JSON: Final[Mapping[str, str | None]] = {
    "12345678": "12345678",
    "12345678.0": "12345678",
    "1.2345678e7": "12345678",
    "1.2345678E+7": "12345678",
    "1e3": "1000",
    "10000e-1": "1000",
    "-1E3": "-1000",
    "0": "0",
    "-0": "0",
    "-0.0": "0",
    "0e5": "0",
    "123456789012345678901234567890": "123456789012345678901234567890",
    "9" * 60: "9" * 60,
    "9007199254740993": "9007199254740993",
    "9007199254740992.0": "9007199254740992",
    "9007199254740993.0": None,
    "9007199254740991.5": None,
    "1e16": None,
    "1e400": None,
    "1.5": None,
    "1e-3": None,
    "NaN": None,
    "-Infinity": None,
    "true": None,
    "false": None,
    "[1]": None,
    '{"id": 1}': None,
    '"1e3"': "1e3",
    '"12345678.0"': "12345678.0",
    '"1.2345678E7"': "1.2345678E7",
    '"\\u0031e3"': "1e3",
    '"NaN"': "NaN",
    '"true"': "true",
    '"{"': "{",
    '"-0"': "-0",
}


def json_line(user: str, **others: str) -> str:
    fields = {
        "nested": '{"user_id": "1e3"}',
        USER: user,
        EVENT: '"a"',
        PRODUCT: '"idea"',
        TIMESTAMP: f'"{AT}"',
        **others,
    }
    return "{" + ", ".join(f'"{name}": {value}' for name, value in fields.items()) + "}\n"


def test_a_whole_number_is_the_same_id_in_every_spelling_of_json(spark: SparkSession, tmp_path: Path) -> None:
    landed = Landed(spark, tmp_path, ["".join(map(json_line, IN_JSON))], "json")
    check(landed, USER, list(IN_JSON.values()))


def in_json(random: Random, number: Fraction) -> tuple[str, str | None]:
    """A number in a spelling of JSON, and the id that it is."""
    exact = Decimal(number.numerator) / number.denominator
    if random.random() < 0.2:
        return f'"{exact}"', str(exact)
    if number.denominator == 1 and random.random() < 0.4:
        return str(number.numerator), str(number.numerator)
    spelled = random.choice([f"{exact:.3f}", repr(float(number)), f"{float(number):.17e}", f"{float(number):.20E}"])
    # What is exact in the text has to be so as a float, too.
    return spelled, whole(Decimal(spelled), 2**53)


@few
@given(seed=st.integers(0, 2**31))
def test_generated_spellings_of_json_are_read_as_python_reads_them(
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    random = Random(seed)
    spelled = [in_json(random, random_number(random)) for _ in range(300)]
    landed = Landed(spark, tmp_path_factory.mktemp("json"), ["".join(json_line(text) for text, _ in spelled)], "json")
    check(landed, USER, [expected for _, expected in spelled])


# --- CSV -------------------------------------------------------------------------------------------------------------


def test_a_csv_cell_is_text_and_stays_as_it_is(spark: SparkSession, tmp_path: Path) -> None:
    cells = ["12345678", "12345678.0", "1.2345678E7", "1e3", "-0", "NaN", "true"]
    lines = "".join(f"{cell},a,idea,{AT}\n" for cell in cells)
    landed = Landed(spark, tmp_path, [f"{USER},{EVENT},{PRODUCT},{TIMESTAMP}\n{lines}"], "csv")
    check(landed, USER, cells)


# --- carried columns -------------------------------------------------------------------------------------------------

CARRIED: Final = {"build": "int", "size": "bigint", "label": "string", "score": "double", NUMBER: "string"}
VALUES: Final = ["17", "17.0", "17.9", "-0.0", "12345678.0", "3000000000.0", "1e300"]
AS_FLOATS: Final = [
    (17, 17, "17", 17.0),
    (17, 17, "17", 17.0),
    (None, None, "17.9", 17.9),
    (0, 0, "0", -0.0),
    (12345678, 12345678, "12345678", 12345678.0),
    (None, 3000000000, "3000000000", 3000000000.0),
    (None, None, "1.0E300", 1e300),
]
"""What becomes of the values as `build`, `size`, `label` and `score` if they are numbers."""


def carried(landed: Landed) -> list[tuple[Any, ...]]:
    rows = sorted(landed.accepted, key=lambda row: int(row[NUMBER]))
    return [(row["build"], row["size"], row["label"], row["score"]) for row in rows]


def test_numbers_are_carried_alike_from_parquet_and_json(spark: SparkSession, tmp_path: Path) -> None:
    floats = pa.array(map(float, VALUES))
    table = parquet("label", floats, build=floats, size=floats, score=floats)
    assert carried(Landed(spark, tmp_path / "parquet", [table], "parquet", CARRIED)) == AS_FLOATS
    lines = [
        json_line('"ada"', build=value, size=value, label=value, score=value, number=str(number))
        for number, value in enumerate(VALUES)
    ]
    assert carried(Landed(spark, tmp_path / "json", ["".join(lines)], "json", CARRIED)) == AS_FLOATS


def test_a_whole_number_in_text_is_carried_alike_from_all_formats(spark: SparkSession, tmp_path: Path) -> None:
    texts = ["17", "17.0", " 17.00 ", "17.9", "1e3", "17.0.0", ""]
    expected = [17, 17, 17, None, None, None, None]
    header = f"{USER},{EVENT},{PRODUCT},{TIMESTAMP},build,{NUMBER}\n"
    files: Mapping[InputFormat, pa.Table | str] = {
        "parquet": parquet("build", pa.array(texts)),
        "json": "".join(
            json_line('"ada"', build=json.dumps(text), number=str(number)) for number, text in enumerate(texts)
        ),
        "csv": header + "".join(f"ada,a,idea,{AT},{text},{number}\n" for number, text in enumerate(texts)),
    }
    for input_format, content in files.items():
        landed = Landed(spark, tmp_path / input_format, [content], input_format, {"build": "int", NUMBER: "string"})
        rows = sorted(landed.accepted, key=lambda row: int(row[NUMBER]))
        assert [row["build"] for row in rows] == expected
