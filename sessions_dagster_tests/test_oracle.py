"""The oracle itself, compared with results worked out by hand: other tests are only as good as the oracle."""

from datetime import datetime, timedelta

from sessions_dagster_tests.oracle import Event, SessionizedEvent, sessionize

NINE = datetime(2025, 9, 18, 9)


def _at(minutes: float, event: str = "a") -> Event:
    return Event("ada", event, "idea", NINE + timedelta(minutes=minutes))


def _bounds(*events: Event) -> list[tuple[float, float] | None]:
    """The session of each event, as minutes after nine."""
    found = {(row.at, row.event): row for row in sessionize(events)}
    return [_in_minutes(found[event.at, event.event]) for event in events]


def _in_minutes(row: SessionizedEvent) -> tuple[float, float] | None:
    if row.start is None or row.end is None:
        return None
    return (row.start - NINE) / timedelta(minutes=1), (row.end - NINE) / timedelta(minutes=1)


def test_a_single_user_action_is_a_session_of_five_minutes() -> None:
    assert _bounds(_at(0)) == [(0, 5)]


def test_a_gap_of_five_minutes_splits_and_a_microsecond_less_does_not() -> None:
    assert _bounds(_at(0), _at(5)) == [(0, 5), (5, 10)]
    just_before = _at(5)._replace(at=NINE + timedelta(minutes=5, microseconds=-1))
    assert len(set(_bounds(_at(0), just_before))) == 1


def test_an_ide_event_at_the_end_belongs_to_the_session_but_a_later_one_does_not() -> None:
    assert _bounds(_at(0), _at(5, "x"), _at(5.1, "x")) == [(0, 5), (0, 5), None]


def test_the_instant_between_two_sessions_belongs_to_the_later_one() -> None:
    assert _bounds(_at(0), _at(5), _at(5, "x")) == [(0, 5), (5, 10), (5, 10)]


def test_a_duplicate_event_counts_once() -> None:
    assert len(sessionize([_at(0), _at(0)])) == 1
