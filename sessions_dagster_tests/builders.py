"""A small real warehouse for tests: batches are written as Parquet files, tables are read back as plain rows."""

import json
import os
import shutil
import sys
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from contextlib import redirect_stdout
from datetime import UTC, date, datetime
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple, Self

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, QueryBuilder
from deltalake.exceptions import TableNotFoundError
from pyarrow.fs import FileSystem
from pyspark.sql import DataFrame, SparkSession

from sessions_dagster.input import files
from sessions_dagster.input.folders import InputRoot
from sessions_dagster.model.columns import (
    BATCHES,
    EVENT,
    EVENTS,
    EVENTS_VERSION,
    KIND,
    NEW_END,
    NEW_START,
    OLD_END,
    OLD_START,
    PRODUCT,
    SESSION_END,
    SESSION_START,
    TIMESTAMP,
    USER,
    USER_ACTIONS,
)
from sessions_dagster.model.rules import SessionRules
from sessions_dagster.pipeline.apply import ApplyReport, apply_batches
from sessions_dagster.pipeline.land import LandingReport, land_batch
from sessions_dagster.pipeline.refresh_sessions import SessionsReport, refresh_sessions
from sessions_dagster.storage.filesystem import delta_rs_options, filesystem_of, is_local, open_file
from sessions_dagster.storage.warehouse import Warehouse
from sessions_dagster_tests.oracle import Event, SessionizedEvent

RULES = SessionRules()


class SessionRow(NamedTuple):
    """A row of `sessions`."""

    user: str
    product: str
    start: datetime
    end: datetime
    events: int
    user_actions: int


class CorrectionRow(NamedTuple):
    """A row of `session_corrections`."""

    version: int
    user: str
    product: str
    kind: str
    old_start: datetime
    old_end: datetime
    new_start: datetime | None
    new_end: datetime | None
    batches: frozenset[date]


class World:
    """A warehouse and its input, with a record of the events that landed."""

    def __init__(self, spark: SparkSession, folder: Path | str, rules: SessionRules = RULES) -> None:
        self.spark = spark
        self.rules = rules
        self.input = InputRoot(f"{folder}/input")
        self.warehouse = Warehouse(f"{folder}/warehouse")
        self.deletion_vectors = True
        self.landed: dict[date, Sequence[Event]] = {}

    def copy_to(self, folder: Path) -> Self:
        """A copy of this world in an empty folder, for tests that start from the same state."""
        shutil.copytree(Path(self.warehouse.root).parent, folder, dirs_exist_ok=True)
        copy = type(self)(self.spark, folder, self.rules)
        copy.landed, copy.deletion_vectors = dict(self.landed), self.deletion_vectors
        return copy

    def land(self, day: date, events: Sequence[Event], bot_limit: int | None = None) -> LandingReport:
        """Write a batch in place of an earlier one of the same day, and land it."""
        folder = self.input.batch_folder(day)
        if is_local(folder):
            write_batch(events, Path(folder))
        else:
            put_batch(events, folder)
        now = datetime.now(UTC)
        report = land_batch(
            self.spark,
            self.input,
            self.warehouse,
            day,
            "parquet",
            landed_at=now,
            rules=self.rules,
            bot_limit=bot_limit,
        )
        self.landed[day] = events
        return report

    def materialize(self, first: date, last: date | None = None) -> ApplyReport:
        """Apply the batches of one day or of a range, like a run of `sessionized_events`."""
        window = self.rules.batch_window(first, last)
        with self.warehouse.looking_once():
            return apply_batches(self.spark, self.warehouse, window, self.rules, deletion_vectors=self.deletion_vectors)

    def vectors(self) -> int:
        """The number of files of `sessionized_events` with a deletion vector."""
        newest: dict[str, bool] = {}
        for commit in sorted(Path(self.warehouse.sessionized_events, "_delta_log").glob("*.json")):
            actions = [json.loads(line) for line in commit.read_text().splitlines()]
            for removed in (action["remove"] for action in actions if "remove" in action):
                newest.pop(removed["path"], None)
            for added in (action["add"] for action in actions if "add" in action):
                newest[added["path"]] = bool(added.get("deletionVector"))
        return sum(newest.values())

    def refresh(self) -> SessionsReport:
        """Bring `sessions` up to date, like a run of the asset."""
        with self.warehouse.looking_once():
            return refresh_sessions(self.spark, self.warehouse)

    def all_events(self) -> list[Event]:
        """The events of the current content of all batches, including duplicates."""
        return [event for batch in self.landed.values() for event in batch]

    def table(self) -> list[SessionizedEvent]:
        """The rows of `sessionized_events`; none if there is no such table."""
        return sessionized_events(self.warehouse.sessionized_events)

    def sessions(self) -> list[SessionRow]:
        """The rows of `sessions`, without the columns that follow from others."""
        return session_rows(self.warehouse.sessions)

    def corrections(self) -> list[CorrectionRow]:
        """The rows of `session_corrections`; none if there is no such table."""
        columns = (EVENTS_VERSION, USER, PRODUCT, KIND, OLD_START, OLD_END, NEW_START, NEW_END, BATCHES)
        rows = read_without_spark(self.warehouse.session_corrections, columns)
        return [CorrectionRow._make([*row[:-1], frozenset(row[-1])]) for row in rows]


def sessions_of(rows: Iterable[SessionizedEvent], user_actions: Collection[str] = ("a", "b", "c")) -> set[SessionRow]:
    """The rows of `sessions` that belong to the given rows of `sessionized_events`."""
    members: dict[tuple[str, str, datetime, datetime], list[str]] = defaultdict(list)
    for row in rows:
        if row.start is not None and row.end is not None:
            members[row.user, row.product, row.start, row.end].append(row.event)
    return {
        SessionRow(*session, len(events), sum(event in user_actions for event in events))
        for session, events in members.items()
    }


def landed_events(raw_events: str) -> list[Event]:
    """The rows of `raw_events`, read by delta-rs, so that this process needs no Spark of its own."""
    return [Event(*row) for row in read_without_spark(raw_events, (USER, EVENT, PRODUCT, TIMESTAMP))]


def sessionized_events(table_uri: str, version: int | None = None) -> list[SessionizedEvent]:
    """The rows of `sessionized_events`, or of a version of it, read by delta-rs."""
    columns = (USER, EVENT, PRODUCT, TIMESTAMP, SESSION_START, SESSION_END)
    return [SessionizedEvent(*row) for row in read_without_spark(table_uri, columns, version)]


def session_rows(table_uri: str) -> list[SessionRow]:
    """The rows of `sessions`, without the columns that follow from others, read by delta-rs."""
    columns = (USER, PRODUCT, SESSION_START, SESSION_END, EVENTS, USER_ACTIONS)
    return [SessionRow(*row) for row in read_without_spark(table_uri, columns)]


def write_batch(events: Sequence[Event], folder: Path) -> None:
    """Write the file of a batch, with its columns in another order than the table."""
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(_batch(events), folder / "events.parquet")


def put_batch(events: Sequence[Event], folder: str) -> None:
    """As `write_batch`, into a folder of an object store."""
    filesystem, path = filesystem_of(folder)
    pq.write_table(_batch(events), f"{path}/events.parquet", filesystem=filesystem)


def _batch(events: Sequence[Event]) -> pa.Table:
    columns = {
        TIMESTAMP: pa.array([event.at.replace(tzinfo=UTC) for event in events], pa.timestamp("us", "UTC")),
        PRODUCT: pa.array([event.product for event in events], pa.string()),
        USER: pa.array([event.user for event in events], pa.string()),
        EVENT: pa.array([event.event for event in events], pa.string()),
    }
    return pa.table(columns)


def deliver(
    root: InputRoot,
    day: date,
    names: Sequence[str] = ("events.parquet",),
    at: datetime = datetime(2025, 1, 1, tzinfo=UTC),
) -> Path:
    """Create the files of a batch for tests that only list them, all with the same modification time."""
    folder = Path(root.batch_folder(day))
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"rows")
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (at.timestamp(), at.timestamp()))
    return folder


def nest_too_deep(folder: Path) -> None:
    """Make a folder that not even root can list: the paths below it are longer than the system allows."""
    parent = os.open(folder, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("x" * 250, dir_fd=parent)
        child = os.open("x" * 250, os.O_RDONLY, dir_fd=parent)
        os.close(parent)
        parent = child
    os.close(parent)


NEEDS_A_FILE_THAT_FAILS = pytest.mark.skipif(sys.platform != "linux", reason="needs a file that Linux has")


def fail_to_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Create a file as on a broken disk: it can be listed and opened, but reading it fails."""
    file.write_bytes(b"rows")

    def open_or_fail(filesystem: FileSystem, path: str) -> Any:
        # The memory of this process; nothing is mapped at its beginning. A link to it would not be followed.
        return open_file(filesystem, "/proc/self/mem" if path == str(file) else path)

    monkeypatch.setattr(files, "open_file", open_or_fail)


def read_without_spark(table_uri: str, columns: Sequence[str], version: int | None = None) -> list[list[Any]]:
    """Some columns of the rows of a table, or of a version; none if there is no table. Times are naive, in UTC."""
    # Much quicker than a query of Spark, and a second opinion on what Spark has written.
    try:
        table = DeltaTable(table_uri, version=version, storage_options=delta_rs_options(table_uri))
    except TableNotFoundError:
        return []
    query = f"SELECT {', '.join(columns)} FROM rows"
    reader = QueryBuilder().register("rows", table).execute(query).read_all()
    return [[_naive(value) for value in row.values()] for row in pa.table(reader).to_pylist()]


def _naive(value: Any) -> Any:
    return value.astimezone(UTC).replace(tzinfo=None) if isinstance(value, datetime) else value


def columns_with_statistics(table_uri: str) -> set[str]:
    """The columns for which the log of a Delta table has the maximum of each file."""
    names: list[str] = pa.table(DeltaTable(table_uri).get_add_actions(flatten=True)).column_names
    return {name.removeprefix("max.") for name in names if name.startswith("max.")}


def explained(rows: DataFrame, mode: str) -> str:
    """How Spark computes rows, in a mode of `explain`: there is no other way that Spark Connect has, too."""
    with redirect_stdout(StringIO()) as said:
        rows.explain(mode=mode)
    return said.getvalue()
