"""What a Spark on this machine keeps from others: at which address it listens, and where it puts what it shuffles."""

import atexit
import os
import shutil
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

LOOPBACK: Final = "127.0.0.1"

_ADDRESS: Final = "SPARK_LOCAL_IP"
_LOCAL_DIR: Final = "spark.local.dir"
_LOCAL_DIRS: Final = "SPARK_LOCAL_DIRS"
_JAVAS_DIR: Final = "-Djava.io.tmpdir="

_OF_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def loopback_only(env: Mapping[str, str]) -> dict[str, str]:
    """The variables with which all that a Spark on this machine listens at is loopback, its UI included.

    Args:
        env: Environment variables. An address that somebody has chosen there stays.
    """
    return {} if _ADDRESS in env else {_ADDRESS: LOOPBACK}


def private_scratch(env: Mapping[str, str], conf: Mapping[str, str]) -> dict[str, str]:
    """The variables with which what Spark shuffles and spills, which are rows, goes where no other user can read it.

    By default it goes into folders right below the temporary folder of the machine, which everybody can read.

    Args:
        env: Environment variables.
        conf: Spark's properties. A place that somebody has chosen there or in the environment stays.
    """
    said = (*env.values(), *(value for name, value in conf.items() if name.endswith("JavaOptions")))
    if _LOCAL_DIR in conf or _LOCAL_DIRS in env or any(_JAVAS_DIR in text for text in said):
        return {}
    folder = _own_folder()
    # Not as a property: of that Spark warns. A comma would be between two folders.
    return {} if folder is None or "," in str(folder) else {_LOCAL_DIRS: str(folder)}


def _own_folder() -> Path | None:
    """A folder that only this user can look into; None if there can be none, as on a disk that is full."""
    folder = Path(tempfile.gettempdir(), f"sessions-dagster-{os.geteuid()}")
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & _OF_OTHERS:
            return folder
    except FileExistsError:
        pass
    except OSError:
        return None
    try:
        # Somebody else has made it, to look into it.
        own = Path(tempfile.mkdtemp(prefix="sessions-dagster-"))
    except OSError:
        return None
    atexit.register(shutil.rmtree, own, ignore_errors=True)
    return own
