"""The named boundaries: the moments in a step between which the tables on the disk differ."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest

from sessions_dagster.pipeline import apply, forget, land, rebuild, refresh_sessions
from sessions_dagster.storage import maintenance
from sessions_dagster_tests.faults.program import Apply, Compact, Follow, Forget, Land, Rebuild, Vacuum


@dataclass(frozen=True)
class Boundary:
    """A call of the product, before or after which something happens.

    Attributes:
        of: The kind of step that it is a part of.
        module: The module that calls.
        function: What it calls.
        is_after: Whether it happens after the call, and not before.
        ends_with: What an argument of the call must end with.
        with_result: Whether only a call counts that gives something.
    """

    of: type
    module: ModuleType
    function: str
    is_after: bool = False
    ends_with: str = ""
    with_result: bool = False


BOUNDARIES: Final = {
    "landing: the first table made, not the second": Boundary(Land, land, "ensure_table", is_after=True),
    "landing: raw_events committed, not rejected_events": Boundary(Land, land, "replace_slice", is_after=True),
    "landing: both committed, not noted": Boundary(Land, land, "note_landing"),
    "landing: noted, not marked done": Boundary(Land, land, "note_landing", is_after=True),
    "applying: computed, no entries": Boundary(Apply, apply, "write_ahead"),
    "applying: entries committed, not the correction": Boundary(
        Apply, apply, "write_ahead", is_after=True, with_result=True
    ),
    "applying: committed, not marked done": Boundary(Apply, apply, "write_changes", is_after=True),
    "following: rebuilt, not committed": Boundary(Follow, refresh_sessions, "replace_partitions"),
    "following: committed, not marked done": Boundary(Follow, refresh_sessions, "replace_partitions", is_after=True),
    "compaction: merged, not purged": Boundary(Compact, maintenance, "_purge"),
    "compaction: purged, not noted": Boundary(Compact, maintenance, "set_property"),
    "compaction: one table noted": Boundary(Compact, maintenance, "set_property", is_after=True),
    "vacuum: listed, not removed": Boundary(Vacuum, maintenance, "run_sql", ends_with=" FULL"),
    "vacuum: one table done": Boundary(Vacuum, maintenance, "VacuumReport"),
    "forgetting: on the list, in all tables": Boundary(Forget, forget, "add_forgotten", is_after=True),
    "forgetting: not in raw_events, in sessionized_events": Boundary(Forget, forget, "_from_sessionized_events"),
    "forgetting: not in the events, in sessions": Boundary(Forget, forget, "refresh_sessions"),
    "rebuild: computed, not committed": Boundary(Rebuild, rebuild, "replace_events"),
    "rebuild: events committed, not sessions": Boundary(Rebuild, rebuild, "replace_events", is_after=True),
}

WHILE_WRITING: Final = {
    "landing: data files are written": (Land, "raw_events"),
    "applying: data files of entries are written": (Apply, "session_corrections"),
    "applying: data files are written": (Apply, "sessionized_events"),
    "following: data files are written": (Follow, "sessions"),
    "compaction: data files are written": (Compact, "raw_events"),
}
"""Which table gets the data files, by the name of the boundary."""


@contextmanager
def at(boundary: Boundary, happen: Callable[[], object]) -> Iterator[None]:
    """Let something happen once at a boundary of the steps of this process."""
    called = getattr(boundary.module, boundary.function)
    has_happened = False

    def happen_once() -> None:
        nonlocal has_happened
        if not has_happened:
            has_happened = True
            happen()

    def call(*args: Any, **options: Any) -> Any:
        is_meant = any(str(arg).endswith(boundary.ends_with) for arg in args) or not boundary.ends_with
        if is_meant and not boundary.is_after:
            happen_once()
        result = called(*args, **options)
        if is_meant and boundary.is_after and (result or not boundary.with_result):
            happen_once()
        return result

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(boundary.module, boundary.function, call)
        yield


def when_written(table: Path, happen: Callable[[], object]) -> None:
    """Let something happen, in a thread, as soon as a table has another data file than now."""
    known = data_files(table)

    def watch() -> None:
        while data_files(table) <= known:
            time.sleep(0.0005)
        happen()

    threading.Thread(target=watch, daemon=True).start()


def data_files(table: Path) -> set[str]:
    """The names of the data files of a table, those included that no commit has yet."""
    return {
        file for folder, _, files in os.walk(table) if "_delta_log" not in folder for file in files if "parquet" in file
    }
