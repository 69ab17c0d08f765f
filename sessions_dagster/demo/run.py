"""The run of the demo: each batch lands and is materialized, then the resulting changes are read back and shown."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any, Final

import dagster as dg
import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder
from rich.console import Console
from rich.markup import escape

from sessions_dagster.config import SessionsConfig
from sessions_dagster.defs import build_defs
from sessions_dagster.defs.missing_batches import BATCHES_HAVE_LANDED
from sessions_dagster.demo import story
from sessions_dagster.demo.changes import Correction, Snapshot, corrections, row_changes
from sessions_dagster.demo.report import checks_line, corrections_table, rejected_line, report_console, rows_line
from sessions_dagster.model.columns import BATCH_DATE, EVENT_IDENTITY
from sessions_dagster.model.rules import SessionRules
from sessions_dagster.spark.progress import watched_on_terminal
from sessions_dagster.spark.session import spark_session
from sessions_dagster.storage.warehouse import Warehouse

_RUN_CONFIG: Final = {"loggers": {"console": {"config": {"log_level": "WARNING"}}}}
"""Dagster's own log of a run is shown in the UI; the console has the report of the demo."""


@dataclass(frozen=True)
class _Stage:
    """The objects that every step of the demo uses."""

    console: Console
    instance: dg.DagsterInstance
    input_root: Path
    warehouse: Warehouse
    defs: dg.Definitions


def run_week(config: SessionsConfig) -> None:
    """Land and materialize the week, and report what each run changed.

    Args:
        config: The settings. The folders of its input and its tables are removed first.
    """
    for folder in (config.input_root, config.warehouse_root):
        shutil.rmtree(folder, ignore_errors=True)
    console = report_console()
    _introduce(console)
    console.print(
        "Starting Spark with Delta: about 15 seconds, and longer the first time ever, to fetch Delta's JARs ..."
    )
    settings = replace(config.spark, shuffle_partitions=2)
    # One Spark session for all runs: the resource of the assets reuses a running session.
    with dg.DagsterInstance.get() as instance, spark_session(settings):
        stage = _Stage(console, instance, Path(config.input_root), Warehouse(config.warehouse_root), build_defs(config))
        snapshot = Snapshot({})
        for day, rows in story.batches().items():
            console.rule(f"[bold]batch {day.isoformat()}, {day:%A}", align="left")
            snapshot = _land(stage, day, rows, snapshot)
        console.rule(f"[bold]batch {story.CORRECTED.isoformat()} once more, corrected by its sender", align="left")
        snapshot = _land(stage, story.CORRECTED, story.corrected_batch(), snapshot)
        _conclude(stage, snapshot)


def _land(stage: _Stage, day: date, rows: Sequence[story.Delivery], before: Snapshot) -> Snapshot:
    """Land and materialize a batch, show the changes since `before`, and return the new snapshot."""
    console, warehouse = stage.console, stage.warehouse
    story.write_batch(stage.input_root, day, rows)
    console.print(f"{len(rows)} rows land, and Dagster materializes raw_events and sessionized_events ...")
    began = time.monotonic()
    with watched_on_terminal(f"materializing {day}"):
        result = _materialize(stage, day)
    console.print(
        f"One run, {time.monotonic() - began:.1f} s: {checks_line(result.get_asset_check_evaluations(), day)}."
    )
    after = Snapshot.of_rows(_rows(warehouse.sessionized_events))
    _show_landing(console, warehouse, day)
    console.print(f"[dim]sessionized_events[/]  {rows_line(row_changes(before, after))}")
    _show_sessions(console, corrections(before, after))
    return after


def _materialize(stage: _Stage, day: date) -> dg.ExecuteInProcessResult:
    return stage.defs.resolve_implicit_global_asset_job_def().execute_in_process(
        partition_key=day.isoformat(),
        asset_selection=[dg.AssetKey("raw_events"), dg.AssetKey("sessionized_events")],
        instance=stage.instance,
        run_config=_RUN_CONFIG,
    )


def _show_landing(console: Console, warehouse: Warehouse, day: date) -> None:
    accepted = _slice(warehouse.raw_events, day)
    twice = len(accepted) - len({tuple(row[name] for name in EVENT_IDENTITY) for row in accepted})
    summary = f"{len(accepted)} accepted" + (f", {twice} of them twice" if twice else "")
    console.print(f"[dim]raw_events[/]          {summary}")
    for row in _slice(warehouse.rejected_events, day):
        console.print(f"[dim]rejected_events[/]     {escape(rejected_line(row))}")


def _show_sessions(console: Console, changed: Sequence[Correction]) -> None:
    shown = [correction for correction in changed if correction.before or correction.user_id in story.CAST]
    others = [correction for correction in changed if correction not in shown]
    console.print()
    console.print(corrections_table(shown, SessionRules().user_action_ids))
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


def _conclude(stage: _Stage, snapshot: Snapshot) -> None:
    console = stage.console
    console.rule(align="left")
    console.print(f"sessionized_events now has {len(snapshot.rows)} events and {len(snapshot.sessions)} sessions.")
    console.print(f"It is in {escape(stage.warehouse.root)}, beside raw_events and rejected_events.")
    console.print(
        "What next: [bold]make dev[/] opens Dagster's UI on the same tables, with these runs and their checks. There "
        f"{BATCHES_HAVE_LANDED} is red: no batch has come since this week."
    )


def _slice(table_uri: str, day: date) -> list[dict[str, Any]]:
    return _rows(table_uri, f"{BATCH_DATE} = DATE '{day.isoformat()}'")


def _rows(table_uri: str, where: str = "true") -> list[dict[str, Any]]:
    """Rows of a table, read by delta-rs: independent of the code that wrote them, and without a Spark job."""
    found = QueryBuilder().register("t", DeltaTable(table_uri)).execute(f"SELECT * FROM t WHERE {where}").read_all()
    rows: list[dict[str, Any]] = pa.table(found).to_pylist()
    return rows
