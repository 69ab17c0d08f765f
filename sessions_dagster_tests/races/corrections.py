"""What `session_corrections` must have, by the versions of `sessionized_events`, in plain Python.

It shares no code with the product, except for where the tables are.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder
from deltalake.exceptions import TableNotFoundError

from sessions_dagster.storage.filesystem import delta_rs_options
from sessions_dagster.storage.warehouse import Warehouse
from sessions_dagster_tests.oracle import SessionizedEvent

Span = tuple[datetime, datetime]


class Correction(NamedTuple):
    """An entry, as far as both versions say what it must be."""

    version: int
    user: str
    product: str
    kind: str
    old: Span
    new: Span | None


def corrections_between(
    before: Iterable[SessionizedEvent],
    after: Iterable[SessionizedEvent],
    version: int,
    user_actions: Collection[str] = ("a", "b", "c"),
) -> set[Correction]:
    """What a commit corrected that made one set of rows from another one."""
    now = {row[:4]: (row.start, row.end) for row in after}
    parts: dict[tuple[str, str, Span], set[Span]] = defaultdict(set)
    sources: dict[tuple[str, str, Span], set[Span]] = defaultdict(set)
    for row in before:
        if row.event not in user_actions or row.start is None or row.end is None:
            continue
        old = (row.start, row.end)
        of_old = parts[row.user, row.product, old]
        if row[:4] in now:
            start, end = now[row[:4]]
            assert start is not None
            assert end is not None
            of_old.add((start, end))
            sources[row.user, row.product, (start, end)].add(old)
    found = set()
    for (user, product, old), spans in parts.items():
        if not spans:
            found.add(Correction(version, user, product, "removed", old, None))
        for new in spans - {old}:
            is_merged = len(sources[user, product, new]) > 1
            kind = "split" if len(spans) > 1 else "merged" if is_merged else _alone(old, new)
            found.add(Correction(version, user, product, kind, old, new))
    return found


def _alone(old: Span, new: Span) -> str:
    return "extended" if new[0] <= old[0] and new[1] >= old[1] else "shrunk"


def wrong_corrections(
    warehouse: Warehouse, user_actions: Collection[str] = ("a", "b", "c")
) -> tuple[list[Correction], list[Correction]]:
    """The entries that are missing, and those that are too many, of all versions of the events."""
    expected: list[Correction] = []
    before: list[SessionizedEvent] = []
    for version in range(_table(warehouse.sessionized_events).version() + 1):
        after = _rows(warehouse.sessionized_events, version)
        expected += corrections_between(before, after, version, user_actions)
        before = after
    found = _entries(warehouse.session_corrections)
    missing, too_many = list(expected), []
    for entry in found:
        if entry in missing:
            missing.remove(entry)
        else:
            too_many.append(entry)
    return missing, too_many


def _rows(uri: str, version: int) -> list[SessionizedEvent]:
    columns = "user_id, event_id, product_code, timestamp, session_start_ts, session_end_ts"
    return [SessionizedEvent(*row) for row in _query(_table(uri, version), columns)]


def _entries(uri: str) -> list[Correction]:
    columns = (
        "sessionized_events_version, user_id, product_code, kind, old_start_ts, old_end_ts, new_start_ts, new_end_ts"
    )
    try:
        rows = _query(_table(uri), columns)
    except TableNotFoundError:
        return []
    return [
        Correction(version, user, product, kind, (*old,), None if new[0] is None else (*new,))
        for version, user, product, kind, *bounds in rows
        for old, new in [(bounds[:2], bounds[2:])]
    ]


def _table(uri: str, version: int | None = None) -> DeltaTable:
    return DeltaTable(uri, version=version, storage_options=delta_rs_options(uri))


def _query(table: DeltaTable, columns: str) -> list[list[Any]]:
    found = QueryBuilder().register("rows", table).execute(f"SELECT {columns} FROM rows").read_all()
    return [[_naive(value) for value in row.values()] for row in pa.table(found).to_pylist()]


def _naive(value: Any) -> Any:
    return value.astimezone(UTC).replace(tzinfo=None) if isinstance(value, datetime) else value
