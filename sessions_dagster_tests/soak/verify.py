"""What the tables must contain, by the oracle, beside what they contain. Everything is read without Spark."""

from collections import Counter
from collections.abc import Collection, Iterable

from sessions_dagster.model.columns import BATCH_DATE
from sessions_dagster.storage.warehouse import Warehouse
from sessions_dagster_tests.builders import (
    landed_events,
    read_without_spark,
    session_rows,
    sessionized_events,
    sessions_of,
)
from sessions_dagster_tests.oracle import sessionize
from sessions_dagster_tests.soak.story import Delivery


def wrong_rows(warehouse: Warehouse, landed: Collection[Delivery]) -> dict[str, int]:
    """How many rows of each table are missing, too many or wrong. A wrong row counts as one missing and one too many.

    Args:
        warehouse: The tables.
        landed: The newest content of each batch that has arrived.
    """
    events = [event for delivery in landed for event in delivery.events]
    expected = sessionize(events)
    rejected_days = [day for (day,) in read_without_spark(warehouse.rejected_events, (BATCH_DATE,))]
    return {
        "raw_events": _differences(landed_events(warehouse.raw_events), events),
        "rejected_events": _differences(rejected_days, [delivery.day for delivery in landed]),
        "sessionized_events": _differences(sessionized_events(warehouse.sessionized_events), expected),
        "sessions": _differences(session_rows(warehouse.sessions), sessions_of(expected)),
    }


def _differences(found: Iterable[object], expected: Iterable[object]) -> int:
    is_there, must_be = Counter(found), Counter(expected)
    return (is_there - must_be).total() + (must_be - is_there).total()
