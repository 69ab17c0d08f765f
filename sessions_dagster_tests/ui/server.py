"""A separate `dagster dev`: started like `make dev`, but on a free port and with all files in a given folder."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Final

import dagster as dg
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionResolvedStatus as Status

from sessions_dagster.defs.assets import WAREHOUSE_POOL
from sessions_dagster.settings import (
    INPUT_ROOT_VARIABLE,
    LANDING_DEADLINE_VARIABLE,
    SETTLE_SECONDS_VARIABLE,
    START_DATE_VARIABLE,
    WAREHOUSE_ROOT_VARIABLE,
)
from sessions_dagster.storage.warehouse import Warehouse

REPOSITORY: Final = Path(__file__).parents[2]
WORKSPACE: Final = REPOSITORY / "workspace.yaml"

SETTLE_SECONDS: Final = 1

_INPUT: Final = Path("data", "input")
_WAREHOUSE: Final = Path("data", "warehouse")
"""Relative, because the pages show them and pictures of the pages are published."""

_START_SECONDS: Final = 120
_STOP_SECONDS: Final = 20
_LOG_LINES_TOLD: Final = 40


@dataclass(frozen=True)
class DagsterDev:
    """A running `dagster dev`.

    Attributes:
        url: Where its UI is.
        folder: The folder with everything it reads and writes.
        first_day: The day of the first partition.
        process: The process of the command, which starts all others.
    """

    url: str
    folder: Path
    first_day: date
    process: int

    @property
    def input_root(self) -> Path:
        """The folder of the batches."""
        return self.folder / _INPUT

    @property
    def warehouse(self) -> Warehouse:
        """The tables."""
        return Warehouse(str(self.folder / _WAREHOUSE))

    def check_statuses(self, check: dg.AssetCheckKey) -> dict[str, Status]:
        """The status of each partition with a result of the check, as stored in the instance."""
        partitions = dg.DailyPartitionsDefinition(self.first_day.isoformat())
        with dg.DagsterInstance.from_config(str(_home(self.folder))) as instance:
            state = instance.event_log_storage.get_asset_check_state([(check, partitions)])[check]
        return {
            key: status for status, subset in state.subsets.items() for key in subset.subset_value.get_partition_keys()
        }

    @property
    def log(self) -> Path:
        """The file with its output, including the output of its runs."""
        return _log(self.folder)


@contextmanager
def dagster_dev(
    folder: Path, first_day: date, deadline_hours: int = 12, workspace: Path = WORKSPACE
) -> Iterator[DagsterDev]:
    """Start `dagster dev`, and stop it and its runs afterwards.

    Args:
        folder: An empty folder for everything it reads and writes.
        first_day: The day of the first partition.
        deadline_hours: How long after its day a batch is overdue.
        workspace: The file that names the code location.

    Yields:
        It, ready to be used.

    Raises:
        RuntimeError: If it does not start.
    """
    home = _home(folder)
    home.mkdir()
    shutil.copy(REPOSITORY / "deploy" / "local" / "dagster.yaml", home)
    (folder / _INPUT).mkdir(parents=True)
    environment = os.environ | {
        "DAGSTER_HOME": str(home),
        START_DATE_VARIABLE: first_day.isoformat(),
        INPUT_ROOT_VARIABLE: str(_INPUT),
        WAREHOUSE_ROOT_VARIABLE: str(_WAREHOUSE),
        SETTLE_SECONDS_VARIABLE: str(SETTLE_SECONDS),
        LANDING_DEADLINE_VARIABLE: str(deadline_hours),
        # Every run starts a JVM for a few rows, so optimizing compilation costs more than it saves.
        "JAVA_TOOL_OPTIONS": "-XX:TieredStopAtLevel=1",
    }
    dagster = [sys.executable, "-m", "dagster"]
    limit = [*dagster, "instance", "concurrency", "set", WAREHOUSE_POOL, "1"]
    subprocess.run(limit, cwd=folder, env=environment, check=True, capture_output=True)
    port = _free_port()
    command = [*dagster, "dev", "--workspace", str(workspace), "--host", "127.0.0.1", "--port", str(port)]
    with _log(folder).open("wb") as log:
        # Its own process group, so that the runs can be stopped too: a run outlives the server that started it.
        server = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        _wait_until_ready(server, port, folder)
        yield DagsterDev(f"http://127.0.0.1:{port}", folder, first_day, server.pid)
    finally:
        _stop(server)


def log_tail(folder: Path) -> str:
    """The last lines of the output of a `dagster dev` in this folder."""
    return "\n".join(_log(folder).read_text(errors="replace").splitlines()[-_LOG_LINES_TOLD:])


def _home(folder: Path) -> Path:
    return folder / "home"


def _log(folder: Path) -> Path:
    return folder / "dagster-dev.log"


def _free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        port: int = asked.getsockname()[1]
        return port


def _wait_until_ready(server: subprocess.Popen[bytes], port: int, folder: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not _answers(port):
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"dagster dev does not start:\n{log_tail(folder)}")
        time.sleep(0.5)


def _answers(port: int) -> bool:
    # Not urllib, which would use a proxy from the environment.
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/server_info")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        server.wait(_STOP_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()
