"""A standalone cluster of Spark on this machine: a master and two workers, from the Spark that pip has installed."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pyspark

from sessions_dagster.spark.java import use_java
from sessions_dagster.spark.versions import installed_lane

PATIENCE_SECONDS: Final = 120
WORKERS: Final = 2

_PACKAGE: Final = "org.apache.spark.deploy"


@dataclass
class Cluster:
    """A running cluster.

    Attributes:
        master: Its URL.
        folder: Where its logs are, and below it those of the executors.
        worker_memory: What each of its workers has for executors.
        workers: The processes of its workers.
    """

    master: str
    folder: Path
    worker_memory: str
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start_worker(self) -> None:
        """Start a worker with one core, and wait until the master knows it."""
        name = f"worker{len(self.workers)}"
        options = ["--host", "127.0.0.1", "--cores", "1", "--memory", self.worker_memory]
        options += ["--work-dir", str(self.folder / name)]
        worker = _start(self.folder / f"{name}.log", f"{_PACKAGE}.worker.Worker", *options, self.master)
        self.workers.append(worker)
        _wait_for("Successfully registered with master", self.folder / f"{name}.log", worker)

    def kill_worker(self) -> None:
        """Kill the oldest worker that lives, and its executors, as a machine that goes down, and start another one."""
        worker = next(each for each in self.workers if each.poll() is None)
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
        self.start_worker()


@contextmanager
def standalone(folder: Path, worker_memory: str = "2g") -> Iterator[Cluster]:
    """A cluster whose processes are in another time zone than the driver, and end with the context.

    Args:
        folder: Where it may write.
        worker_memory: What each of its workers has for executors.
    """
    log = folder / "master.log"
    options = ["--host", "127.0.0.1", "--port", "0", "--webui-port", "0"]
    master = _start(log, f"{_PACKAGE}.master.Master", *options)
    cluster = Cluster("", folder, worker_memory)
    try:
        line = _wait_for("Starting Spark master at ", log, master)
        cluster.master = line.split(" at ")[1].split()[0]
        for _ in range(WORKERS):
            cluster.start_worker()
        yield cluster
    finally:
        for process in (*cluster.workers, master):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _start(log: Path, *command: str) -> subprocess.Popen[bytes]:
    home = Path(pyspark.__file__).parent
    env = {**os.environ, "SPARK_HOME": str(home), "TZ": "Asia/Kolkata", "SPARK_LOCAL_IP": "127.0.0.1"}
    use_java(env, installed_lane().newest_java)
    words = [str(home / "bin" / "spark-class"), *command]
    with log.open("wb") as output:
        return subprocess.Popen(words, env=env, stdout=output, stderr=output, start_new_session=True)


def _wait_for(text: str, log: Path, process: subprocess.Popen[bytes]) -> str:
    """The line of a log with a text."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        for line in log.read_text(errors="replace").splitlines():
            if text in line:
                return line
        time.sleep(0.2)
    raise AssertionError(f"no {text!r} in {log}:\n{log.read_text(errors='replace')[-4000:]}")
