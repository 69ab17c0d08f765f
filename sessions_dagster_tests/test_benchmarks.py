"""The benchmarks on a workload too small for meaningful numbers: they run, agree, and detect a wrong row.

Six scenarios are left out because they take too long at any size: `range` has seven runs by Dagster (52 s), each
process of `cold-process` and `daily-run` takes some 40 s, `cluster` and `warm-memory` start one, and `deletion-vectors`
runs each day twice (23 s). The child
processes of the other scenarios are replaced by the Spark of the tests.
"""

import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from py4j.protocol import Py4JError
from pyspark.sql import Row, SparkSession
from pyspark.sql import functions as F

from benchmarks import __main__ as command_line
from benchmarks import contenders, footprint, report
from benchmarks.comparison import DifferentRowsError, assert_same_sessions, decided_since
from benchmarks.contenders import CONTRACT_SCHEMA, Ours, Recompute
from benchmarks.footprint import PeakMemory, reads_of, writes_of
from benchmarks.measures import TOLD, Findings, Measure, Target, at_least, at_most, equal_within, in_turn, timed
from benchmarks.picture import draw
from benchmarks.processes import SparkFailedError, in_own_process, peak_of_correction, phases_of_newest_run
from benchmarks.scenarios import SCENARIOS, heap, history, rounds, skew
from benchmarks.scenarios.bench import SMALL, Bench
from benchmarks.scenarios.corrections import TARGETS
from benchmarks.workload import (
    EVENT_IDS,
    HOT_USER,
    ONE_HOUR,
    PRODUCTS,
    WHOLE_DAY,
    Workload,
    as_table,
    batches,
    with_hot_user,
    with_others,
)
from sessions_dagster.input.folders import InputRoot
from sessions_dagster.storage.warehouse import Warehouse

Made = TypeVar("Made")

SCENARIO = "corrections-5m"
WORKLOAD = Workload(20_000)
LATE_DAY = 9
"""The number of a batch of the workload with five full days before it."""


@dataclass(frozen=True)
class Run:
    """The results of a scenario that runs all contenders."""

    findings: Findings
    tables: Path
    ours: Ours
    messages: list[str]


@pytest.fixture(scope="module")
def run(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Run:
    messages: list[str] = []
    bench = Bench(tmp_path_factory.mktemp("bench"), SMALL, messages.append)
    findings = SCENARIOS[SCENARIO](bench)
    tables = bench.folder / "tables" / SCENARIO
    # No input is needed, because no batch is landed.
    return Run(findings, tables, Ours(spark, InputRoot(str(bench.folder)), Warehouse(str(tables / "ours"))), messages)


def test_all_contenders_agree_and_every_target_has_a_measured_ratio(run: Run) -> None:
    assert [measure.target for measure in run.findings.measures] == list(TARGETS[SCENARIO].values())
    assert all(measure.value > 0 and len(measure.values) == 1 for measure in run.findings.measures)


def test_the_order_of_contenders_alternates_by_day_with_landing_always_first(run: Run) -> None:
    (second_day,) = (line for line in run.messages if line.startswith("day 2 (measured)"))
    names = ["landing ", "landing floor ", "DuckDB ", "recompute ", " ours ", " floor "]
    assert sorted(names, key=second_day.rindex) == names
    assert [[name for name, _ in in_turn({"a": 1, "b": 2}, number)] for number in range(3)] == [
        ["a", "b"],
        ["b", "a"],
        ["a", "b"],
    ]


def _in_this_process(work: Callable[..., Made], *arguments: object) -> Made:
    """Like `in_own_process`, but on the Spark of the tests. Arguments and result are pickled as between processes."""
    made: Made = pickle.loads(pickle.dumps(work(*pickle.loads(pickle.dumps(arguments)))))
    return made


def _no_peak(warehouse_root: str, day: date) -> PeakMemory:
    assert Path(warehouse_root, "sessionized_events").exists()
    return PeakMemory(execution=1, unified=day.day, resident=1)


@pytest.fixture
def one_process(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run all scenarios on the Spark of the tests, because another one takes 15 s to start and warm up."""
    for module in (command_line, heap, skew):
        monkeypatch.setattr(module, "in_own_process", _in_this_process)
    monkeypatch.setattr(skew, "peak_of_correction", _no_peak)
    # The summaries and the clearing of memory are tested by the run of all contenders.
    monkeypatch.setattr(contenders, "summarize_events", lambda *_: None)
    for module in (history, rounds):
        monkeypatch.setattr(module, "timed_alone", lambda _, work: timed(work))


@pytest.mark.parametrize(
    ("scenario", "rows"),
    {
        "history": 4,
        "compaction": 2,
        "skew": 4,
        "landed-again": 1,
        "late-event": 1,
        "shuffled": 1,
    }.items(),
)
def test_every_scenario_has_a_value_for_each_of_its_rows(
    one_process: None, tmp_path: Path, scenario: str, rows: int
) -> None:
    measures = SCENARIOS[scenario](Bench(tmp_path, SMALL, print)).measures
    assert len(measures) == rows
    assert all(measure.value > 0 for measure in measures)


def test_a_correction_reports_its_peak_memory(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    # Spark's status store lags behind, but by less than everything that ran before.
    monkeypatch.setattr(footprint, "_SECONDS_UNTIL_REPORTED", 0)
    peak = peak_of_correction(run.ours.warehouse.root, WORKLOAD.first_day)
    assert 0 <= peak.execution <= peak.unified < peak.resident
    assert peak.unified > 0


def test_the_command_line_keeps_small_results_beside_small_data(
    one_process: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--size", "small", "--only", "heap"])
    command_line.main()
    results = tmp_path / "data" / "bench" / "small"
    assert {file.name for file in results.iterdir() if file.is_file()} == {
        "results.json",
        "measurements.json",
        "performance.svg",
    }
    (row,) = json.loads((results / "results.json").read_text())
    assert (row["name"], row["met"]) == ("a batch of 2 k events, heap of 2g", True)
    assert json.loads((results / "measurements.json").read_text())["heap"]["commit"] == report.commit_of()


def _with_first_changed(rows: list[Row], **values: object) -> list[Row]:
    first, *others = rows
    return [Row(**{**first.asDict(), **values}), *others]


DAMAGES: dict[str, Callable[[list[Row]], list[Row]]] = {
    "a row is missing": lambda rows: rows[1:],
    "a row is there twice": lambda rows: [*rows, rows[0]],
    "a session ends a microsecond later": lambda rows: _with_first_changed(
        rows, session_end_ts=rows[0]["session_end_ts"] + timedelta(microseconds=1)
    ),
    "an event has lost the id of its session": lambda rows: _with_first_changed(rows, session_id=None),
}


@pytest.fixture(scope="module")
def recomputed(run: Run) -> list[Row]:
    """The rows of the recompute, with those in sessions first."""
    rows = Recompute(run.ours, str(run.tables / "recompute")).rows()
    return rows.orderBy(F.col("session_id").isNull()).collect()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_result_is_caught(spark: SparkSession, run: Run, recomputed: list[Row], damage: str) -> None:
    damaged = spark.createDataFrame(DAMAGES[damage](recomputed), CONTRACT_SCHEMA)
    with pytest.raises(DifferentRowsError, match="the recompute has other rows on 2025-01"):
        assert_same_sessions({"the recompute": damaged}, run.ours.rows())


def test_rows_that_depend_on_batches_outside_the_six_are_compared_without_their_sessions(spark: SparkSession) -> None:
    first_date = date(2025, 1, 10)
    before, since = datetime(2025, 1, 9, 23, 58), datetime(2025, 1, 10, 8, 0)

    def row(at: datetime, start: datetime | None) -> tuple[object, ...]:
        end = start and start + timedelta(minutes=5)
        return "ada", "x", "idea", at, at.date(), start, end, start and f"ada#idea#{start.isoformat()}"

    ours = spark.createDataFrame(
        [row(before, before), row(datetime(2025, 1, 10, 0, 1), before), row(since, since)], CONTRACT_SCHEMA
    )
    # Without the event of the 9th, its session cannot be found.
    recomputed = spark.createDataFrame([row(datetime(2025, 1, 10, 0, 1), None), row(since, since)], CONTRACT_SCHEMA)
    wrong = spark.createDataFrame([row(datetime(2025, 1, 10, 0, 1), None), row(since, None)], CONTRACT_SCHEMA)
    expected = decided_since(first_date, ours, ours)
    assert assert_same_sessions({"right": decided_since(first_date, recomputed, ours)}, expected) == 2
    with pytest.raises(DifferentRowsError):
        assert_same_sessions({"wrong": decided_since(first_date, wrong, ours)}, expected)


def test_only_reads_of_data_files_are_counted(spark: SparkSession, run: Run) -> None:
    reads, rows = reads_of(spark, run.ours.rows().collect)
    files = list(Path(run.ours.warehouse.sessionized_events).rglob("*.parquet"))
    assert rows
    assert 0 < reads.files <= len(files)
    assert reads.bytes == pytest.approx(sum(file.stat().st_size for file in files), rel=0.5)


def test_a_file_that_only_gets_a_deletion_vector_does_not_count_as_written(tmp_path: Path) -> None:
    def file(path: str, size: int, **more: object) -> dict[str, object]:
        return {"path": path, "size": size, "partitionValues": {"event_date": path[:10]}, **more}

    actions = [
        {"add": file("2025-01-02/new", 100)},
        {"add": file("2025-01-01/old", 5_000, deletionVector={"sizeInBytes": 30})},
        {"remove": file("2025-01-01/old", 5_000)},
    ]
    commit = tmp_path / "_delta_log" / f"{7:020}.json"
    commit.parent.mkdir()
    commit.write_text("\n".join(map(json.dumps, actions)))
    writes = writes_of(str(tmp_path), 7)
    assert writes.bytes == 100 + 30 + commit.stat().st_size
    assert (writes.files, writes.dates) == (2, ("2025-01-01", "2025-01-02"))


def test_results_and_measurements_are_saved_in_two_files(run: Run, tmp_path: Path) -> None:
    commit = {"hash": "0123abc", "dirty": False}
    report.save(tmp_path, tmp_path / "picture.svg", SCENARIO, run.findings, list(SCENARIOS), commit)
    results = json.loads((tmp_path / "results.json").read_text())
    assert [set(row) for row in results] == [{"name", "value", "target", "met"}] * len(TARGETS[SCENARIO])
    measured = json.loads((tmp_path / "measurements.json").read_text())[SCENARIO]
    assert set(measured["raw"]["seconds"]) >= {"ours", "floor", "recompute", "DuckDB", "landing", "landing floor"}
    assert measured["machine"]["cores"] > 0
    assert measured["versions"]["pyspark"]
    assert measured["commit"] == commit


def test_a_repeated_scenario_replaces_only_its_own_rows(tmp_path: Path) -> None:
    def save(scenario: str, name: str, value: float) -> None:
        findings = Findings([Measure(name, [value], at_most(2))])
        report.save(tmp_path, tmp_path / "picture.svg", scenario, findings, ["first", "second"], commit=None)

    save("second", "b", 1.0)
    save("first", "a", 3.0)
    save("second", "b", 2.5)
    results = json.loads((tmp_path / "results.json").read_text())
    assert results == [
        {"name": "a", "value": 3.0, "target": "at most 2", "met": False},
        {"name": "b", "value": 2.5, "target": "at most 2", "met": False},
    ]
    assert (tmp_path / "picture.svg").read_text().count('class="missed"') == 2


def test_seconds_that_are_told_come_first_in_the_picture() -> None:
    def row(name: str, target: Target, unit: str = "") -> dict[str, object]:
        limits = {"low": None, "high": None if target is TOLD else target.high}
        return {"name": name, "value": 2.0, "values": [2.0], "target": target.text, "met": True, "unit": unit, **limits}

    drawn = draw([row("a ratio", at_most(4)), row("a daily run", TOLD, "s")])
    assert drawn.index("What a daily run takes") < drawn.index("a daily run") < drawn.index("a ratio")
    assert drawn.count('class="told"') == drawn.count('class="met"') == 1


@pytest.mark.skipif(shutil.which("git") is None, reason="there is no git")
def test_a_commit_is_dirty_if_any_file_but_the_results_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(variable, os.devnull)
    for variable in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"):
        monkeypatch.setenv(variable, "ada")

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], check=True, cwd=tmp_path, capture_output=True, text=True).stdout

    results, code = tmp_path / "benchmarks" / "results.json", tmp_path / "benchmarks" / "race.py"
    results.parent.mkdir()
    for file in (results, code):
        file.write_text("1\n")
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    clean = {"hash": git("rev-parse", "--short", "HEAD").strip(), "dirty": False}
    results.write_text("2\n")
    (tmp_path / "untracked").touch()
    assert report.commit_of(tmp_path) == clean
    code.write_text("2\n")
    assert report.commit_of(tmp_path) == {**clean, "dirty": True}
    assert report.commit_of(results.parent) is None


def test_there_is_no_commit_without_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert report.commit_of(tmp_path) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert report.commit_of() is None


def test_a_target_is_compared_with_the_median() -> None:
    assert Measure("", [1.0, 9.0, 3.5], at_most(3.5)).is_met
    assert not Measure("", [1.0, 9.0, 3.6], at_most(3.5)).is_met
    assert Measure("", [1.8], at_least(1.8)).is_met
    assert not Measure("", [1.7], at_least(1.8)).is_met
    assert not Measure("", [0.8], equal_within(0.1)).is_met
    assert not Measure("", [60.0], Target("completes"), condition=False).is_met


def _fails_in_java() -> None:
    # The lock stands for the unpicklable objects that Java errors refer to.
    raise Py4JError("Java heap space", threading.RLock())


@pytest.mark.slow
def test_a_spark_error_is_reported_back_from_a_child_process() -> None:
    with pytest.raises(SparkFailedError, match="Java heap space"):
        in_own_process(_fails_in_java)


def test_the_phases_of_a_process_add_up_to_its_total_time() -> None:
    @dg.asset
    def raw_events(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        time.sleep(0.2)
        context.log_event(dg.AssetMaterialization("rejected_events", metadata={"rows": 1}))
        return dg.MaterializeResult(metadata={"seconds": 0.05})

    @dg.asset(deps=[raw_events])
    def sessionized_events() -> None: ...

    with dg.DagsterInstance.ephemeral() as instance:
        began = time.time() - 5
        dg.materialize([raw_events, sessionized_events], instance=instance)
        ended = time.time() + 2
        phases = phases_of_newest_run(instance, began, ended)
    assert list(phases) == ["Python and Dagster", "Java and Spark", "raw_events", "sessionized_events", "exit"]
    assert phases["Python and Dagster"] >= 5
    assert phases["Java and Spark"] >= 0.15
    assert phases["raw_events"] == 0.05
    assert phases["exit"] >= 2
    assert sum(phases.values()) == pytest.approx(ended - began)


@pytest.fixture(scope="module")
def batch_days() -> dict[date, pa.Table]:
    return {day: as_table(deliveries) for day, deliveries in batches(WORKLOAD, WORKLOAD.days(LATE_DAY + 1))}


def test_a_batch_of_the_workload_has_the_standard_share_of_late_events(batch_days: dict[date, pa.Table]) -> None:
    day, batch = list(batch_days.items())[LATE_DAY]
    lateness = Counter((day - at).days for at in pc.cast(batch["timestamp"], pa.date32()).to_pylist())
    late = [lateness[days] / batch.num_rows for days in range(1, 6)]
    # 1% of the events are late by each number of days; 0.5% are delivered twice, and their second delivery is late too.
    assert all(0.008 < share < 0.014 for share in late)
    assert set(lateness) == set(range(6))


def test_the_workload_has_the_standard_numbers_of_users_products_and_events(batch_days: dict[date, pa.Table]) -> None:
    events = pa.concat_tables(batch_days.values())
    assert set(events["product_code"].to_pylist()) == set(PRODUCTS)
    assert set(events["event_id"].to_pylist()) == set(EVENT_IDS)
    by_user = Counter(events["user_id"].to_pylist())
    assert len(by_user) <= WORKLOAD.events_per_day / 20
    busiest = sum(count for _, count in by_user.most_common(len(by_user) // 100))
    assert busiest > 0.05 * events.num_rows
    twice = 1 - events.group_by(events.column_names).aggregate([]).num_rows / events.num_rows
    assert 0.003 < twice < 0.006


def test_a_batch_does_not_depend_on_the_order_in_which_batches_are_generated(batch_days: dict[date, pa.Table]) -> None:
    day = WORKLOAD.days(1, LATE_DAY)[0]
    ((_, alone),) = batches(WORKLOAD, [day])
    assert (
        as_table(alone)
        .sort_by([(name, "ascending") for name in batch_days[day].column_names])
        .equals(batch_days[day].sort_by([(name, "ascending") for name in batch_days[day].column_names]))
    )


@pytest.mark.parametrize("hours", [WHOLE_DAY, ONE_HOUR])
def test_the_hot_user_has_half_of_a_batch_within_the_given_hours_and_no_late_events(
    batch_days: dict[date, pa.Table], hours: range
) -> None:
    day, batch = list(batch_days.items())[LATE_DAY]
    skewed = with_hot_user(batch, day, hours)
    hot = pc.equal(skewed["user_id"], HOT_USER)
    times = skewed["timestamp"].filter(hot)
    assert skewed.num_rows == batch.num_rows
    assert len(times) == batch.num_rows // 2
    assert set(pc.cast(times, pa.date32()).to_pylist()) == {day}
    assert set(pc.hour(times).to_pylist()) == set(hours)
    assert set(pc.minute(times).to_pylist()) == set(range(60))
    others = pc.invert(hot)
    assert skewed.filter(others).equals(batch.filter(others))


def test_a_corrected_batch_has_a_twentieth_of_its_rows_replaced(
    batch_days: dict[date, pa.Table],
) -> None:
    day, batch = list(batch_days.items())[LATE_DAY]
    corrected = with_others(batch, WORKLOAD, day)
    before, after = (Counter(tuple(row.values()) for row in table.to_pylist()) for table in (batch, corrected))
    changed = round(batch.num_rows * 0.05)
    assert corrected.schema == batch.schema
    assert (before - after).total() == (after - before).total() == changed
    assert {(day - row[2].date()).days for row in after - before} == set(range(6))
