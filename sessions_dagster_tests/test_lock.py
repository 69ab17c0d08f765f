"""The lock of a local warehouse: who waits says for whom, and a lock that there cannot be is named with its cause."""

import errno
import fcntl
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import dagster as dg
import pytest

from sessions_dagster.defs.progress import watched_in_log
from sessions_dagster.errors import SettingsError, StorageError, is_retryable
from sessions_dagster.storage import lock
from sessions_dagster.storage.lock import HOLDER_FILE, LOCK_FILE, holder_of
from sessions_dagster.storage.warehouse import Warehouse

HOLDER: Final = """
import sys

from sessions_dagster.storage.warehouse import Warehouse

with Warehouse(sys.argv[1]).locked():
    print("writing", flush=True)
    sys.stdin.read()
"""

NOBODY: Final = 65534


@contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock of a warehouse until its standard input ends."""
    command = [sys.executable, "-c", HOLDER, str(folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def goes_when_it_is_waited_for(
    process: subprocess.Popen[str], caplog: pytest.LogCaptureFixture, lines: int
) -> Iterator[None]:
    """Ends a holder once the log has some lines about waiting."""

    def end_it(record: logging.LogRecord) -> bool:
        if len(waits(caplog)) >= lines - 1:
            process.kill()
        return True

    with caplog.at_level(logging.INFO, lock.__name__):
        lock.logger.addFilter(end_it)
        try:
            yield
        finally:
            lock.logger.removeFilter(end_it)


def waits(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [line for line in caplog.messages if line.startswith("waiting for the lock")]


def write(folder: Path) -> None:
    with Warehouse(str(folder)).locked():
        pass


def test_who_waits_says_for_whom_and_again_and_then_that_it_is_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "SAY_SECONDS", 0.0)
    monkeypatch.setattr(lock, "_LOOK_SECONDS", 0.05)
    with holder(tmp_path) as process, goes_when_it_is_waited_for(process, caplog, lines=3):
        write(tmp_path)
    said = waits(caplog)
    assert len(said) >= 3
    who = rf"process {process.pid} on {re.escape(socket.gethostname())}, which holds it since "
    for line in said:
        assert re.fullmatch(
            rf"waiting for the lock of the tables in {re.escape(str(tmp_path))}( \(\d+ s so far\))?: it is held by "
            rf"{who}{datetime.now(UTC):%Y}-\d\d-\d\d \d\d:\d\d:\d\d UTC",
            line,
        )
    assert "so far" not in said[0]
    assert "so far" in said[1]
    assert re.fullmatch(rf"got the lock of the tables in {re.escape(str(tmp_path))} after \d+ s", caplog.messages[-1])


def test_a_lock_that_is_free_is_not_waited_for_whatever_a_dead_process_has_left(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with holder(tmp_path) as process:
        process.kill()
        process.wait()
        assert json.loads((tmp_path / HOLDER_FILE).read_text())["pid"] == process.pid
        with caplog.at_level(logging.INFO, lock.__name__):
            write(tmp_path)
    assert not caplog.messages
    assert not (tmp_path / HOLDER_FILE).exists()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not say in a file that a process is stopped")
def test_a_holder_that_is_stopped_is_named_with_what_to_do(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with holder(tmp_path) as process, goes_when_it_is_waited_for(process, caplog, lines=1):
        process.send_signal(signal.SIGSTOP)
        while " T " not in Path(f"/proc/{process.pid}/stat").read_text():
            time.sleep(0.01)
        write(tmp_path)
    (line, *_) = waits(caplog)
    assert line.endswith(f"UTC and is stopped (`kill -CONT {process.pid}` lets it go on)")


@pytest.mark.parametrize("note", ["", "{", "[]", '{"pid": 1}', '{"pid": "x", "host": "h", "since": "s"}', "\x00\xff"])
def test_a_note_about_the_holder_that_is_broken_is_none(tmp_path: Path, note: str) -> None:
    (tmp_path / HOLDER_FILE).write_text(note)
    assert holder_of(tmp_path) is None


def test_a_holder_on_another_machine_is_named_although_nobody_can_look_there(tmp_path: Path) -> None:
    (tmp_path / HOLDER_FILE).write_text('{"pid": 1, "host": "elsewhere", "since": "2025-09-20 10:00:00 UTC"}')
    assert str(holder_of(tmp_path)) == "process 1 on elsewhere, which holds it since 2025-09-20 10:00:00 UTC"


def test_the_log_of_a_run_says_that_it_waits_and_for_whom(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    @dg.op
    def write_tables(context: dg.OpExecutionContext) -> None:
        with watched_in_log(context, "writing the tables"):
            write(tmp_path)

    @dg.job
    def writing() -> None:
        write_tables()

    monkeypatch.setattr(lock, "_LOOK_SECONDS", 0.05)
    with dg.DagsterInstance.ephemeral() as instance, holder(tmp_path) as process:
        with goes_when_it_is_waited_for(process, caplog, lines=1):
            result = writing.execute_in_process(instance=instance)
        shown = [entry.user_message for entry in instance.all_logs(result.run_id)]
    assert any(f"it is held by process {process.pid} on " in line for line in shown)
    assert any(line.startswith("got the lock of the tables in ") for line in shown)


@contextmanager
def folder_of_all() -> Iterator[Path]:
    """A folder that other users than that of the tests can reach."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@contextmanager
def without_the_rights_of_root() -> Iterator[None]:
    """As another user, if this one may do everything."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


@pytest.mark.parametrize("used_before", [False, True])
@pytest.mark.parametrize("how", ["run", "start"])
def test_a_folder_that_is_read_only_is_an_error_that_says_who_may_not_write(used_before: bool, how: str) -> None:
    with folder_of_all() as folder:
        if used_before:
            (folder / LOCK_FILE).touch()
            (folder / LOCK_FILE).chmod(0o666)
        folder.chmod(0o555)
        with pytest.raises(SettingsError) as refused, without_the_rights_of_root():
            write(folder) if how == "run" else Warehouse(str(folder)).check_writable("The lake")
    assert str(folder) in str(refused.value)
    assert re.search("the user .*, as whom this process runs, may not write to the folder", str(refused.value))
    assert "Nothing was written." in str(refused.value)
    assert not is_retryable(refused.value)


def test_a_lock_of_another_user_is_an_error_that_names_both() -> None:
    with folder_of_all() as folder:
        (folder / LOCK_FILE).touch()
        (folder / LOCK_FILE).chmod(0o400 if os.geteuid() == 0 else 0)
        folder.chmod(0o777)
        with (
            pytest.raises(
                SettingsError, match=r"belongs to the user \w+, and the user \w+, as whom this process runs, may not"
            ),
            without_the_rights_of_root(),
        ):
            write(folder)


@pytest.mark.parametrize(("place", "named"), [("folder", "is a folder"), ("link", "is a link")])
def test_what_is_in_the_place_of_a_lock_is_named(tmp_path: Path, place: str, named: str) -> None:
    path = tmp_path / LOCK_FILE
    path.mkdir() if place == "folder" else path.symlink_to(tmp_path / "elsewhere")
    for attempt in (write, lambda folder: Warehouse(str(folder)).check_writable("The lake")):
        with pytest.raises(SettingsError, match=f"{re.escape(str(path))} {named}. Remove it"):
            attempt(tmp_path)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_disk_that_is_full_or_fails_is_an_error_that_may_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    open_file = os.open

    def open_or_fail(path: str, *how: int) -> int:
        if Path(path).name == LOCK_FILE:
            raise OSError(number, os.strerror(number), str(path))
        return open_file(path, *how)

    monkeypatch.setattr(os, "open", open_or_fail)
    with pytest.raises(StorageError, match=f"{os.strerror(number)}. Nothing was written. Make room") as failed:
        write(tmp_path)
    assert is_retryable(failed.value)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(SettingsError, match="its file system knows no locks"):
        write(tmp_path)
    monkeypatch.undo()
    write(tmp_path)


def test_a_disk_without_room_for_the_note_of_the_holder_is_enough_for_the_lock(tmp_path: Path) -> None:
    (tmp_path / HOLDER_FILE).mkdir()
    write(tmp_path)
