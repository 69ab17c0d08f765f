"""Folders with any name: two days materialized, checked and maintained where other tools encode the location."""

import gzip
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import dagster as dg
import pytest
from deltalake import DeltaTable
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from sessions_dagster.config import SessionsConfig
from sessions_dagster.defs import build_defs
from sessions_dagster.defs.checks import WINDOW_IS_COMPLETE
from sessions_dagster.defs.missing_batches import BATCHES_HAVE_LANDED
from sessions_dagster.input.folders import InputRoot
from sessions_dagster.input.formats import InputFormat
from sessions_dagster.pipeline.land import land_batch
from sessions_dagster.storage.maintenance import compact, vacuum
from sessions_dagster.storage.warehouse import Warehouse
from sessions_dagster_tests.builders import RULES, landed_events, sessionized_events, write_batch
from sessions_dagster_tests.oracle import Event, sessionize

SPELLED_OTHERWISE: Final = "My Data/100%/a#b/c+d/Ünï/[x]/{c,d}/10:00/*?^|"
"""Characters that URIs encode with percent signs, and those of patterns."""

NOT_FOR_TABLES: Final = "a%20b/c\\d"
"""Further characters that an input root can have."""

DAYS: Final = (date(2025, 9, 20), date(2025, 9, 21))


def event(user: str, event_id: str, at: str) -> Event:
    return Event(user, event_id, "idea", datetime.fromisoformat(at))


BATCHES: Final = {
    DAYS[0]: [event("ada", "a", "2025-09-20 10:00"), event("ada", "b", "2025-09-20 10:08")],
    DAYS[1]: [event("ada", "c", "2025-09-20 10:04"), event("bob", "a", "2025-09-21 11:00")],
}
"""The batches of two days. The second one merges two sessions of the first one."""


@dataclass(frozen=True)
class World:
    """The locations of batches and tables, and the results of the runs of the days."""

    spark: SparkSession
    warehouse: Warehouse
    runs: Sequence[dg.ExecuteInProcessResult]


@pytest.fixture(scope="module")
def world(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("names") / SPELLED_OTHERWISE
    config = SessionsConfig(
        start_date="2025-01-01",
        input_root=str(folder / NOT_FOR_TABLES / "input"),
        warehouse_root=str(folder / "warehouse"),
    )
    job = build_defs(config).resolve_implicit_global_asset_job_def()
    runs = []
    with dg.DagsterInstance.ephemeral() as instance:
        for day, events in BATCHES.items():
            write_batch(events, Path(InputRoot(config.input_root).batch_folder(day)))
            runs.append(job.execute_in_process(partition_key=str(day), instance=instance))
    return World(spark, Warehouse(config.warehouse_root), runs)


def test_the_runs_succeed_and_every_check_passes_except_those_of_missing_batches(world: World) -> None:
    assert [run.success for run in world.runs] == [True, True]
    evaluations = [each for run in world.runs for each in run.get_asset_check_evaluations()]
    assert {each.check_name for each in evaluations if not each.passed} == {WINDOW_IS_COMPLETE, BATCHES_HAVE_LANDED}


def test_the_table_has_the_events_of_the_batches(world: World) -> None:
    events = [event for batch in BATCHES.values() for event in batch]
    assert sorted(sessionized_events(world.warehouse.sessionized_events)) == sorted(sessionize(events))


def test_all_tables_are_in_the_folder_with_that_name(world: World) -> None:
    assert all(DeltaTable.is_deltatable(table) and Path(table).is_dir() for table in world.warehouse.tables)


def test_a_compaction_covers_the_touched_dates_and_keeps_all_rows(world: World) -> None:
    table = world.warehouse.sessionized_events
    before = sorted(sessionized_events(table))
    assert compact(world.spark, world.warehouse, table).days == DAYS
    assert sorted(sessionized_events(table)) == before


def test_a_vacuum_removes_the_files_of_a_killed_run(world: World) -> None:
    left = Path(world.warehouse.sessionized_events, "event_date=2025-09-20", "left.parquet")
    left.touch()
    os.utime(left, (0, 0))
    report = vacuum(world.spark, world.warehouse, world.warehouse.sessionized_events, dry_run=False)
    assert [Path(removed).name for removed in report.removed] == [left.name]
    assert not left.exists()


NAMES: Final = (
    *("events_2025-09-02T10:00:00Z", "a:b", ":", "file:", "s3a:", "hour=03", "a b", " a", "a ", "%20", "%", "%zz"),
    *("a%3Ab", "#", "?", "*", "[x]", "[x", "{a,b}", "{", "[x]:{y}*?", "+", "a=b&c", "~", "~a", "$a", "a;b", "a,b"),
    *("a@b", "!", "(a)", "'", '"', "`", "<>", "|", "^", "\\", "a\\b", "\n", "a\nb", "\t", "\r", "\x01", "\x7f"),
    *("-", "-a", "-rf *", "a..b", "\u00fc", "u\u0308", "\u6570\u636e", "\U0001f600", "\u202e", "\ufeff", "\u00a0"),
    *("\u2028", "x" * 240, "\u6570" * 80),
)
"""Parts of the names of files and folders."""

ANY_NAME: Final = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="/\0") | st.sampled_from(":%[]{}*?+#\\ \n"),
    min_size=1,
    max_size=40,
).filter(lambda name: not name.startswith(("_", ".")))

FILES: Final[Mapping[str, InputFormat]] = {".parquet": "parquet", ".csv": "csv", ".csv.gz": "csv", ".json": "json"}


def write_named(folder: Path, name: str, suffix: str) -> str:
    """Write a file with one event, whose user is the file itself, and with a row without a user. Returns its path."""
    file = folder / f"{name}{suffix}"
    good, bad = event(str(file), "a", "2025-09-20 10:00"), event("", "b", "2025-09-20 10:00")
    if suffix == ".parquet":
        write_batch([good, bad], folder)
        return str((folder / "events.parquet").rename(file))
    lines = ["user_id,event_id,product_code,timestamp"] if "csv" in suffix else []
    for each in (good, bad):
        values = [each.user, each.event, each.product, each.at.replace(tzinfo=UTC).isoformat()]
        quoted = [value.replace('"', '""') for value in values]
        record = dict(zip(("user_id", "event_id", "product_code", "timestamp"), values, strict=True))
        lines.append(",".join(f'"{value}"' for value in quoted) if "csv" in suffix else json.dumps(record))
    content = "\n".join(lines).encode()
    file.write_bytes(gzip.compress(content) if suffix.endswith(".gz") else content)
    return str(file)


def land_named(spark: SparkSession, folder: Path, names: Sequence[str], input_format: InputFormat) -> None:
    """Land a batch of files with some names, in the folder itself and in sub-folders of the same names."""
    root, warehouse = InputRoot(str(folder / "input")), Warehouse(str(folder / "warehouse"))
    batch = Path(root.batch_folder(DAYS[0]))
    suffixes = [suffix for suffix, each in FILES.items() if each == input_format]
    expected = []
    for name in names:
        (batch / name).mkdir(parents=True)
        expected += [write_named(below, name, suffix) for below in (batch, batch / name) for suffix in suffixes]
    land_batch(spark, root, warehouse, DAYS[0], input_format, landed_at=datetime.now(UTC), rules=RULES)
    rejected = DeltaTable(warehouse.rejected_events).to_pyarrow_table().column("source_file").to_pylist()
    assert sorted(rejected) == sorted(expected)
    if input_format == "parquet":
        assert sorted(event.user for event in landed_events(warehouse.raw_events)) == sorted(expected)
    else:
        assert len(landed_events(warehouse.raw_events)) == len(expected)


@pytest.mark.parametrize("input_format", ["parquet", "csv", "json"])
def test_files_and_sub_folders_with_any_name_land(
    spark: SparkSession, tmp_path: Path, input_format: InputFormat
) -> None:
    land_named(spark, tmp_path, NAMES, input_format)


@given(names=st.sets(ANY_NAME, min_size=20, max_size=20))
@settings(
    max_examples=1,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
def test_files_with_generated_names_land(spark: SparkSession, names: set[str]) -> None:
    with TemporaryDirectory() as folder:
        land_named(spark, Path(folder).resolve(), sorted(names), "parquet")
