"""Tables that one version of Spark wrote are continued by another, and by the first one again.

    python -m sessions_dagster_tests.handover PYTHON PYTHON ...

Each argument is the interpreter of an environment with a Spark of its own. For each two of them, in both orders, they
take turns on the tables of a new folder. In a turn, batches land that are new, or have more or fewer events than
before; they are applied, `sessions` is refreshed, the files are compacted, and all is compared with the oracle.
"""

import subprocess
import sys
from datetime import UTC, timedelta
from itertools import permutations
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Final

import pyarrow.parquet as pq
import pyspark

from sessions_dagster.model.columns import EVENT, PRODUCT, TIMESTAMP, USER
from sessions_dagster.spark.session import SparkSettings, spark_session
from sessions_dagster.storage.maintenance import compact
from sessions_dagster_tests.builders import World, sessions_of
from sessions_dagster_tests.histories import DAYS, FIRST_DAY, LATENESS, deliveries
from sessions_dagster_tests.oracle import Event, sessionize

TURNS: Final = 3
HISTORIES: Final = 150
BATCH_DAYS: Final = [FIRST_DAY + timedelta(days=offset) for offset in range(DAYS + LATENESS)]


def take_turn(folder: Path, number: int) -> None:
    """Land, apply, refresh and compact, with the Spark of this process, on the tables of a folder."""
    histories = [delivery for seed in range(HISTORIES) for delivery in deliveries(seed)]
    random = Random(number)
    with spark_session(SparkSettings(master="local[2]", shuffle_partitions=2)) as spark:
        world = World(spark, folder)
        for day in BATCH_DAYS[: 6 + 4 * number]:
            share = random.choice((0.0, 0.5, 1.0))
            events = [each.event for each in histories if each.batch == day and (each.firm or random.random() < share)]
            world.land(day, events)
        world.materialize(BATCH_DAYS[0], BATCH_DAYS[-1])
        world.refresh()
        for table in filter(world.warehouse.open, world.warehouse.tables):
            compact(spark, world.warehouse, table)
        expected = sessionize(_delivered(folder / "input"))
        found = world.table()
        assert set(found) == expected, "the table is not that of one pass over all batches"
        assert len(found) == len(expected), "an event is in the table twice"
        assert set(world.sessions()) == sessions_of(expected), "sessions does not follow"


def _delivered(folder: Path) -> list[Event]:
    """The events of all batches that are in the folder now."""
    rows = [row for file in sorted(folder.glob("*/*.parquet")) for row in pq.ParquetFile(file).read().to_pylist()]
    return [
        Event(row[USER], row[EVENT], row[PRODUCT], row[TIMESTAMP].astimezone(UTC).replace(tzinfo=None)) for row in rows
    ]


def main(interpreters: list[str]) -> int:
    """Let each two interpreters take turns.

    Returns:
        The exit code.
    """
    for first, second in permutations(interpreters, 2):
        with TemporaryDirectory() as folder:
            for number in range(TURNS):
                command = [(first, second)[number % 2], "-m", __spec__.name, "--turn", folder, str(number)]
                done = subprocess.run(command, check=False, capture_output=True, text=True)
                if done.returncode:
                    print(f"{first}, then {second}: turn {number} failed\n{done.stderr}")
                    return 1
                print(done.stdout, end="", flush=True)
        print(f"passed: {first}, then {second}, then {first}", flush=True)
    print(f"{len(list(permutations(interpreters, 2)))} passed, 0 failed")
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--turn"]:
        take_turn(Path(sys.argv[2]), int(sys.argv[3]))
        print(f"Spark {pyspark.__version__} on Python {sys.version.split()[0]}")
    else:
        sys.exit(main(sys.argv[1:]))
