"""What the programs of the product open on the network, and in folders that all users share."""

import errno
import os
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

import pytest

from sessions_dagster.spark.this_machine import loopback_only, private_scratch
from sessions_dagster_tests.builders import write_batch
from sessions_dagster_tests.oracle import Event
from sessions_dagster_tests.sockets import Listener, listeners

OF_PROGRAMS: Final = pytest.mark.skipif(sys.platform != "linux", reason="other systems do not say it in /proc")

PATIENCE_SECONDS: Final = 300

DAY: Final = "2025-09-20"

WITH_EVERYTHING: Final = """
import sys

from pyspark.sql import functions as F

from sessions_dagster.spark.session import SparkSettings, spark_session

with spark_session(SparkSettings("local[1]", driver_memory="512m", extra_conf={"spark.ui.enabled": "true"})) as spark:
    # A worker of Python, and the server by which it tells its accumulators.
    spark.sparkContext.parallelize([1], 1).foreach(lambda each: None)
    print("running", flush=True)
    sys.stdin.read()
"""


@contextmanager
def started(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program with all that it starts, which ends with the context."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        os.killpg(process.pid, 9)
        process.wait()


def heard_until(process: subprocess.Popen[bytes], log: Path, line: str | None) -> set[Listener]:
    """All sockets at which a program was seen to listen until its output has a line; None: until it ends well."""
    heard: set[Listener] = set()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        is_over = process.poll() is not None if line is None else line in log.read_text(errors="replace")
        heard |= listeners(process.pid)
        if is_over:
            break
        assert line is None or process.poll() is None, log.read_text(errors="replace")
        time.sleep(0.1)
    assert line is not None or process.returncode == 0, log.read_text(errors="replace")
    return heard


@OF_PROGRAMS
@pytest.mark.slow
@pytest.mark.usefixtures("java_without_optimizer")
def test_a_run_listens_on_loopback_only_and_what_it_leaves_for_a_while_nobody_else_can_read(tmp_path: Path) -> None:
    write_batch([Event("ada", "a", "idea", datetime(2025, 9, 20, 9, 0))], tmp_path / "input" / f"date={DAY}")
    temporary = tmp_path / "tmp"
    (tmp_path / "home").mkdir()
    temporary.mkdir()
    settings = {
        "SESSIONS_INPUT_ROOT": str(tmp_path / "input"),
        "SESSIONS_WAREHOUSE_ROOT": str(tmp_path / "warehouse"),
        "SESSIONS_SPARK_MASTER": "local[1]",
        "DAGSTER_HOME": str(tmp_path / "home"),
        "TMPDIR": str(temporary),
    }
    dagster = [sys.executable, "-m", "dagster", "asset", "materialize", "-m", "sessions_dagster.definitions"]
    log, scratch = tmp_path / "log", temporary / f"sessions-dagster-{os.geteuid()}"
    with started([*dagster, "--select", "*", "--partition", DAY], settings, log) as run:
        heard, in_scratch = set[Listener](), set[str]()
        while run.poll() is None:
            heard |= listeners(run.pid)
            if scratch.exists():
                assert stat.S_IMODE(scratch.stat().st_mode) == stat.S_IRWXU
                in_scratch |= {path.name.partition("-")[0] for path in scratch.iterdir()}
            time.sleep(0.1)
        assert run.returncode == 0, log.read_text(errors="replace")
    assert heard, "the JVM of the run was not seen"
    assert [each for each in heard if not each.is_loopback] == []
    assert "blockmgr" in in_scratch
    assert list(scratch.iterdir()) == [], "something is left"


def test_a_scratch_folder_that_others_can_look_into_or_have_made_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    chosen = Path(private_scratch({}, {})["SPARK_LOCAL_DIRS"])
    assert (chosen.parent, stat.S_IMODE(chosen.stat().st_mode)) == (tmp_path, stat.S_IRWXU)
    assert private_scratch({}, {}) == {"SPARK_LOCAL_DIRS": str(chosen)}

    chosen.chmod(0o755)
    other = Path(private_scratch({}, {})["SPARK_LOCAL_DIRS"])
    assert (other != chosen, stat.S_IMODE(other.stat().st_mode)) == (True, stat.S_IRWXU)
    chosen.rmdir()
    chosen.symlink_to(other)
    assert private_scratch({}, {})["SPARK_LOCAL_DIRS"] not in {str(chosen), str(other)}
    chosen.unlink()
    chosen.touch()
    assert private_scratch({}, {})["SPARK_LOCAL_DIRS"] not in {str(chosen), str(other)}


def test_a_scratch_folder_that_there_cannot_be_stays_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    Path(private_scratch({}, {})["SPARK_LOCAL_DIRS"]).chmod(0o755)
    monkeypatch.setattr(tempfile, "mkdtemp", full)
    assert private_scratch({}, {}) == {}


@pytest.mark.parametrize(
    ("env", "conf"),
    [
        ({"SPARK_LOCAL_DIRS": "/big"}, {}),
        ({"JAVA_TOOL_OPTIONS": "-Xss4m -Djava.io.tmpdir=/big"}, {}),
        ({}, {"spark.local.dir": "/big"}),
        ({}, {"spark.driver.extraJavaOptions": "-Djava.io.tmpdir=/big"}),
    ],
)
def test_a_scratch_folder_that_somebody_has_chosen_stays(env: dict[str, str], conf: dict[str, str]) -> None:
    assert private_scratch(env, conf) == {}


def test_an_address_that_somebody_has_chosen_stays() -> None:
    assert loopback_only({"SPARK_LOCAL_IP": "10.0.0.1"}) == {}


@OF_PROGRAMS
@pytest.mark.slow
@pytest.mark.usefixtures("java_without_optimizer")
def test_a_spark_with_its_ui_and_workers_of_python_listens_on_loopback_only(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with started([sys.executable, "-c", WITH_EVERYTHING], {}, log) as spark:
        heard = heard_until(spark, log, "running")
    assert {4040, 4041, 4042, 4043} & {each.port for each in heard}, "the UI of Spark was not seen"
    assert [each for each in heard if not each.is_loopback] == []


@OF_PROGRAMS
@pytest.mark.slow
@pytest.mark.usefixtures("java_without_optimizer")
def test_a_server_of_spark_connect_listens_on_loopback_only(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-m", "sessions_dagster", "spark-server", "--port", "0"]
    settings = {"SESSIONS_SPARK_MASTER": "local[1]", "SESSIONS_START_DATE": DAY}
    with started(command, settings, log) as server:
        heard = heard_until(server, log, "Spark Connect listens at")
    assert heard
    assert [each for each in heard if not each.is_loopback] == []
