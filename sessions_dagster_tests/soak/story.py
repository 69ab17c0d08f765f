"""What happens on each day of the soak, determined by a seed: which batches arrive, and what is done to the runs.

Here nothing is written or started.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from random import Random
from typing import Final

import pyarrow as pa

from benchmarks.workload import Workload, as_table, batches, with_others
from sessions_dagster_tests.oracle import Event

FIRST_DAY: Final = date(2025, 1, 1)

_WITHHELD: Final = 0.08
_MOST_DAYS_WITHHELD: Final = 3
_CORRECTED: Final = 0.15
_MOST_DAYS_UNTIL_CORRECTED: Final = 12
_KILLED: Final = 0.15
_MOST_SECONDS_UNTIL_KILLED: Final = 9.0
_COMPACTED_EVERY: Final = 5
_VACUUMED_EVERY: Final = 20

TOO_LATE: Final = timedelta(days=9)
"""How late one event of each batch is, which is more than the lateness rule allows."""


@dataclass(frozen=True)
class Delivery:
    """The content of a batch folder.

    Attributes:
        day: The day of the batch.
        events: Its events within the lateness rule, duplicates included.
        rejected: Its one event that is too late.
    """

    day: date
    events: tuple[Event, ...]
    rejected: Event


@dataclass(frozen=True)
class Step:
    """A day of the soak.

    Attributes:
        number: Which one, from 1.
        deliveries: The batches that arrive, of this day and of others.
        kill_after: The seconds after which the run is killed; None if it is left alone.
        compacts: Whether the job `compaction` runs at the end of the day.
        vacuums: Whether the job `vacuum` does.
    """

    number: int
    deliveries: tuple[Delivery, ...]
    kill_after: float | None
    compacts: bool
    vacuums: bool

    @property
    def is_ordinary(self) -> bool:
        """Whether one batch arrives and nothing happens to its run, so that the time of the day says something."""
        return len(self.deliveries) == 1 and self.kill_after is None


def story(days: int, events_per_day: int, seed: int) -> Iterator[Step]:
    """Yield the days in order.

    Args:
        days: How many.
        events_per_day: Roughly how many events each batch has.
        seed: Determines everything.
    """
    random = Random(seed)
    workload = Workload(events_per_day, FIRST_DAY, seed)
    tables = {day: as_table(deliveries) for day, deliveries in batches(workload, workload.days(days))}
    withheld: dict[date, int] = {}
    delivered: list[date] = []
    for number, day in enumerate(tables, start=1):
        left = days - number
        due = [each for each, until in withheld.items() if until <= number]
        for each in due:
            del withheld[each]
        if left > _MOST_DAYS_WITHHELD and delivered and random.random() < _WITHHELD:
            withheld[day] = number + random.randint(1, _MOST_DAYS_WITHHELD)
        else:
            due.append(day)
        arriving = {each: tables[each] for each in due}
        if delivered and random.random() < _CORRECTED:
            corrected = random.choice(delivered[-_MOST_DAYS_UNTIL_CORRECTED:])
            tables[corrected] = arriving[corrected] = with_others(tables[corrected], workload, corrected)
        delivered += due
        yield Step(
            number,
            tuple(_delivery(each, table) for each, table in arriving.items()),
            random.uniform(0, _MOST_SECONDS_UNTIL_KILLED) if arriving and random.random() < _KILLED else None,
            compacts=number % _COMPACTED_EVERY == 0,
            vacuums=number % _VACUUMED_EVERY == 0,
        )


def _delivery(day: date, table: pa.Table) -> Delivery:
    columns = [table.column(name).to_pylist() for name in ("user_id", "event_id", "product_code", "timestamp")]
    events = (
        Event(user, event, product, at.replace(tzinfo=None)) for user, event, product, at in zip(*columns, strict=True)
    )
    return Delivery(
        day, tuple(events), Event("late", "a", "idea", datetime.combine(day, datetime.min.time()) - TOO_LATE)
    )
