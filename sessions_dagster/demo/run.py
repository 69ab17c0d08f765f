"""The run of the demo: batch after batch lands and is materialized, and what that did is read back and told."""

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

import dagster as dg
import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder
from rich.console import Console
from rich.markup import escape

from sessions_dagster.core.contract import BATCH_DATE, EVENT_IDENTITY, SessionRules
from sessions_dagster.definitions import defs
from sessions_dagster.demo import story
from sessions_dagster.demo.changes import Correction, Snapshot, corrections, row_changes
from sessions_dagster.demo.telling import corrections_table, rejected_line, rows_line, story_console
from sessions_dagster.lake.places import Warehouse
from sessions_dagster.orchestration.assets import raw_events, sessionized_events
from sessions_dagster.orchestration.resources import DEFAULT_SPARK_MASTER, SPARK_MASTER_VARIABLE
from sessions_dagster.runtime.spark import SparkSettings, recorded_spark_session

_RUN_CONFIG: Final = {"loggers": {"console": {"config": {"log_level": "WARNING"}}}}
"""Dagster's own account of a run is for the UI; the console is for the story."""


@dataclass(frozen=True)
class _Stage:
    """What every step of the demo needs."""

    console: Console
    instance: dg.DagsterInstance
    input_root: Path
    warehouse: Warehouse


def run_week(input_root: Path, warehouse_root: Path) -> None:
    """Land and materialize the week, and tell it.

    Args:
        input_root: The folder to put the batches in; what it holds is removed first.
        warehouse_root: The folder of the tables; what it holds is removed first.
    """
    for folder in (input_root, warehouse_root):
        shutil.rmtree(folder, ignore_errors=True)
    console = story_console()
    _introduce(console)
    master = os.environ.get(SPARK_MASTER_VARIABLE, DEFAULT_SPARK_MASTER)
    console.print(
        "Starting Spark with Delta: about 15 seconds, and longer the first time ever, to fetch Delta's JARs ..."
    )
    settings = SparkSettings(master=master, shuffle_partitions=2)
    # One session for all runs: the resource of the assets uses the one that is there.
    with dg.DagsterInstance.get() as instance, recorded_spark_session(settings):
        stage = _Stage(console, instance, input_root, Warehouse(str(warehouse_root)))
        held = Snapshot({})
        for day, rows in story.batches().items():
            console.rule(f"[bold]batch {day.isoformat()}, {day:%A}", align="left")
            held = _deliver(stage, day, rows, held)
        console.rule(f"[bold]batch {story.CORRECTED.isoformat()} once more, corrected by its sender", align="left")
        held = _deliver(stage, story.CORRECTED, story.corrected_batch(), held)
        _conclude(stage, held)


def _deliver(stage: _Stage, day: date, rows: Sequence[story.Delivery], held: Snapshot) -> Snapshot:
    """Let a batch land, tell what that did to the rows held before, and give the rows held now."""
    console, warehouse = stage.console, stage.warehouse
    story.write_batch(stage.input_root, day, rows)
    console.print(f"{len(rows)} rows land, and Dagster materializes raw_events and sessionized_events ...")
    began = time.monotonic()
    result = _materialize(stage.instance, day)
    console.print(f"One run, {time.monotonic() - began:.1f} s: {_checks_line(result)}.")
    now = Snapshot.of_rows(_rows(warehouse.sessionized_events))
    _tell_landing(console, warehouse, day)
    console.print(f"[dim]sessionized_events[/]  {rows_line(row_changes(held, now))}")
    _tell_sessions(console, corrections(held, now))
    return now


def _materialize(instance: dg.DagsterInstance, day: date) -> dg.ExecuteInProcessResult:
    return defs.resolve_implicit_global_asset_job_def().execute_in_process(
        partition_key=day.isoformat(),
        asset_selection=[raw_events.key, sessionized_events.key],
        instance=instance,
        run_config=_RUN_CONFIG,
    )


def _checks_line(result: dg.ExecuteInProcessResult) -> str:
    evaluations = result.get_asset_check_evaluations()
    failed = sorted({evaluation.check_name for evaluation in evaluations if not evaluation.passed})
    passed = f"{sum(evaluation.passed for evaluation in evaluations)} of {len(evaluations)} checks passed"
    return f"{passed}, not {', '.join(failed)}" if failed else passed


def _tell_landing(console: Console, warehouse: Warehouse, day: date) -> None:
    accepted = _slice(warehouse.raw_events, day)
    twice = len(accepted) - len({tuple(row[name] for name in EVENT_IDENTITY) for row in accepted})
    told = f"{len(accepted)} accepted" + (f", {twice} of them twice" if twice else "")
    console.print(f"[dim]raw_events[/]          {told}")
    for row in _slice(warehouse.rejected_events, day):
        console.print(f"[dim]rejected_events[/]     {escape(rejected_line(row))}")


def _tell_sessions(console: Console, changed: Sequence[Correction]) -> None:
    told = [correction for correction in changed if correction.before or correction.user_id in story.CAST]
    others = [correction for correction in changed if correction not in told]
    console.print()
    console.print(corrections_table(told, SessionRules().user_action_ids))
    if others:
        names = ", ".join(sorted({correction.user_id for correction in others}))
        console.print(f"and {sum(len(correction.after) for correction in others)} new sessions of {names}")
    console.print()


def _introduce(console: Console) -> None:
    console.print(
        f"A week of batches lands, {story.DAYS[0].isoformat()} to {story.DAYS[-1].isoformat()}. The people to watch:"
    )
    for name, fate in story.CAST.items():
        console.print(f"  [bold]{name:7}[/] {fate}")
    console.print()


def _conclude(stage: _Stage, held: Snapshot) -> None:
    console = stage.console
    console.rule(align="left")
    console.print(f"sessionized_events now holds {len(held.rows)} events and {len(held.sessions)} sessions.")
    console.print(f"It is in {stage.warehouse.root}, beside raw_events and rejected_events.")
    console.print(
        "What next: [bold]make dev[/] opens Dagster's UI on the same tables, with these runs and their checks."
    )
    console.print(
        "[dim]Where Java has not yet kept what it has loaded, it does now: ten seconds, for faster starts of Spark.[/]"
    )


def _slice(table_uri: str, day: date) -> list[dict[str, Any]]:
    return _rows(table_uri, f"{BATCH_DATE} = DATE '{day.isoformat()}'")


def _rows(table_uri: str, where: str = "true") -> list[dict[str, Any]]:
    """Rows of a table, read by delta-rs: it is a second opinion, and it needs no Spark job."""
    found = QueryBuilder().register("t", DeltaTable(table_uri)).execute(f"SELECT * FROM t WHERE {where}").read_all()
    rows: list[dict[str, Any]] = pa.table(found).to_pylist()
    return rows
