"""Which session with a server of Spark Connect writes to a local warehouse, noted beside its lock."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pyspark.sql import SparkSession

from sessions_dagster.spark.left_sessions import end_left_session, remote_session

_SESSION_FILE: Final = ".writing.session"
"""Which session with a server of Spark Connect writes. A run that is killed leaves the file behind."""


@contextmanager
def session_noted(spark: SparkSession, folder: Path) -> Iterator[None]:
    """Notes a session with a server beside the lock, and ends the one whose run has died with the lock.

    Only where there is a lock: without one nobody knows whether the other run has died.

    Args:
        spark: The session that writes.
        folder: The local folder, whose lock this process has.
    """
    note = folder / _SESSION_FILE
    if note.exists():
        end_left_session(spark, note.read_text())
        note.unlink()
    session = remote_session(spark)
    if session is None:
        yield
        return
    note.write_text(session)
    try:
        yield
    finally:
        note.unlink(missing_ok=True)
