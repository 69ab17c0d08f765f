"""The warehouse: where the tables are, one open handle of each, and the lock that keeps writers apart."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError
from filelock import FileLock

from sessions_dagster.errors import SettingsError, StorageError
from sessions_dagster.model.tables import TABLES
from sessions_dagster.storage.filesystem import is_local, table_root

_LOCK_FILE: Final = ".writing.lock"

_MAY_PASS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.ETIMEDOUT})


@dataclass(frozen=True)
class Warehouse:
    """The folder that holds the tables.

    Attributes:
        root: A local folder (relative to the working directory, absolute, or `file://`) or a URI; kept in the spelling
            of `filesystem`.

    Raises:
        SettingsError: If it is no location, or its path has a character that delta-rs cannot cope with.
    """

    root: str
    _handles: dict[str, DeltaTable] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", table_root(self.root))

    @property
    def raw_events(self) -> str:
        """The table of accepted events, one slice per batch."""
        return f"{self.root}/raw_events"

    @property
    def rejected_events(self) -> str:
        """The quarantine, one slice per batch."""
        return f"{self.root}/rejected_events"

    @property
    def sessionized_events(self) -> str:
        """The table of events with their sessions."""
        return f"{self.root}/sessionized_events"

    @property
    def session_corrections(self) -> str:
        """The table of what became of sessions that were written before."""
        return f"{self.root}/session_corrections"

    @property
    def sessions(self) -> str:
        """The table with one row per session."""
        return f"{self.root}/sessions"

    @property
    def tables(self) -> tuple[str, ...]:
        """The locations of all tables, whether they exist or not."""
        return tuple(f"{self.root}/{name}" for name in TABLES)

    def open(self, table_uri: str) -> DeltaTable | None:
        """The newest version of a table as delta-rs sees it, without a JVM; None if there is no such table.

        A table is opened once, and then only the commits that are new are read. All callers share the handle, so nobody
        may load another version into it. A handle cannot tell that its table was deleted and created again: after that
        use a new `Warehouse`, as every Dagster run does.

        Args:
            table_uri: One of `tables`.
        """
        handle = self._handles.get(table_uri)
        if handle is not None:
            handle.update_incremental()
            return handle
        if not DeltaTable.is_deltatable(table_uri):
            return None
        return self._handles.setdefault(table_uri, DeltaTable(table_uri))

    def open_existing(self, table_uri: str) -> DeltaTable:
        """As `open`, for a table that must exist.

        Raises:
            TableNotFoundError: If there is no such table.
        """
        table = self.open(table_uri)
        if table is None:
            raise TableNotFoundError(f"There is no table {table_uri} yet.")
        return table

    def check_writable(self, setting: str) -> None:
        """Create the folder of a local warehouse if it is missing, and check that tables can be written there.

        Spark and delta-rs need long to find out, and do not say which folder it is.

        Args:
            setting: What the setting is called that the root came from, for the message.

        Raises:
            SettingsError: If they cannot.
            StorageError: If the storage fails.
        """
        if not is_local(self.root):
            return
        try:
            Path(self.root).mkdir(parents=True, exist_ok=True)
            Path(self.root, _LOCK_FILE).touch()
        except OSError as error:
            if error.errno in _MAY_PASS:
                raise StorageError(f"{self.root} cannot be written to now: {error.strerror}.") from error
            raise SettingsError(
                f"{setting} must be a folder that this process can write to, or a URI, and {self.root} is none: "
                f"{error.strerror} ({error.filename})."
            ) from error

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Waits until no other process writes to a local warehouse, and keeps others waiting until the context ends.

        Two processes can both commit the same version of a Delta table on a local file system, and one commit is lost.
        The same is true of Spark on `s3a://`, whose log store looks whether a commit exists and then puts it without a
        condition. There is no lock for object stores here, so there the scheduler has to let only one run write at a
        time: Dagster's pool `warehouse` with its limit of one does that for all runs of one instance.
        """
        if not is_local(self.root):
            yield
            return
        Path(self.root).mkdir(parents=True, exist_ok=True)
        with FileLock(Path(self.root, _LOCK_FILE)):
            yield
