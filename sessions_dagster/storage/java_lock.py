"""The lock of a local warehouse that the JVM of a run has, which may live longer than the Python of the run.

If a Python is killed, its own lock is free at once. Its JVM notices that a moment later, and until then it goes on with
the commit that it was asked for. So it has a lock itself, for which the JVM of the next run waits.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

from pyspark.sql import SparkSession

from sessions_dagster.errors import SettingsError, StorageError, is_retryable
from sessions_dagster.spark.failures import SPARK_ERRORS, SPARK_ERRORS_OR_GONE, is_gone
from sessions_dagster.spark.tuning import is_remote
from sessions_dagster.storage.full_disks import full_disk_text
from sessions_dagster.storage.lock import JAVA_LOCK_FILE, check_lock, note_holder, wait_for

JAVA_HOLDER_FILE: Final = ".writing.java.holder"
"""Which JVM holds the lock. As that of the other lock it is for people only."""

_LOOK_SECONDS: Final = 0.05

_locked_here: Final[set[Path]] = set()
"""The folders whose lock the JVM of this process has. To Java, a lock that is taken twice is an error."""


@contextmanager
def locked_in_java(spark: SparkSession, folder: Path) -> Iterator[None]:
    """Wait until no other JVM writes to a folder, and keep others waiting until the context ends, or this JVM does.

    Within the context the same process may lock the folder again, as with the lock of Python.

    Args:
        spark: The session that writes. A session with a server takes no lock: the server lives on.
        folder: The local folder, which exists, and whose lock this process has.

    Raises:
        SettingsError: If there can be no lock in it.
        StorageError: If there cannot be one now.
    """
    if is_remote(spark) or folder in _locked_here:
        yield
        return
    with _locked(spark, folder):
        _locked_here.add(folder)
        try:
            yield
        finally:
            _locked_here.discard(folder)


@contextmanager
def _locked(spark: SparkSession, folder: Path) -> Iterator[None]:
    check_lock(folder)
    jvm = cast("Any", spark.sparkContext._jvm)
    with named_in_java(folder):
        channel = jvm.java.io.RandomAccessFile(str(folder / JAVA_LOCK_FILE), "rw").getChannel()
    try:
        what = f"the JVM of a run that was killed, which still writes to the tables in {folder}"
        with named_in_java(folder):
            wait_for(partial(_acquired, channel), folder, JAVA_HOLDER_FILE, f"the lock of {what}")
        note_holder(folder, JAVA_HOLDER_FILE, int(jvm.java.lang.ProcessHandle.current().pid()))
        try:
            yield
        finally:
            with suppress(OSError):
                (folder / JAVA_HOLDER_FILE).unlink(missing_ok=True)
    finally:
        # The JVM of a run that is cancelled is gone, and its lock with it.
        with suppress(*SPARK_ERRORS_OR_GONE, OSError):
            channel.close()


def _acquired(channel: Any, timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while channel.tryLock() is None:
        if time.monotonic() >= deadline:
            return False
        time.sleep(_LOOK_SECONDS)
    return True


@contextmanager
def named_in_java(folder: Path) -> Iterator[None]:
    """Turns what Java says of a lock that it cannot have into a sentence. What Python can see was checked before.

    Args:
        folder: The folder that is locked.

    Raises:
        SettingsError: If there can be no lock.
        StorageError: If there cannot be one now.
    """
    try:
        yield
    except SPARK_ERRORS as error:
        if is_gone(error):
            raise
        said = next((line.strip() for line in str(error).splitlines() if line.startswith(": ")), str(error))
        what = f"The JVM of this run can have no lock on {folder / JAVA_LOCK_FILE}"
        if full_disk_text(error) is not None or is_retryable(error):
            raise StorageError(f"{what} now {said}. Nothing was written. Running again is safe.") from error
        raise SettingsError(
            f"{what} {said}. Without one two runs could write at once. Nothing was written. If the file system of the "
            "tables knows no POSIX locks (fcntl), put them on another one, or into an object store."
        ) from error
