"""The warehouse: where the tables are, one open handle of each, and the lock that keeps writers apart."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError
from pyspark.sql import DataFrame, SparkSession

from sessions_dagster.errors import SettingsError, StorageError
from sessions_dagster.model.tables import FORGOTTEN_USERS, TABLES
from sessions_dagster.s3 import is_on_s3
from sessions_dagster.storage.catalog import check_name, register_table
from sessions_dagster.storage.conditional_commits import check_log_store, refused_conditions_named
from sessions_dagster.storage.damage import damaged_files_named
from sessions_dagster.storage.filesystem import (
    commit_location,
    delta_rs_options,
    is_file,
    is_local,
    names_in,
    storage_errors,
    table_root,
)
from sessions_dagster.storage.full_disks import full_disks_named
from sessions_dagster.storage.java_lock import locked_in_java
from sessions_dagster.storage.lock import MAY_PASS, check_lock, locked
from sessions_dagster.storage.noted_session import session_noted
from sessions_dagster.storage.through_spark import MirroredTable
from sessions_dagster.storage.torn_logs import check_newest_checkpoint, check_newest_commit


@dataclass(frozen=True)
class Warehouse:
    """The folder that holds the tables.

    Attributes:
        root: A local folder (relative to the working directory, absolute, or `file://`) or a URI; kept in the spelling
            of `filesystem`.
        catalog_schema: The schema of the session's catalogue in which the tables have their names; None: in none.
        logs_through: Gives a session through which the logs of the tables are read, and what is noted beside them.
            None: this process reads them itself, and has the credentials for it.

    Raises:
        SettingsError: If it is no location, or its path has a character that delta-rs cannot cope with.
    """

    root: str
    catalog_schema: str | None = None
    logs_through: Callable[[], SparkSession] | None = field(default=None, repr=False, compare=False)
    _handles: dict[str, DeltaTable] = field(default_factory=dict, init=False, repr=False, compare=False)
    _registered: set[str] = field(default_factory=set, init=False, repr=False, compare=False)
    _looked_at: list[set[str]] = field(default_factory=list, init=False, repr=False, compare=False)
    _frames: dict[str, tuple[SparkSession, int, DataFrame]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

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
    def forgotten_users(self) -> str:
        """The list of the users who are forgotten; none of `tables`."""
        return f"{self.root}/{FORGOTTEN_USERS}"

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
            table_uri: One of `tables`, or `forgotten_users`.

        Raises:
            DamagedTableError: If the newest commit of a local table, or its checkpoint, is torn.
            PermissionError: If this process may not read the log.
            StorageError: If the storage fails.
        """
        handle = self._handles.get(table_uri)
        is_known = handle is not None and any(table_uri in looked_at for looked_at in self._looked_at)
        if is_local(self.root) and not is_known:
            check_newest_commit(Path(table_uri))
        if handle is None:
            try:
                handle = self._opened(table_uri)
            except TableNotFoundError:
                return None
            self._handles[table_uri] = handle
        elif not is_known:
            update(handle, table_uri)
        for looked_at in self._looked_at:
            looked_at.add(table_uri)
        return handle

    def has(self, table_uri: str) -> bool:
        """Whether there is a table. If there is none, an object store is asked once, and twice by `open`.

        Raises:
            OSError: If this process may not look.
            StorageError: If the storage fails.
        """
        if table_uri in self._handles or self.logs_through is not None:
            return self.open(table_uri) is not None
        return bool(names_in(f"{table_uri}/_delta_log"))

    @contextmanager
    def looking_once(self) -> Iterator[None]:
        """In this context `open` looks once at each table for what others have committed, as for one point in time.

        What is committed by way of a handle is seen all the same. To begin to write is to look again. The context is
        that of the warehouse and not of a thread: another thread that uses the same `Warehouse` looks once as well.
        """
        looked_at: set[str] = set()
        self._looked_at.append(looked_at)
        try:
            yield
        finally:
            # Sets are equal if they have the same tables.
            self._looked_at[:] = [each for each in self._looked_at if each is not looked_at]

    def read(self, spark: SparkSession, table_uri: str, version: int) -> DataFrame:
        """The rows of a version of a table. Delta looks for the version once, however many queries read it.

        As `open` it does not find out that a table was deleted and created again. One thread at a time may use it.

        Args:
            spark: A session with Delta.
            table_uri: One of `tables`.
            version: A version that the table has.
        """
        session, known, rows = self._frames.get(table_uri, (None, None, None))
        if rows is None or session is not spark or known != version:
            rows = spark.read.format("delta").option("versionAsOf", version).load(table_uri)
            self._frames[table_uri] = (spark, version, rows)
        return rows

    def _opened(self, table_uri: str) -> DeltaTable:
        if self.logs_through is not None:
            return MirroredTable(self.logs_through(), table_uri)
        try:
            with storage_errors():
                return DeltaTable(table_uri, storage_options=delta_rs_options(table_uri))
        except PermissionError as error:
            raise PermissionError(error.errno, f"{error.strerror}{_other_way(table_uri)}") from error
        except StorageError as error:
            raise StorageError(f"{error}{_other_way(table_uri)}") from error
        except TableNotFoundError:
            raise
        except DeltaError:
            if is_local(table_uri):
                check_newest_checkpoint(Path(table_uri))
            raise

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
        except OSError as error:
            if error.errno in MAY_PASS:
                raise StorageError(f"{self.root} cannot be written to now: {error.strerror}.") from error
            raise SettingsError(
                f"{setting} must be a folder that this process can write to, or a URI, and {self.root} is none: "
                f"{error.strerror} ({error.filename})."
            ) from error
        check_lock(Path(self.root))

    def check_name(self, spark: SparkSession, table_uri: str) -> None:
        """Check that a table that is about to be made can have its name in `catalog_schema`, if there is one.

        Args:
            spark: A session with Delta.
            table_uri: One of `tables`.

        Raises:
            SettingsError: If the schema has another table of that name.
        """
        if self.catalog_schema is not None:
            check_name(spark, self.catalog_schema, table_uri)

    def register(self, spark: SparkSession, table_uri: str) -> None:
        """Give a table its name in `catalog_schema`, if there is one, once for each warehouse object.

        Args:
            spark: A session with Delta.
            table_uri: One of `tables`, which exists.

        Raises:
            SettingsError: If the schema has another table of that name.
        """
        if self.catalog_schema is not None and table_uri not in self._registered:
            register_table(spark, self.catalog_schema, table_uri)
            self._registered.add(table_uri)

    @contextmanager
    def writing(self, spark: SparkSession) -> Iterator[None]:
        """Everything that Spark writes to the tables is written in this context.

        In a local warehouse and on S3 no two writers can both commit the same version of a table: here one waits for
        the other, see `locked`, and there the store refuses the second one. Elsewhere that is up to Delta's log store.

        Args:
            spark: The session that writes.

        Raises:
            SettingsError: If commits to S3 would not be exclusive: the session has no log store that sees to that, or
                the store or the connector does not know the condition. Or a name that a table should have is taken in
                the catalogue. No table was changed.
            FullDiskError: If a disk is full; the message says which.
        """
        if is_on_s3(self.root):
            check_log_store(spark)
        with (
            self.locked(),
            self._locked_in_java(spark),
            session_noted(spark, Path(self.root)) if is_local(self.root) else nullcontext(),
            refused_conditions_named(self.root),
            self.reading(spark),
        ):
            for looked_at in self._looked_at:
                looked_at.clear()
            if self.catalog_schema is not None:
                for table_uri in filter(self.open, self.tables):
                    self.register(spark, table_uri)
            yield

    def _locked_in_java(self, spark: SparkSession) -> AbstractContextManager[None]:
        return locked_in_java(spark, Path(self.root)) if is_local(self.root) else nullcontext()

    @contextmanager
    def reading(self, spark: SparkSession) -> Iterator[None]:
        """A file of a table that cannot be read, and a disk that is full, are named in this context, as in `writing`.

        Args:
            spark: The session that reads.

        Raises:
            DamagedTableError: If a file of a table cannot be read.
            FullDiskError: If a disk is full; the message says which.
        """
        with full_disks_named(spark, self.root), damaged_files_named((*self.tables, self.forgotten_users)):
            yield

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Waits until no other process writes to a local warehouse, and keeps others waiting until the context ends.

        Two processes can both commit the same version of a Delta table on a local file system, and one commit is lost.
        An object store needs no lock for that: there are conditions for what is put.
        """
        if not is_local(self.root):
            yield
            return
        with locked(Path(self.root)):
            yield


def update(table: DeltaTable, table_uri: str) -> None:
    """Bring a handle to the newest version of its table.

    On S3 nothing is noticed if the table has lost the version that the handle is at: it only asks for the next one.

    Args:
        table: The handle, which one thread at a time may use.
        table_uri: Where the table is.

    Raises:
        StorageError: If the storage fails.
    """
    with storage_errors():
        # To list the log takes longer than to ask for the next commit.
        is_listed = isinstance(table, MirroredTable) or not is_on_s3(table_uri)
        if is_listed or is_file(commit_location(table_uri, table.version() + 1)):
            table.update_incremental()


def _other_way(table_uri: str) -> str:
    """What may help if this process cannot read a log."""
    if is_local(table_uri):
        return ""
    return (
        f" This process reads the log of {table_uri} itself, and needs credentials for it. If only Spark has them, as "
        "a server of Spark Connect may, set SESSIONS_LOGS_THROUGH_SPARK=true (logs_through_spark)."
    )
