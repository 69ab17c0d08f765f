"""What the tables must contain, by the oracle, beside what they contain. Everything is read without Spark."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder

from sessions_dagster.storage.warehouse import Warehouse
from sessions_dagster_tests.builders import SessionRow, landed_events, sessionized_events, sessions_of
from sessions_dagster_tests.oracle import sessionize
from sessions_dagster_tests.soak.story import Delivery

_Span = tuple[str, str, datetime, datetime]


def wrong_rows(warehouse: Warehouse, landed: Collection[Delivery]) -> dict[str, int]:
    """How many rows of each table are missing, too many or wrong. A wrong row counts as one missing and one too many.

    Args:
        warehouse: The tables.
        landed: The newest content of each batch that has arrived.
    """
    events = [event for delivery in landed for event in delivery.events]
    expected = sessionize(events)
    return {
        "raw_events": _differences(landed_events(warehouse.raw_events), events),
        "rejected_events": _differences(_rejected_days(warehouse), [delivery.day for delivery in landed]),
        "sessionized_events": _differences(sessionized_events(warehouse.sessionized_events), expected),
        "sessions": _differences(_sessions(warehouse), sessions_of(expected)),
    }


def wrong_corrections(warehouse: Warehouse) -> tuple[int, int]:
    """Compare each version of the events with the one before it, and `session_corrections` with the difference.

    Returns:
        How many sessions changed their bounds or disappeared, and how many entries are missing or too many.
    """
    recorded: dict[int, set[_Span]] = defaultdict(set)
    columns = "sessionized_events_version, user_id, product_code, old_start_ts, old_end_ts"
    for version, *span in _query(DeltaTable(warehouse.session_corrections), f"SELECT {columns} FROM rows"):
        recorded[version].add(_span(span))
    newest = DeltaTable(warehouse.sessionized_events).version()
    before: set[_Span] = set()
    changed = wrong = 0
    for version in range(newest + 1):
        now = _spans(DeltaTable(warehouse.sessionized_events, version=version))
        gone = before - now
        changed += len(gone)
        wrong += len(gone ^ recorded[version])
        before = now
    return changed, wrong


def _differences(found: Iterable[object], expected: Iterable[object]) -> int:
    is_there, must_be = Counter(found), Counter(expected)
    return (is_there - must_be).total() + (must_be - is_there).total()


def _rejected_days(warehouse: Warehouse) -> list[date]:
    return [day for (day,) in _query(DeltaTable(warehouse.rejected_events), "SELECT batch_date FROM rows")]


def _sessions(warehouse: Warehouse) -> list[SessionRow]:
    columns = "user_id, product_code, session_start_ts, session_end_ts, events, user_actions"
    rows = _query(DeltaTable(warehouse.sessions), f"SELECT {columns} FROM rows")
    return [SessionRow(*_span(row[:4]), *row[4:]) for row in rows]


def _spans(events: DeltaTable) -> set[_Span]:
    bounds = "user_id, product_code, session_start_ts, session_end_ts"
    found = _query(events, f"SELECT DISTINCT {bounds} FROM rows WHERE session_start_ts IS NOT NULL")
    return set(map(_span, found))


def _span(values: list[Any]) -> _Span:
    user, product, start, end = values
    return user, product, _naive(start), _naive(end)


def _naive(value: object) -> datetime:
    assert isinstance(value, datetime)
    return value.astimezone(UTC).replace(tzinfo=None)


def _query(table: DeltaTable, query: str) -> list[list[Any]]:
    rows = pa.table(QueryBuilder().register("rows", table).execute(query).read_all())
    return [list(row.values()) for row in rows.to_pylist()]
