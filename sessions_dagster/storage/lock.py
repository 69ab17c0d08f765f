"""The lock of a local warehouse: one process writes at a time, and who waits says for whom.

It is a lock of the operating system on a file, so it ends with the process that holds it, however that ends, and the
file that is left behind holds nobody up.
"""

import errno
import json
import logging
import os
import pwd
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from filelock import FileLock, SoftFileLock, Timeout

from sessions_dagster.errors import SettingsError, StorageError

LOCK_FILE: Final = ".writing.lock"

JAVA_LOCK_FILE: Final = ".writing.java.lock"
"""What the JVM of a run locks (see `java_lock`): on some file systems two locks of one run on a file would exclude each
other."""

HOLDER_FILE: Final = ".writing.holder"
"""Which process holds the lock. It is for people only: whether the lock is held the operating system alone knows."""

SAY_SECONDS: Final = 60.0
"""How often a process says that it is still waiting."""

_LOOK_SECONDS: Final = 1.0
"""How often it looks who holds the lock meanwhile."""

MAY_PASS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EMFILE})
"""The failures that say nothing about the folder: the disk is full, or the disk or its server does not answer."""

_NO_LOCKS: Final = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP})

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Holder:
    """The process that holds a lock.

    Attributes:
        pid: Its id.
        host: The machine or the container that it runs on.
        since: When it got the lock (UTC).
    """

    pid: int
    host: str
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, which holds it since {self.since}{self._if_stopped()}"

    def is_gone(self) -> bool:
        """Whether it runs no more, as far as this machine can tell."""
        if self.host != socket.gethostname():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except (OSError, OverflowError):
            return False
        return False

    def _if_stopped(self) -> str:
        """What to do about a process that somebody has stopped. Other systems than Linux do not say so in a file."""
        if self.host != socket.gethostname():
            return ""
        with suppress(OSError):
            state = Path(f"/proc/{self.pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[:1]
            if state in (["T"], ["t"]):
                return f" and is stopped (`kill -CONT {self.pid}` lets it go on)"
        return ""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Wait until no other process writes to a folder, and keep others waiting until the context ends.

    Args:
        folder: The local folder; it is made if it is missing.

    Raises:
        SettingsError: If there can be no lock in it.
        StorageError: If there cannot be one now.
    """
    path = folder / LOCK_FILE
    with _named(path):
        folder.mkdir(parents=True, exist_ok=True)
    check_lock(folder)
    lock = FileLock(path)
    with _named(path):
        wait_for(partial(_acquired, lock), folder, HOLDER_FILE, f"the lock of the tables in {folder}")
    try:
        note_holder(folder, HOLDER_FILE, os.getpid())
        yield
    finally:
        with suppress(OSError):
            (folder / HOLDER_FILE).unlink(missing_ok=True)
        lock.release()


def check_lock(folder: Path) -> None:
    """Check that a folder, which exists, can have its locks, without waiting for them.

    Raises:
        SettingsError: If there can be none in it.
        StorageError: If there cannot be one now.
    """
    for path in (folder / LOCK_FILE, folder / JAVA_LOCK_FILE):
        with _named(path):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666))
            if not _may_write_to(folder):
                # The lock was made before. It would do, but nothing could be written.
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def holder_of(folder: Path, holder_file: str = HOLDER_FILE) -> Holder | None:
    """The process that has last said that it holds the lock of a folder; None if that is not known, or it is gone."""
    try:
        said = json.loads((folder / holder_file).read_text())
        holder = Holder(int(said["pid"]), str(said["host"]), str(said["since"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return None if holder.is_gone() else holder


def wait_for(acquired: Callable[[float], bool], folder: Path, holder_file: str, what: str) -> None:
    """Wait for a lock, and say for whom: at once, when that changes, and each `SAY_SECONDS`.

    Args:
        acquired: Tries for some seconds to get the lock, and says whether it has it.
        folder: The folder that is locked.
        holder_file: The file in it that says who holds the lock.
        what: What is waited for, for the log.
    """
    began = said_at = time.monotonic()
    said: Holder | None = None
    is_first = True
    while not acquired(0 if is_first else _LOOK_SECONDS):
        holder, now = holder_of(folder, holder_file), time.monotonic()
        if is_first or holder != said or now - said_at >= SAY_SECONDS:
            so_far = "" if is_first else f" ({now - began:.0f} s so far)"
            who = "another process, which has not said who it is" if holder is None else str(holder)
            logger.info("waiting for %s%s: it is held by %s", what, so_far, who)
            said, said_at, is_first = holder, now, False
    if not is_first:
        logger.info("got %s after %.0f s", what, time.monotonic() - began)


def _acquired(lock: FileLock, timeout: float) -> bool:
    try:
        lock.acquire(timeout)
    except Timeout:
        has_it = False
    else:
        has_it = True
    if isinstance(lock, SoftFileLock):
        # What it has become on a file system without locks: a file, which a process that is killed leaves behind.
        lock.release()
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), lock.lock_file)
    return has_it


def note_holder(folder: Path, holder_file: str, pid: int) -> None:
    """Note which process of this machine holds the lock of a folder since now, for those who wait."""
    me = Holder(pid, socket.gethostname(), f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC")
    # The lock is good without it, also on a disk that is full.
    with suppress(OSError):
        # Not into the file of another user that a killed process has left.
        (folder / holder_file).unlink(missing_ok=True)
        (folder / holder_file).write_text(json.dumps(asdict(me)))


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turns the failure to make a lock into a sentence that says why, and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in MAY_PASS:
            raise StorageError(
                f"There is no lock on the tables in {path.parent} now, because {path} cannot be made: "
                f"{error.strerror}. Nothing was written. Make room if the disk is full; running again is safe."
            ) from error
        raise SettingsError(
            f"There can be no lock on the tables in {path.parent}, and without one two runs could write at once: "
            f"{_why(path, error)} Nothing was written."
        ) from error


def _why(path: Path, error: OSError) -> str:
    """Why a lock file cannot be made or opened, and what to do, in sentences."""
    if error.errno in _NO_LOCKS:
        return "its file system knows no locks (flock). Put the tables on another one, or into an object store."
    if error.errno == errno.EROFS:
        return "its file system is read-only. Mount it for writing, or choose another warehouse root."
    if path.is_symlink() or path.is_dir():
        return f"{path} is a {'link' if path.is_symlink() else 'folder'}. Remove it when no run is writing."
    if error.errno not in {errno.EACCES, errno.EPERM}:
        return f"{path} cannot be made: {error.strerror}. Choose another warehouse root, or make way for this file."
    me = f"the user {_user(os.geteuid())}, as whom this process runs,"
    if not _may_write_to(path.parent) or not path.exists():
        return f"{me} may not write to the folder. Give it the right to."
    return (
        f"{path} belongs to the user {_user(path.stat().st_uid)}, and {me} may not write to it. Let all runs have one "
        "user, or a group that may write to the folder and to all files in it."
    )


def _may_write_to(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids)


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
