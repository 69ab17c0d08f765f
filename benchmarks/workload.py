"""The standard workload: seeded batches of IDE events, as Parquet folders `date=YYYY-MM-DD/`.

A workload has n events a day of n/20 users, a few of whom are very active, in 4 products. Visits have about 25 events
with exponential gaps of 60 s on average. There are 11 event ids, 3 of which are user actions. 5% of the events arrive 1
to 5 days late, uniformly distributed, and 0.5% are delivered again by a later batch. This module makes batches and does
not read any.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

EVENT_IDS: Final = ("a", "b", "c", "t", "u", "v", "w", "x", "y", "z", "d")
PRODUCTS: Final = ("idea", "pyc", "webstorm", "goland")
EVENTS_PER_USER: Final = 20
EVENTS_PER_VISIT: Final = 25
MEAN_GAP_US: Final = 60_000_000
LATE_SHARE: Final = 0.05
DUPLICATE_SHARE: Final = 0.005
MAX_LATENESS_DAYS: Final = 5

CORRECTED_SHARE: Final = 0.05
"""Share of the rows of a batch that its sender replaces in a correction."""

HOT_USER: Final = "user-hot"
HOT_SHARE: Final = 0.5
WHOLE_DAY: Final = range(24)
ONE_HOUR: Final = range(12, 13)
"""The hours of the day in which the hot user is active (UTC)."""

_DAY_US: Final = 86_400_000_000
_DELIVERY_DAYS: Final = MAX_LATENESS_DAYS + 1
"""Days after the start of a visit until its last events are delivered: it may pass midnight, and be late then."""
_MIN_ROWS_PER_FILE: Final = 100_000
_MAX_FILES: Final = 8

Numbers = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Workload:
    """The parameters that determine every batch.

    Attributes:
        events_per_day: Events a day.
        first_day: The first day with events. The first batches therefore bring fewer late events.
        seed: The seed of the random numbers.
    """

    events_per_day: int
    first_day: date = date(2025, 1, 1)
    seed: int = 1

    def days(self, count: int, start: int = 0) -> list[date]:
        """Return consecutive days, beginning `start` days after the first day of the workload."""
        return [self.first_day + timedelta(days=start + offset) for offset in range(count)]


@dataclass(frozen=True)
class Deliveries:
    """Events with the batches that deliver them, as parallel arrays.

    Users, products and events are numbers. Times are microseconds since 1970 (UTC), batch days are days since 1970.
    """

    user: Numbers
    product: Numbers
    event: Numbers
    time_us: Numbers
    batch_day: Numbers

    @property
    def count(self) -> int:
        """Number of deliveries."""
        return int(self.time_us.size)

    def where(self, chosen: Numbers) -> "Deliveries":
        """Return the deliveries that a mask selects."""
        return Deliveries(*(column[chosen] for column in self._columns()))

    def by_batch(self) -> dict[int, "Deliveries"]:
        """Return the deliveries of each batch day."""
        return {int(day): self.where(self.batch_day == day) for day in np.unique(self.batch_day)}

    @staticmethod
    def joined(parts: Sequence["Deliveries"]) -> "Deliveries":
        """Concatenate deliveries in the given order."""
        return Deliveries(*(np.concatenate(columns) for columns in zip(*(p._columns() for p in parts), strict=True)))

    def _columns(self) -> tuple[Numbers, ...]:
        return self.user, self.product, self.event, self.time_us, self.batch_day


def events_of_day(workload: Workload, day: date) -> Deliveries:
    """Return the events of all visits that start on a day. The result depends on the arguments only."""
    rng = np.random.default_rng([workload.seed, _day_number(day)])
    visits = max(1, workload.events_per_day // EVENTS_PER_VISIT)
    visit_lengths = rng.geometric(1 / EVENTS_PER_VISIT, visits)
    visit = np.repeat(np.arange(visits), visit_lengths)
    since_first_gap = np.cumsum(rng.exponential(MEAN_GAP_US, visit.size).astype(np.int64))
    first_of_visit = np.concatenate(([0], np.cumsum(visit_lengths)[:-1]))
    offset = since_first_gap - since_first_gap[first_of_visit][visit]
    start = _day_number(day) * _DAY_US + rng.integers(0, _DAY_US, visits)
    time_us = start[visit] + offset
    user = _heavy_tailed_users(rng, visits, workload)[visit]
    product = rng.integers(0, len(PRODUCTS), visits, dtype=np.int8)[visit]
    event = rng.integers(0, len(EVENT_IDS), visit.size, dtype=np.int8)

    late = rng.random(visit.size) < LATE_SHARE
    lateness = np.where(late, rng.integers(1, MAX_LATENESS_DAYS + 1, visit.size), 0)
    again = (rng.random(visit.size) < DUPLICATE_SHARE) & (lateness < MAX_LATENESS_DAYS)
    again_lateness = rng.integers(lateness[again] + 1, MAX_LATENESS_DAYS + 1)
    event_day = time_us // _DAY_US
    once = Deliveries(user, product, event, time_us, (event_day + lateness).astype(np.int32))
    twice = once.where(again)
    later = (event_day[again] + again_lateness).astype(np.int32)
    return Deliveries.joined([once, Deliveries(twice.user, twice.product, twice.event, twice.time_us, later)])


def batches(workload: Workload, days: Sequence[date]) -> Iterator[tuple[date, Deliveries]]:
    """Yield the batches of consecutive days, one by one."""
    waiting: dict[int, list[Deliveries]] = defaultdict(list)
    begin = max(workload.first_day, days[0] - timedelta(days=_DELIVERY_DAYS))
    for day in (begin + timedelta(days=offset) for offset in range((days[-1] - begin).days + 1)):
        for batch_day, part in events_of_day(workload, day).by_batch().items():
            waiting[batch_day].append(part)
        batch = Deliveries.joined(waiting.pop(_day_number(day)))
        if day >= days[0]:
            yield day, batch


def write_batches(workload: Workload, days: Sequence[date], folder: Path) -> Path:
    """Write the batches of consecutive days, except those that exist already.

    Args:
        workload: The parameters of the batches.
        days: The days of the batches.
        folder: The folder for all inputs. Each workload and each version of this module has its own subfolder.

    Returns:
        The input root.
    """
    version = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]
    of_workload = f"{workload.events_per_day}-a-day-from-{workload.first_day.isoformat()}-seed-{workload.seed}"
    input_root = folder / f"{of_workload}-{version}"
    missing = [day for day in days if not _batch_folder(input_root, day).exists()]
    if missing:
        for day, deliveries in batches(workload, [day for day in days if missing[0] <= day <= missing[-1]]):
            if day in missing:
                write_batch(as_table(deliveries), input_root, day)
    return input_root


def as_table(deliveries: Deliveries) -> pa.Table:
    """Return a table with the columns `user_id`, `event_id`, `timestamp` (microseconds, UTC) and `product_code`."""
    return pa.table(
        {
            "user_id": pc.binary_join_element_wise("user", pa.array(deliveries.user).cast(pa.string()), "-"),
            "event_id": pa.array(EVENT_IDS).take(pa.array(deliveries.event)),
            "timestamp": pa.array(deliveries.time_us, pa.timestamp("us", tz="UTC")),
            "product_code": pa.array(PRODUCTS).take(pa.array(deliveries.product)),
        }
    )


def with_hot_user(batch: pa.Table, day: date, hours: range = WHOLE_DAY) -> pa.Table:
    """Return a batch of the same size in which half of the events belong to one user, in one product.

    Only events of the batch's own day are given to that user, so that late events correct the same rows as before.

    Args:
        batch: Any batch of a workload.
        day: The day of the batch.
        hours: The hours of the day in which the user is active. The times of the user's events are scaled into them.
    """
    rng = np.random.default_rng(_day_number(day))
    on_time = np.flatnonzero(pc.equal(pc.cast(batch["timestamp"], pa.date32()), pa.scalar(day)).to_numpy())
    hot = np.zeros(batch.num_rows, dtype=bool)
    hot[rng.choice(on_time, int(batch.num_rows * HOT_SHARE), replace=False)] = True
    times = _squeezed(batch["timestamp"], day, hours)
    for name, value in {"user_id": HOT_USER, "product_code": PRODUCTS[0], "timestamp": times}.items():
        column = pc.if_else(pa.array(hot), value, batch[name])
        batch = batch.set_column(batch.schema.get_field_index(name), name, column)
    return batch


def with_others(batch: pa.Table, workload: Workload, day: date) -> pa.Table:
    """Return a batch as its sender corrects it: some rows are retracted, and as many new ones are added.

    Args:
        batch: The batch of a workload.
        workload: The workload.
        day: The day of the batch.
    """
    rng = np.random.default_rng(_day_number(day))
    # Another seed gives events with the same lateness, but from visits that are not in any batch yet.
    ((_, deliveries),) = batches(replace(workload, seed=workload.seed + 1), [day])
    kept, retracted = np.split(rng.permutation(batch.num_rows), [-round(batch.num_rows * CORRECTED_SHARE)])
    others = as_table(deliveries).take(pa.array(rng.choice(deliveries.count, retracted.size, replace=False)))
    return pa.concat_tables([batch.take(pa.array(kept)), others])


def write_batch(batch: pa.Table, input_root: Path, day: date) -> None:
    """Write a batch as a few Parquet files, in random order, as events arrive."""
    folder = _batch_folder(input_root, day)
    unfinished = folder.with_name(f".{folder.name}")
    unfinished.mkdir(parents=True, exist_ok=True)
    shuffled = batch.take(pa.array(np.random.default_rng(_day_number(day)).permutation(batch.num_rows)))
    files = min(_MAX_FILES, max(1, batch.num_rows // _MIN_ROWS_PER_FILE))
    rows_per_file = max(1, -(-batch.num_rows // files))
    for number in range(files):
        part = shuffled.slice(number * rows_per_file, rows_per_file)
        pq.write_table(part, unfinished / f"part-{number:02}.parquet", compression="zstd")
    unfinished.rename(folder)


def _batch_folder(input_root: Path, day: date) -> Path:
    return input_root / f"date={day.isoformat()}"


def _squeezed(times: pa.ChunkedArray, day: date, hours: range) -> pa.Array:
    """Scale the times of a day into some of its hours. The results for times of other days are meaningless."""
    midnight, hour_us = _day_number(day) * _DAY_US, _DAY_US // 24
    since_midnight = pc.cast(times, pa.int64()).to_numpy() - midnight
    squeezed = midnight + hours.start * hour_us + since_midnight * len(hours) // 24
    return pa.array(squeezed, pa.timestamp("us", tz="UTC"))


def _day_number(day: date) -> int:
    return (day - date(1970, 1, 1)).days


def _heavy_tailed_users(rng: np.random.Generator, visits: int, workload: Workload) -> Numbers:
    """Return a user number for each visit. Squared uniform numbers are mostly low, so few users get most visits."""
    users = max(1, workload.events_per_day // EVENTS_PER_USER)
    return (rng.random(visits) ** 2 * users).astype(np.int32)
