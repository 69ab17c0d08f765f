"""Tries the instance of deploy/dagster.yaml on a real Postgres: the sensor lands batches, then a backfill runs.

It starts what compose.yaml starts, as processes on the loopback interface: the code location, the daemon and the
webserver. The Postgres server, with an empty database, is that of DAGSTER_PG_HOST, DAGSTER_PG_USERNAME,
DAGSTER_PG_PASSWORD and DAGSTER_PG_DB. The package needs its extra `postgres`.

    python deploy/try_postgres.py
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final

import dagster as dg

from sessions_dagster.demo import story

DEPLOY: Final = Path(__file__).parent
LOCATION: Final = "sessions_dagster.definitions"
ASSETS: Final = ("raw_events", "sessionized_events", "sessions")
SECONDS: Final = 600

BACKFILL: Final = """
mutation ($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}
"""
STATUS: Final = (
    "query ($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } } }"
)


def main() -> None:
    """Run it, and say what was seen."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        for name in ("dagster.yaml", "workspace.yaml"):
            shutil.copy(DEPLOY / name, home)
        code, ui = free_port(), free_port()
        workspace = (home / "workspace.yaml").read_text().replace("4000", str(code))
        (home / "workspace.yaml").write_text(workspace)
        os.environ |= {
            "DAGSTER_HOME": folder,
            "SESSIONS_CODE_HOST": "127.0.0.1",
            "SESSIONS_START_DATE": str(story.MONDAY),
            "SESSIONS_INPUT_ROOT": f"{folder}/events",
            "SESSIONS_WAREHOUSE_ROOT": f"{folder}/lake",
            "SESSIONS_SETTLE_SECONDS": "1",
        }
        dagster = [sys.executable, "-m", "dagster"]
        subprocess.run([*dagster, "instance", "concurrency", "set", "warehouse", "1"], check=True)
        grpc = [*dagster, "api", "grpc", "--host", "127.0.0.1", "--port", str(code), "--module-name", LOCATION]
        daemon = [sys.executable, "-m", "dagster._daemon", "run", "--workspace", f"{folder}/workspace.yaml"]
        webserver = [sys.executable, "-m", "dagster_webserver", "--host", "127.0.0.1", "--port", str(ui)]
        with started(grpc, home), started([*webserver, "--workspace", f"{folder}/workspace.yaml"], home):
            wait("the webserver", lambda: is_ready(ui))
            with started(daemon, home), dg.DagsterInstance.get() as instance:
                print(f"storage: {type(instance.event_log_storage).__name__}")
                days = deliver(story.DAYS[:3], home)
                subprocess.run(
                    [*dagster, "sensor", "start", "new_batches", "-w", f"{folder}/workspace.yaml"], check=True
                )
                wait("the sensor", lambda: days <= instance.get_materialized_partitions(dg.AssetKey("sessions")))
                print(f"the sensor landed and applied {', '.join(sorted(days))}")
                check = instance.event_log_storage.get_asset_check_execution_history(
                    dg.AssetCheckKey(dg.AssetKey("raw_events"), "batches_have_landed"), limit=1
                )
                print(
                    f"batches_have_landed: {check[0].evaluation.description if check and check[0].evaluation else None}"
                )
                before = len(instance.get_runs())
                status = backfill(ui, story.DAYS[:3])
                print(f"the backfill of the same days is {status}, with {len(instance.get_runs()) - before} runs")


def backfill(port: int, days: list[date]) -> str:
    """Launch a backfill as the UI does, and wait for its end. Returns its status."""
    selection = [{"path": [name]} for name in ASSETS]
    params = {"assetSelection": selection, "partitionNames": [str(day) for day in days]}
    launched = graphql(port, BACKFILL, {"params": params})["launchPartitionBackfill"]
    if "backfillId" not in launched:
        raise RuntimeError(f"The backfill did not start: {launched}")

    def status() -> str:
        found: str = graphql(port, STATUS, {"id": launched["backfillId"]})["partitionBackfillOrError"]["status"]
        return found

    wait("the backfill", lambda: status() not in {"REQUESTED", "CANCELING", "FAILING"})
    return status()


def deliver(days: list[date], home: Path) -> set[str]:
    """Write batches of the demo. Returns their days."""
    for day in days:
        story.write_batch(home / "events", day, story.batches()[day])
    return {str(day) for day in days}


def graphql(port: int, query: str, variables: dict[str, Any]) -> dict[str, Any]:
    """Ask the webserver."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    body = json.dumps({"query": query, "variables": variables})
    connection.request("POST", "/graphql", body, {"Content-Type": "application/json"})
    answer = json.load(connection.getresponse())
    connection.close()
    if "errors" in answer:
        raise RuntimeError(f"The webserver answered {answer['errors']}")
    data: dict[str, Any] = answer["data"]
    return data


def is_ready(port: int) -> bool:
    """Whether the webserver answers and has loaded the code location."""
    query = "{ repositoriesOrError { ... on RepositoryConnection { nodes { name } } } }"
    try:
        return bool(graphql(port, query, {})["repositoriesOrError"].get("nodes"))
    except OSError:
        return False


def wait(what: str, is_done: Callable[[], bool]) -> None:
    """Wait until it is done.

    Raises:
        TimeoutError: If it is not after ten minutes.
    """
    deadline = time.monotonic() + timedelta(seconds=SECONDS).total_seconds()
    while not is_done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} is not done after {SECONDS} s")
        time.sleep(2)


@contextmanager
def started(command: list[str], folder: Path) -> Iterator[None]:
    """A process with its output in a file of the folder, ended afterwards."""
    log = folder / f"{command[2]}-{command[3]}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield
    except BaseException:
        print(f"{log.name}:\n{log.read_text()[-4000:]}")
        raise
    finally:
        process.terminate()
        process.wait(60)


def free_port() -> int:
    """A port of the loopback interface that is free now."""
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        port: int = asked.getsockname()[1]
        return port


if __name__ == "__main__":
    main()
