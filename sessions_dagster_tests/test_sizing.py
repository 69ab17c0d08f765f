"""The sizes: how they follow from cores and rows, how they are configured, and their complete documentation."""

from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Final

import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from sessions_dagster.errors import SizeError
from sessions_dagster.pipeline.land import land_batch
from sessions_dagster.spark.tuning import Sizes, properties_for, spark_property
from sessions_dagster_tests.builders import World, write_batch
from sessions_dagster_tests.oracle import Event

DAY = date(2025, 9, 20)
OPERATIONS: Final = Path(__file__).parents[1] / "docs" / "operations.md"


@pytest.mark.parametrize(
    ("cores", "is_local", "expected"),
    [
        pytest.param(1, True, ["2", "4", "2", "2"], id="one core"),
        pytest.param(2, True, ["4", "8", "4", "2"], id="a small machine"),
        pytest.param(16, True, ["32", "64", "32", "8"], id="a laptop"),
        pytest.param(2, False, ["200", "200", "200", "8"], id="a cluster whose executors are yet to come"),
        pytest.param(16, False, ["200", "200", "200", "16"], id="a small cluster"),
        pytest.param(400, False, ["800", "1600", "800", "50"], id="a cluster"),
    ],
)
def test_the_numbers_of_partitions_follow_the_cores(cores: int, is_local: bool, expected: list[str]) -> None:
    assert list(properties_for(cores, is_local=is_local).values()) == expected


@pytest.mark.parametrize("attribute", Sizes.properties())
def test_each_size_can_be_configured(spark: SparkSession, attribute: str) -> None:
    assert Sizes.of(spark) == Sizes()
    with spark_property(spark, Sizes.properties()[attribute], "1234567"):
        assert Sizes.of(spark) == Sizes(**{attribute: 1_234_567})


@pytest.mark.parametrize("text", ["0", "-1", "1e6", "1.5", "many", ""])
def test_an_invalid_size_is_named(spark: SparkSession, text: str) -> None:
    with (
        spark_property(spark, "spark.sessions.broadcastRows", text),
        pytest.raises(SizeError, match=rf"spark\.sessions\.broadcastRows is \'{text}\'.* whole number greater than 0"),
    ):
        Sizes.of(spark)


def test_an_invalid_size_stops_a_landing_before_it_writes(spark: SparkSession, tmp_path: Path) -> None:
    world = World(spark, tmp_path)
    with spark_property(spark, "spark.sessions.rowsPerFile", "few"), pytest.raises(SizeError):
        world.land(DAY, [noon_of("ada")])
    assert not DeltaTable.is_deltatable(world.warehouse.raw_events)


@pytest.mark.parametrize(
    ("size", "accepted", "rejected"),
    [("spark.sessions.bytesPerFile", 2, 1), ("spark.sessions.rowsPerFile", 1, 2)],
)
def test_a_landing_writes_files_of_the_configured_size(
    spark: SparkSession, tmp_path: Path, size: str, accepted: int, rejected: int
) -> None:
    world = World(spark, tmp_path)
    for name in ("one.parquet", "other.parquet"):
        too_early = [noon_of(f"user {number}", DAY + timedelta(days=1)) for number in range(4)]
        write_batch([noon_of("ada"), *too_early], tmp_path)
        file = Path(world.input.batch_folder(DAY), name)
        file.parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "events.parquet").rename(file)
    with spark_property(spark, size, "1"):
        land_batch(spark, world.input, world.warehouse, DAY, "parquet", landed_at=datetime.now(UTC), rules=world.rules)
    assert files_of(world.warehouse.raw_events) == accepted
    assert files_of(world.warehouse.rejected_events) == rejected


def test_the_documentation_has_every_property_with_its_default() -> None:
    of_cores = [properties_for(cores, is_local=cores < 400) for cores in (2, 16, 400)]
    sizes = {name: str(getattr(Sizes(), attribute)) for attribute, name in Sizes.properties().items()}
    expected = {name: [of[name] for of in of_cores] for name in of_cores[0]} | {name: [sizes[name]] for name in sizes}
    assert documented() == expected


def documented() -> dict[str, list[str]]:
    """The numbers beside each property in the section of sizes: the cells that contain nothing but a number."""
    section = OPERATIONS.read_text().split("\n## Sizes\n")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line.startswith("| `")]
    numbers = {name.strip("`"): [cell.replace(",", "") for cell in cells] for name, *cells in rows}
    return {name: [cell for cell in cells if cell.isdecimal()] for name, cells in numbers.items()}


def noon_of(user: str, day: date = DAY) -> Event:
    return Event(user, "a", "idea", datetime.combine(day, time(12)))


def files_of(table_uri: str) -> int:
    return len(DeltaTable(table_uri).file_uris())
