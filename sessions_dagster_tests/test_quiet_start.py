"""The start of Dagster's UI as `make dev` starts it: no warnings, the address at the end, and only loopback."""

import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from shutil import copy
from threading import Timer
from time import sleep
from typing import Final

import pytest

from sessions_dagster_tests.sockets import listeners

REPOSITORY: Final = Path(__file__).parents[1]
SECONDS: Final = 120
LOOK_SECONDS: Final = 0.2
ADDRESS: Final = "Serving dagster-webserver on http://"


@pytest.mark.slow
def test_dg_dev_starts_without_a_python_warning_on_loopback_only_and_says_its_address(tmp_path: Path) -> None:
    pytest.importorskip("dagster_dg_cli")
    (command,) = re.findall(r"\$\(BIN\)/(dg dev .*)", (REPOSITORY / "Makefile").read_text())
    copy(REPOSITORY / "deploy" / "local" / "dagster.yaml", tmp_path)
    roots = {f"SESSIONS_{name}_ROOT": str(tmp_path / name.lower()) for name in ("INPUT", "WAREHOUSE")}
    environment = os.environ | roots | {"DAGSTER_HOME": str(tmp_path), "PYTHONPATH": str(REPOSITORY)}
    program, *words = command.split()
    said: list[str] = []
    with subprocess.Popen(
        [str(Path(sys.executable).with_name(program)), *words, "--port", str(free_port())],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # Its own process group: it does not always end with SIGTERM, and neither do its servers.
        start_new_session=True,
    ) as server:
        deadline = Timer(SECONDS, os.killpg, (server.pid, signal.SIGKILL))
        deadline.start()
        assert server.stdout is not None
        for line in server.stdout:
            said.append(line)
            if ADDRESS in line:
                break
        # It says its address a moment before it listens.
        while not (heard := listeners(server.pid)) and sys.platform == "linux" and deadline.is_alive():
            sleep(LOOK_SECONDS)
        deadline.cancel()
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
    assert ADDRESS in said[-1], said
    assert heard or sys.platform != "linux"
    assert [each for each in heard if not each.is_loopback] == []
    assert not [line for line in said if re.search(r"\w+Warning\b|dagster\.yaml", line)]


def free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        port: int = asked.getsockname()[1]
        return port
