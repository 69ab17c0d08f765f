"""What `session_corrections` must have, by the versions of `sessionized_events`, in plain Python.

It shares no code with the product, except for where the tables are.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from datetime import datetime
from typing import NamedTuple

from deltalake import DeltaTable

from sessions_dagster.storage.filesystem import delta_rs_options
from sessions_dagster.storage.warehouse import Warehouse
from sessions_dagster_tests.builders import read_without_spark, sessionized_events
from sessions_dagster_tests.oracle import SessionizedEvent

Span = tuple[datetime, datetime]


class Correction(NamedTuple):
    """What became of a session."""

    user: str
    product: str
    kind: str
    old: Span
    new: Span | None


Entry = tuple[int, Correction]
"""A correction, after the version of `sessionized_events` that made it."""


class Compared(NamedTuple):
    """The entries that must be there, and those that are, with how often."""

    expected: Counter[Entry]
    found: Counter[Entry]

    @property
    def corrected_sessions(self) -> int:
        """How many sessions changed their bounds or disappeared."""
        return len({(version, each.user, each.product, each.old) for version, each in self.expected})

    @property
    def wrong(self) -> int:
        """How many entries are missing or too many. A wrong one counts as both."""
        return (self.expected - self.found).total() + (self.found - self.expected).total()


def corrections_between(
    before: Iterable[SessionizedEvent],
    after: Iterable[SessionizedEvent],
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
            found.add(Correction(user, product, "removed", old, None))
        for new in spans - {old}:
            is_merged = len(sources[user, product, new]) > 1
            kind = "split" if len(spans) > 1 else "merged" if is_merged else _alone(old, new)
            found.add(Correction(user, product, kind, old, new))
    return found


def _alone(old: Span, new: Span) -> str:
    return "extended" if new[0] <= old[0] and new[1] >= old[1] else "shrunk"


def compare_corrections(warehouse: Warehouse, user_actions: Collection[str] = ("a", "b", "c")) -> Compared:
    """Compare each version of the events with the one before it, and `session_corrections` with the differences."""
    uri = warehouse.sessionized_events
    expected: Counter[Entry] = Counter()
    before: list[SessionizedEvent] = []
    for version in range(DeltaTable(uri, storage_options=delta_rs_options(uri)).version() + 1):
        after = sessionized_events(uri, version)
        expected.update((version, each) for each in corrections_between(before, after, user_actions))
        before = after
    return Compared(expected, Counter(entries(warehouse.session_corrections)))


def entries(session_corrections: str) -> list[Entry]:
    """The rows of `session_corrections`; none if there is no such table."""
    columns = (
        *("sessionized_events_version", "user_id", "product_code", "kind"),
        *("old_start_ts", "old_end_ts", "new_start_ts", "new_end_ts"),
    )
    return [
        (version, Correction(user, product, kind, (*old,), None if new[0] is None else (*new,)))
        for version, user, product, kind, *bounds in read_without_spark(session_corrections, columns)
        for old, new in [(bounds[:2], bounds[2:])]
    ]
