"""Runs in processes of their own: where the JVM's memory counts, or its start."""

import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

import dagster as dg
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException

from benchmarks.contenders import Ours
from benchmarks.footprint import FINE_GRAINED_MEMORY, PeakMemory, peak_memory
from sessions_dagster.lake.places import InputRoot, Warehouse
from sessions_dagster.orchestration.partitions import START_DATE_VARIABLE
from sessions_dagster.orchestration.resources import INPUT_ROOT_VARIABLE, WAREHOUSE_ROOT_VARIABLE
from sessions_dagster.runtime.spark import SparkSettings, spark_session

Given = ParamSpec("Given")
Made = TypeVar("Made")

_PROJECT: Final = Path(__file__).parent.parent
_FIRST_STEP: Final = "raw_events"


class SparkFailedError(RuntimeError):
    """Spark failed in a process of its own; the message is what it said."""


def in_own_process(work: Callable[Given, Made], *args: Given.args, **kwargs: Given.kwargs) -> Made:
    """What a function makes in a new Python process, with a JVM of its own if it starts one.

    Raises:
        SparkFailedError: If the function raises an error of Spark's.
        Exception: Whatever else the function raises; `BrokenProcessPool` where the process dies.
    """
    with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_without_java, partial(work, *args, **kwargs)).result()


def _without_java(work: Callable[[], Made]) -> Made:
    try:
        return work()
    except (Py4JError, PySparkException) as error:
        # They hold on to the JVM, and so cannot be sent to another process.
        raise SparkFailedError(str(error)) from None


def peak_of_correction(warehouse_root: str, day: date) -> PeakMemory:
    """Apply a landed batch, and say how much memory Spark has held then; for `in_own_process`."""
    with spark_session(SparkSettings(extra_conf=FINE_GRAINED_MEMORY)) as spark:
        # Nothing is landed here, so there is no input.
        Ours(spark, InputRoot(warehouse_root), Warehouse(warehouse_root)).sessionize(day)
        return peak_memory(spark)


def days_with_default_memory(input_root: str, warehouse_root: str, days: Sequence[date]) -> list[float]:
    """Land and apply days, one after the other, with the product's default heap; for `in_own_process`.

    Returns:
        The seconds of each day.
    """
    seconds = []
    with spark_session(SparkSettings()) as spark:
        ours = Ours(spark, InputRoot(input_root), Warehouse(warehouse_root))
        for day in days:
            began = time.perf_counter()
            ours.land(day)
            ours.sessionize(day)
            seconds.append(time.perf_counter() - began)
            print(f"          batch {day.isoformat()}: {seconds[-1]:.0f} s", flush=True)
    return seconds


class CommandError(RuntimeError):
    """A command failed; the message is what it said."""


@dataclass(frozen=True)
class CommandRun:
    """A run of `dagster asset materialize`.

    Attributes:
        seconds: From start to exit.
        phases: Where they went, in order.
    """

    seconds: float
    phases: Mapping[str, float]


def run_demo(folder: Path) -> None:
    """The README's first command but for its set-up, in an empty folder: it leaves the archive of Java's classes, too.

    Raises:
        CommandError: If it fails.
    """
    _run([sys.executable, "-m", "sessions_dagster.demo"], folder, {**os.environ, "PYTHONPATH": str(_PROJECT)})


class DagsterHome:
    """A fresh installation: an instance and a warehouse of its own, for `dagster` commands on some input."""

    def __init__(self, folder: Path, input_root: Path, first_day: date) -> None:
        """Sets it up in an empty folder."""
        home = folder / "dagster_home"
        home.mkdir()
        shutil.copy(_PROJECT / "dagster.yaml", home)
        self._env = {
            **os.environ,
            "DAGSTER_HOME": str(home),
            INPUT_ROOT_VARIABLE: str(input_root),
            WAREHOUSE_ROOT_VARIABLE: str(folder / "warehouse"),
            START_DATE_VARIABLE: first_day.isoformat(),
        }

    def materialize(self, *partition: str) -> CommandRun:
        """All assets of a partition or a range, by the command that the README gives.

        Raises:
            CommandError: If the command fails.
        """
        dagster = str(Path(sys.executable).with_name("dagster"))
        definitions = ["-m", "sessions_dagster.definitions", "--select", "*"]
        command = [dagster, "asset", "materialize", *definitions, *partition]
        began = time.time()
        _run(command, _PROJECT, self._env)
        ended = time.time()
        with dg.DagsterInstance.from_config(self._env["DAGSTER_HOME"]) as instance:
            return CommandRun(ended - began, phases_of_newest_run(instance, began, ended))


def _run(command: Sequence[str], folder: Path, env: Mapping[str, str]) -> None:
    process = subprocess.run(
        command, check=False, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if process.returncode:
        raise CommandError(f"{' '.join(command)} failed:\n{process.stdout}")


def phases_of_newest_run(instance: dg.DagsterInstance, began: float, ended: float) -> dict[str, float]:
    """Where the time of a process that made a run went, by the events of that run.

    Args:
        instance: Where the run is kept.
        began: When the process began, in seconds since 1970.
        ended: When it ended.

    Returns:
        Seconds by phase, in order; together they are the time of the process.
    """
    (run,) = instance.get_runs(limit=1)
    # The first step starts Java and Spark; what it reports as its own time counts from then on.
    made = instance.all_logs(run.run_id, dg.DagsterEventType.ASSET_MATERIALIZATION)
    landing = sum(map(_reported_seconds, made))
    phases, since = {}, began
    for entry in instance.all_logs(run.run_id, {dg.DagsterEventType.RUN_START, dg.DagsterEventType.STEP_SUCCESS}):
        took, since = entry.timestamp - since, entry.timestamp
        if entry.step_key == _FIRST_STEP:
            phases["Java and Spark"], phases[_FIRST_STEP] = took - landing, landing
        else:
            phases[entry.step_key or "Python and Dagster"] = took
    return {**phases, "exit": ended - since}


def _reported_seconds(entry: dg.EventLogEntry) -> float:
    """What a landing says that it took; 0 for all other assets, also those that its step writes beside."""
    materialization = entry.asset_materialization
    if materialization is None or materialization.asset_key != dg.AssetKey(_FIRST_STEP):
        return 0.0
    seconds = materialization.metadata["seconds"].value
    assert isinstance(seconds, float), "a landing reports its seconds"
    return seconds
