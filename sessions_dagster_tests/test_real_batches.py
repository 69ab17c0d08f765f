"""The two real batches, in both formats, give the sessions that were worked out by hand.

The files are not part of the repository. If they are in the folder beside it, they are landed; otherwise files with the
same rows are written.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from sessions_dagster.input.folders import InputRoot
from sessions_dagster.input.formats import InputFormat
from sessions_dagster.model.columns import SESSION_ID, SESSION_START
from sessions_dagster.pipeline.land import land_batch
from sessions_dagster_tests.builders import World

REAL: Final = Path(__file__).parents[2] / "shared" / "demo"
FORMATS: Final[Sequence[InputFormat]] = ("csv", "parquet")

HEADER: Final = ("user_id", "event_id", "timestamp", "product_code")
FIRST, SECOND = date(2025, 9, 20), date(2025, 9, 21)
BATCHES: Final = {
    FIRST: """
        u1,a,2025-09-18 09:00:00,pyc
        u1,z,2025-09-18 09:03:00,pyc
        u1,b,2025-09-18 09:04:59,pyc
        u1,y,2025-09-18 09:10:30,pyc
        u1,a,2025-09-18 10:00:00,pyc
        u1,x,2025-09-18 10:02:00,pyc
        u1,c,2025-09-18 10:07:01,pyc
        u2,b,2025-09-20 23:58:00,pyc
        u2,x,2025-09-20 00:02:00,pyc
        u2,c,2025-09-20 00:02:59,pyc
        u2,d,2025-09-20 00:10:00,pyc
        u3,x,2025-09-18 12:00:00,idea
        """,
    SECOND: """
        u1,a,2025-09-18 09:00:00,pyc
        u1,z,2025-09-18 09:03:00,pyc
        u1,b,2025-09-18 09:04:59,pyc
        u1,b,2025-09-18 09:08:59,pyc
        u1,y,2025-09-18 09:10:30,pyc
        u1,v,2025-09-18 09:10:50,pyc
        u1,a,2025-09-18 10:00:00,pyc
        u1,x,2025-09-18 10:02:00,pyc
        u1,c,2025-09-18 10:07:01,pyc
        u2,b,2025-09-19 23:58:00,pyc
        u2,x,2025-09-20 00:02:00,pyc
        u2,c,2025-09-20 00:02:59,pyc
        u2,a,2025-09-20 00:02:59,pyc
        u2,d,2025-09-20 00:10:00,pyc
        u3,a,2025-09-18 11:58:00,idea
        u3,x,2025-09-18 12:00:00,idea
        """,
}

# user, product, event, timestamp, and the start and end of the session
AFTER_FIRST: Final = """
    u1 pyc  a 2025-09-18T09:00:00 2025-09-18T09:00:00 2025-09-18T09:09:59
    u1 pyc  z 2025-09-18T09:03:00 2025-09-18T09:00:00 2025-09-18T09:09:59
    u1 pyc  b 2025-09-18T09:04:59 2025-09-18T09:00:00 2025-09-18T09:09:59
    u1 pyc  y 2025-09-18T09:10:30 -                   -
    u1 pyc  a 2025-09-18T10:00:00 2025-09-18T10:00:00 2025-09-18T10:05:00
    u1 pyc  x 2025-09-18T10:02:00 2025-09-18T10:00:00 2025-09-18T10:05:00
    u1 pyc  c 2025-09-18T10:07:01 2025-09-18T10:07:01 2025-09-18T10:12:01
    u2 pyc  x 2025-09-20T00:02:00 -                   -
    u2 pyc  c 2025-09-20T00:02:59 2025-09-20T00:02:59 2025-09-20T00:07:59
    u2 pyc  d 2025-09-20T00:10:00 -                   -
    u2 pyc  b 2025-09-20T23:58:00 2025-09-20T23:58:00 2025-09-21T00:03:00
    u3 idea x 2025-09-18T12:00:00 -                   -
    """
AFTER_SECOND: Final = """
    u1 pyc  a 2025-09-18T09:00:00 2025-09-18T09:00:00 2025-09-18T09:13:59
    u1 pyc  z 2025-09-18T09:03:00 2025-09-18T09:00:00 2025-09-18T09:13:59
    u1 pyc  b 2025-09-18T09:04:59 2025-09-18T09:00:00 2025-09-18T09:13:59
    u1 pyc  b 2025-09-18T09:08:59 2025-09-18T09:00:00 2025-09-18T09:13:59
    u1 pyc  y 2025-09-18T09:10:30 2025-09-18T09:00:00 2025-09-18T09:13:59
    u1 pyc  v 2025-09-18T09:10:50 2025-09-18T09:00:00 2025-09-18T09:13:59
    u1 pyc  a 2025-09-18T10:00:00 2025-09-18T10:00:00 2025-09-18T10:05:00
    u1 pyc  x 2025-09-18T10:02:00 2025-09-18T10:00:00 2025-09-18T10:05:00
    u1 pyc  c 2025-09-18T10:07:01 2025-09-18T10:07:01 2025-09-18T10:12:01
    u2 pyc  b 2025-09-19T23:58:00 2025-09-19T23:58:00 2025-09-20T00:07:59
    u2 pyc  x 2025-09-20T00:02:00 2025-09-19T23:58:00 2025-09-20T00:07:59
    u2 pyc  c 2025-09-20T00:02:59 2025-09-19T23:58:00 2025-09-20T00:07:59
    u2 pyc  a 2025-09-20T00:02:59 2025-09-19T23:58:00 2025-09-20T00:07:59
    u2 pyc  d 2025-09-20T00:10:00 -                   -
    u2 pyc  b 2025-09-20T23:58:00 2025-09-20T23:58:00 2025-09-21T00:03:00
    u3 idea a 2025-09-18T11:58:00 2025-09-18T11:58:00 2025-09-18T12:03:00
    u3 idea x 2025-09-18T12:00:00 2025-09-18T11:58:00 2025-09-18T12:03:00
    """


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.strip().splitlines()]


def rows_of(day: date) -> list[list[str]]:
    return [line.split(",") for line in lines(BATCHES[day])]


def write(input_format: InputFormat, day: date, root: Path) -> None:
    folder = root / f"date={day}"
    folder.mkdir(parents=True)
    rows = rows_of(day)
    if input_format == "csv":
        (folder / "sample.csv").write_text("\n".join(map(",".join, [HEADER, *rows])))
    else:
        columns = {name: pa.array(values) for name, values in zip(HEADER, zip(*rows, strict=True), strict=True)}
        pq.write_table(pa.table(columns), folder / "sample.parquet")


def read(input_format: InputFormat, folder: Path) -> list[list[str]]:
    """The rows of a batch, with the columns in the order of `HEADER`."""
    (file,) = folder.iterdir()
    if input_format == "csv":
        records = list(csv.DictReader(file.read_text().splitlines()))
    else:
        records = pq.read_table(file).to_pylist()
    return [[record[name] for name in HEADER] for record in records]


@dataclass(frozen=True)
class Sessionized:
    """The table after each of the batches, in the format above, and the session ids after both."""

    after_first: list[str]
    after_second: list[str]
    session_ids: set[tuple[str, str]]


@pytest.fixture(scope="module", params=FORMATS)
def sessionized(
    request: pytest.FixtureRequest, spark: SparkSession, tmp_path_factory: pytest.TempPathFactory
) -> Sessionized:
    input_format: InputFormat = request.param
    world = World(spark, tmp_path_factory.mktemp(input_format))
    real = REAL / f"events_{input_format}"
    if real.is_dir():
        world.input = InputRoot(str(real))
    else:
        for day in BATCHES:
            write(input_format, day, Path(world.input.root))
    found = []
    for day in BATCHES:
        land_batch(
            spark, world.input, world.warehouse, day, input_format, landed_at=datetime.now(UTC), rules=world.rules
        )
        world.materialize(day)
        found.append(table_of(world))
    table = spark.read.format("delta").load(world.warehouse.sessionized_events)
    starts = table.select(F.date_format(SESSION_START, "yyyy-MM-dd HH:mm:ss"), SESSION_ID).dropna().collect()
    return Sessionized(found[0], found[1], {(start, label) for start, label in starts})


def table_of(world: World) -> list[str]:
    def text(at: datetime | None) -> str:
        return at.isoformat() if at else "-"

    rows = world.table()
    return sorted(
        f"{row.user} {row.product} {row.event} {text(row.at)} {text(row.start)} {text(row.end)}" for row in rows
    )


def expected(text: str) -> list[str]:
    return sorted(" ".join(line.split()) for line in lines(text))


def test_both_batches_give_the_sessions_worked_out_by_hand(sessionized: Sessionized) -> None:
    assert sessionized.after_second == expected(AFTER_SECOND)
    assert len(sessionized.after_second) == 17


def test_the_first_batch_alone_gives_the_sessions_before_their_correction(sessionized: Sessionized) -> None:
    assert sessionized.after_first == expected(AFTER_FIRST)


def test_session_ids_name_user_product_and_start(sessionized: Sessionized) -> None:
    assert sessionized.session_ids == {
        ("2025-09-18 09:00:00", "u1#pyc#2025-09-18T09:00:00.000Z"),
        ("2025-09-18 10:00:00", "u1#pyc#2025-09-18T10:00:00.000Z"),
        ("2025-09-18 10:07:01", "u1#pyc#2025-09-18T10:07:01.000Z"),
        ("2025-09-19 23:58:00", "u2#pyc#2025-09-19T23:58:00.000Z"),
        ("2025-09-20 23:58:00", "u2#pyc#2025-09-20T23:58:00.000Z"),
        ("2025-09-18 11:58:00", "u3#idea#2025-09-18T11:58:00.000Z"),
    }


@pytest.mark.parametrize("input_format", FORMATS)
@pytest.mark.parametrize("day", BATCHES)
def test_the_rows_in_this_file_equal_the_rows_of_the_data_files(
    input_format: InputFormat, day: date, tmp_path: Path
) -> None:
    write(input_format, day, tmp_path)
    folders = [tmp_path / f"date={day}"]
    real = REAL / f"events_{input_format}"
    if real.is_dir():
        folders.append(real / f"date={day}")
    for folder in folders:
        assert read(input_format, folder) == rows_of(day)
