"""Runs in processes of their own, to measure the memory of the JVM or the time of a start."""

import multiprocessing
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Final, ParamSpec, Self, TypeVar

import dagster as dg
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException

from benchmarks.contenders import Ours
from benchmarks.footprint import FINE_GRAINED_MEMORY, PeakMemory, peak_memory
from sessions_dagster.input.folders import InputRoot
from sessions_dagster.settings import (
    INPUT_ROOT_VARIABLE,
    SPARK_SERVER_VARIABLE,
    START_DATE_VARIABLE,
    WAREHOUSE_ROOT_VARIABLE,
)
from sessions_dagster.spark.server import TOKEN_VARIABLE
from sessions_dagster.spark.session import SparkSettings, spark_session
from sessions_dagster.storage.warehouse import Warehouse

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

_PROJECT: Final = Path(__file__).parent.parent
_FIRST_STEP: Final = "raw_events"

_NO_VARIABLES: Final[Mapping[str, str]] = {}


class SparkFailedError(RuntimeError):
    """Spark failed in a process of its own; the message is the one of Spark's error."""


def in_own_process(work: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
    """Call a function in a new Python process, which has a JVM of its own if the function starts Spark.

    Args:
        work: The function. It and its arguments and result are pickled.
        *args: Its positional arguments.
        **kwargs: Its keyword arguments.

    Returns:
        The result of the function.

    Raises:
        SparkFailedError: If the function raises an error of Spark.
        Exception: Any other error that the function raises, or `BrokenProcessPool` if the process dies.
    """
    with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_without_java, partial(work, *args, **kwargs)).result()


def _without_java(work: Callable[[], Result]) -> Result:
    try:
        return work()
    except (Py4JError, PySparkException) as error:
        # These errors hold references to the JVM and cannot be pickled.
        raise SparkFailedError(str(error)) from None


def peak_of_correction(warehouse_root: str, day: date) -> PeakMemory:
    """Apply a landed batch and return the peak memory of Spark. Meant to be called through `in_own_process`."""
    with spark_session(SparkSettings(extra_conf=FINE_GRAINED_MEMORY)) as spark:
        # Any folder will do as input root, because nothing is landed here.
        Ours(spark, InputRoot(warehouse_root), Warehouse(warehouse_root)).sessionize(day)
        return peak_memory(spark)


def days_with_default_memory(input_root: str, warehouse_root: str, days: Sequence[date]) -> list[float]:
    """Land and apply days one by one with the product's default heap. Meant to be called through `in_own_process`.

    Args:
        input_root: The input root with the batches.
        warehouse_root: The root of the warehouse.
        days: The days, in order.

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
    """A command failed; the message has its output."""


@dataclass(frozen=True)
class CommandRun:
    """A run of `dagster asset materialize`.

    Attributes:
        seconds: From start to exit.
        phases: Seconds of each phase, in order.
    """

    seconds: float
    phases: Mapping[str, float]


class DagsterHome:
    """An installation with its own Dagster instance and warehouse, on which `dagster` commands are run."""

    def __init__(
        self, folder: Path, input_root: str, first_day: date, variables: Mapping[str, str] = _NO_VARIABLES
    ) -> None:
        """Use the installation in a folder.

        Args:
            folder: Where it is.
            input_root: The root of the batches.
            first_day: The first partition.
            variables: Further settings.
        """
        self._env = {
            **os.environ,
            "DAGSTER_HOME": str(folder / "dagster_home"),
            INPUT_ROOT_VARIABLE: input_root,
            WAREHOUSE_ROOT_VARIABLE: str(folder / "warehouse"),
            START_DATE_VARIABLE: first_day.isoformat(),
            **variables,
        }

    @classmethod
    def at(cls, folder: Path, input_root: str, first_day: date) -> Self:
        """Set a new installation up."""
        home = folder / "dagster_home"
        home.mkdir(parents=True)
        shutil.copy(_PROJECT / "deploy" / "local" / "dagster.yaml", home)
        return cls(folder, input_root, first_day)

    def materialize(self, assets: str, *partition: str) -> CommandRun:
        """Materialize assets of a partition or a range with the command from the README.

        Args:
            assets: Which assets, as Dagster selects them.
            *partition: The arguments that select the partition or the range.

        Raises:
            CommandError: If the command fails.
        """
        dagster = str(Path(sys.executable).with_name("dagster"))
        definitions = ["-m", "sessions_dagster.definitions", "--select", assets]
        command = [dagster, "asset", "materialize", *definitions, *partition]
        began = time.time()
        _run(command, _PROJECT, self._env)
        ended = time.time()
        with dg.DagsterInstance.from_config(self._env["DAGSTER_HOME"]) as instance:
            return CommandRun(ended - began, phases_of_newest_run(instance, began, ended))


@dataclass(frozen=True)
class WarmSpark:
    """A server of Spark Connect on this machine.

    Attributes:
        variables: The variables with which runs use it.
        java: The process of its JVM.
    """

    variables: Mapping[str, str]
    java: int

    def resident(self) -> int:
        """The resident memory of its JVM, in bytes."""
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.java}/status").read_text())
        assert found is not None, "Linux reports it for every running process"
        return int(found[1]) * 1024


@contextmanager
def warm_spark(folder: Path) -> Iterator[WarmSpark]:
    """A server of Spark Connect, as `python -m sessions_dagster spark-server` starts it.

    Args:
        folder: Where its output is kept.

    Raises:
        CommandError: If it does not start.
    """
    token = {TOKEN_VARIABLE: secrets.token_urlsafe()}
    command = [sys.executable, "-m", "sessions_dagster", "spark-server", "--port", "0"]
    output = folder / "server.log"
    with output.open("wb") as log:
        server = subprocess.Popen(command, cwd=_PROJECT, env={**os.environ, **token}, stdout=log, stderr=log)
    try:
        while (said := re.search(r"(sc://\S+:\d+) \(process \d+, Java (\d+)\)", output.read_text())) is None:
            if server.poll() is not None:
                raise CommandError(f"{' '.join(command)} failed:\n{output.read_text()}")
            time.sleep(0.1)
        yield WarmSpark({SPARK_SERVER_VARIABLE: said[1], **token}, int(said[2]))
    finally:
        server.terminate()
        server.wait()


def _run(command: Sequence[str], folder: Path, env: Mapping[str, str]) -> None:
    process = subprocess.run(
        command, check=False, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if process.returncode:
        raise CommandError(f"{' '.join(command)} failed:\n{process.stdout}")


def phases_of_newest_run(instance: dg.DagsterInstance, began: float, ended: float) -> dict[str, float]:
    """Split the time of a process into phases, by the events of the newest run of an instance.

    Args:
        instance: The Dagster instance that stores the run.
        began: When the process began, in seconds since 1970.
        ended: When the process ended, in seconds since 1970.

    Returns:
        Seconds by phase, in order. Their sum is the time of the process.
    """
    (run,) = instance.get_runs(limit=1)
    # The first step also starts Java and Spark. The seconds that it reports itself begin after that.
    materializations = instance.all_logs(run.run_id, dg.DagsterEventType.ASSET_MATERIALIZATION)
    landing = sum(map(_reported_seconds, materializations))
    phases, since = {}, began
    for entry in instance.all_logs(run.run_id, {dg.DagsterEventType.RUN_START, dg.DagsterEventType.STEP_SUCCESS}):
        taken, since = entry.timestamp - since, entry.timestamp
        if entry.step_key == _FIRST_STEP:
            phases["Java and Spark"], phases[_FIRST_STEP] = taken - landing, landing
        else:
            phases[entry.step_key or "Python and Dagster"] = taken
    return {**phases, "exit": ended - since}


def _reported_seconds(entry: dg.EventLogEntry) -> float:
    """Return the seconds that a landing reports, and 0 for any other asset, including others of the same step."""
    materialization = entry.asset_materialization
    if materialization is None or materialization.asset_key != dg.AssetKey(_FIRST_STEP):
        return 0.0
    seconds = materialization.metadata["seconds"].value
    assert isinstance(seconds, float), "every landing reports its seconds"
    return seconds
