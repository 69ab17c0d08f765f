"""The session rules: everything that decides which events form a session and how late an event may come.

A `sessionized_events` table keeps the rules it was built with as table properties (see `storage.sessionized_events`).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from sessions_dagster.model.dates import days_between

MAX_LATENESS_DAYS: Final = 30
"""A table notes which batches delivered an event in the bits of one number, and an integer has 31 of them to give."""

MAX_TIMEOUT: Final = timedelta(days=365)
"""Of every event that arrives, the events that are this near are looked at; a greater timeout is a slip."""


@dataclass(frozen=True)
class SessionRules:
    """The rules of the contract, sections "Session" and "Batch" of docs/contract.md.

    Attributes:
        timeout: Two consecutive user actions are in one session if and only if they are less than this apart; a
            session ends this long after its last user action.
        user_action_ids: The `event_id`s that start and extend sessions. Every other event is an IDE event.
        lateness_days: The batch of day D may bring events with event dates D - `lateness_days` .. D; 0 to 30.

    Raises:
        TypeError: If the timeout is no duration, the user action ids are no texts or a single one, or the lateness is
            not a whole number.
        ValueError: If the timeout is not positive or longer than a year, if there is no user action id or a blank one,
            or if the lateness is not between 0 and 30 days.
    """

    timeout: timedelta = timedelta(minutes=5)
    user_action_ids: frozenset[str] = frozenset({"a", "b", "c"})
    lateness_days: int = 5

    def __post_init__(self) -> None:
        if not isinstance(self.timeout, timedelta):
            raise TypeError(f"the session timeout must be a timedelta, not {self.timeout!r}")
        ids = self.user_action_ids
        if isinstance(ids, str) or not isinstance(ids, Iterable) or not all(isinstance(each, str) for each in ids):
            raise TypeError(f"user_action_ids must be a set of event ids, not {ids!r}")
        object.__setattr__(self, "user_action_ids", frozenset(ids))
        if not isinstance(self.lateness_days, int) or isinstance(self.lateness_days, bool):
            raise TypeError(f"lateness_days must be a whole number, not {self.lateness_days!r}")
        if not timedelta(0) < self.timeout <= MAX_TIMEOUT:
            raise ValueError(f"the session timeout must be positive and at most {MAX_TIMEOUT}, not {self.timeout}")
        if not self.user_action_ids or not all(map(str.strip, self.user_action_ids)):
            raise ValueError(f"user_action_ids needs at least one event id, and none that is blank, not {set(ids)}")
        if not 0 <= self.lateness_days <= MAX_LATENESS_DAYS:
            raise ValueError(f"lateness_days must be between 0 and {MAX_LATENESS_DAYS}, not {self.lateness_days}")

    def __str__(self) -> str:
        """The rules for a message."""
        actions = ", ".join(sorted(self.user_action_ids))
        return f"a timeout of {self.timeout}, user actions {actions} and {self.lateness_days} days of lateness"

    @property
    def timeout_us(self) -> int:
        """The timeout in whole microseconds, the unit in which times are compared."""
        return self.timeout // timedelta(microseconds=1)

    @property
    def timeout_days(self) -> int:
        """The number of midnights that the timeout can cross, at least 1."""
        return -(-self.timeout // timedelta(days=1))

    @property
    def latenesses(self) -> range:
        """The numbers of days by which an event can be late, 0 (on time) included."""
        return range(self.lateness_days + 1)

    def first_event_date(self, batch_date: date) -> date:
        """The oldest event date that a batch may deliver."""
        return batch_date - timedelta(days=self.lateness_days)

    def can_deliver(self, batch_date: date, event_date: date) -> bool:
        """Whether a batch may deliver events of an event date."""
        return self.first_event_date(batch_date) <= event_date <= batch_date

    def delivering_batches(self, event_dates: Iterable[date]) -> list[date]:
        """The dates of all batches that may deliver events of some dates, in order."""
        return sorted({day + timedelta(days=lateness) for day in event_dates for lateness in self.latenesses})

    def batch_window(self, first: date, last: date | None = None) -> list[date]:
        """The upstream window of some dates: all batches that are looked at to bring these dates up to date.

        Args:
            first: The first date.
            last: The last date; by default the first one.

        Returns:
            The dates `first - lateness_days` .. `last`, in order.
        """
        return days_between(self.first_event_date(first), last or first)

    def can_touch(self, batch_dates: Iterable[date], event_date: date) -> bool:
        """Whether an event of some batches (at least one) can change the session of an event of a date."""
        batches = sorted(batch_dates)
        reach = timedelta(days=self.timeout_days)
        return self.first_event_date(batches[0]) - reach <= event_date <= batches[-1] + reach
