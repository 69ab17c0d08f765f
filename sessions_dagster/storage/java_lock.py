"""The lock of a local warehouse that the JVM of a run has, which may live longer than the Python of the run.

If a Python is killed, its own lock is free at once. Its JVM notices that a moment later, and until then it goes on with
the commit that it was asked for. So it has a lock itself, for which the JVM of the next run waits.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, cast

from pyspark.sql import SparkSession

from sessions_dagster.spark.failures import SPARK_ERRORS_OR_GONE
from sessions_dagster.spark.tuning import is_remote

JAVA_LOCK_FILE: Final = ".writing.java.lock"
"""Another file than that of the lock of Python: on some file systems two locks of one run would exclude each other."""

_LOOK_SECONDS: Final = 0.05

logger = logging.getLogger(__name__)


@contextmanager
def locked_in_java(spark: SparkSession, folder: Path) -> Iterator[None]:
    """Wait until no other JVM writes to a folder, and keep others waiting until the context ends, or this JVM does.

    Args:
        spark: The session that writes. A session with a server takes no lock: the server lives on.
        folder: The local folder, which exists, and whose lock this process has.
    """
    if is_remote(spark):
        yield
        return
    jvm = cast("Any", spark.sparkContext._jvm)
    channel = jvm.java.io.RandomAccessFile(str(folder / JAVA_LOCK_FILE), "rw").getChannel()
    try:
        _wait(channel, folder)
        yield
    finally:
        # The JVM of a run that is cancelled is gone, and its lock with it.
        with suppress(*SPARK_ERRORS_OR_GONE, OSError):
            channel.close()


def _wait(channel: Any, folder: Path) -> None:
    is_first = True
    while channel.tryLock() is None:
        if is_first:
            logger.info("waiting for the JVM of a run that was killed, which still writes to the tables in %s", folder)
            is_first = False
        time.sleep(_LOOK_SECONDS)
