"""Several writers that append to one table on S3 at the same moment: no commit is lost."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, QueryBuilder, write_deltalake

from sessions_dagster.storage.filesystem import delta_rs_options


def race(table: str, meeting: Path, engines: Sequence[str], rounds: int) -> None:
    """Let writers append a row each in some rounds."""
    program = [sys.executable, "-m", "sessions_dagster_tests.s3.writer"]
    size = [str(meeting), str(len(engines)), str(rounds)]
    writers = [subprocess.Popen([*program, engine, table, str(number), *size]) for number, engine in enumerate(engines)]
    assert [writer.wait() for writer in writers] == [0] * len(engines)


def rows(table: DeltaTable) -> list[str]:
    found = QueryBuilder().register("t", table).execute("SELECT row FROM t ORDER BY row").read_all()
    values: list[str] = pa.table(found)["row"].to_pylist()
    return values


@pytest.mark.parametrize(
    ("engines", "rounds"),
    [
        pytest.param(["spark"] * 4, 20, id="four drivers"),
        pytest.param(["spark", "spark", "delta-rs", "delta-rs"], 20, id="drivers and delta-rs"),
    ],
)
def test_no_commit_of_a_race_is_lost(bucket: str, tmp_path: Path, engines: Sequence[str], rounds: int) -> None:
    table = f"{bucket}/race"
    write_deltalake(table, pa.table({"row": ["first"]}), storage_options=delta_rs_options(table))
    race(table, tmp_path, engines, rounds)
    raced = DeltaTable(table, storage_options=delta_rs_options(table))
    everybody = [f"{writer}-{number}" for writer in range(len(engines)) for number in range(rounds)]
    assert rows(raced) == sorted(["first", *everybody])
    assert raced.version() == len(everybody)
