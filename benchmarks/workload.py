"""The standard workload: seeded batches of IDE events, as Parquet folders `date=YYYY-MM-DD/`.

n events a day; n/20 users with a heavy tail; 4 products; visits of about 25 events with exponential gaps of mean
60 s; 11 event ids, 3 of them user actions; 5% of the events 1 to 5 days late, uniformly; 0.5% delivered
again by a later batch.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

EVENT_IDS = pa.array(["a", "b", "c", "t", "u", "v", "w", "x", "y", "z", "d"])
PRODUCTS = pa.array(["idea", "pyc", "webstorm", "goland"])
EVENTS_PER_VISIT = 25
MEAN_GAP_US = 60_000_000
LATE_SHARE = 0.05
DUPLICATE_SHARE = 0.005
MAX_LATENESS_DAYS = 5
DAY_US = 86_400_000_000
FILES_PER_BATCH = 8


@dataclass(frozen=True)
class Deliveries:
    """Events of one day with the batches that bring them; parallel arrays, times in microseconds since 1970 (UTC)."""

    user: np.ndarray
    product: np.ndarray
    event: np.ndarray
    time_us: np.ndarray
    batch_day: np.ndarray

    def of_batch(self, day: int) -> "Deliveries":
        """The deliveries of the batch `day` (days since 1970)."""
        mine = self.batch_day == day
        return Deliveries(
            self.user[mine], self.product[mine], self.event[mine], self.time_us[mine], self.batch_day[mine]
        )


def day_number(day: date) -> int:
    """Days since 1970-01-01."""
    return (day - date(1970, 1, 1)).days


def _heavy_tailed_users(rng: np.random.Generator, visits: int, users: int) -> np.ndarray:
    """User numbers 0 .. users-1, a few of them very busy (a squared uniform variable favours the low numbers)."""
    return (rng.random(visits) ** 2 * users).astype(np.int64)


def events_of_day(day: date, events_per_day: int, seed: int) -> Deliveries:
    """All visits that start on `day`, dealt to batches; a function of the arguments alone."""
    rng = np.random.default_rng([seed, day_number(day)])
    users = max(1, events_per_day // 20)
    visits = max(1, events_per_day // EVENTS_PER_VISIT)
    visit_lengths = rng.geometric(1 / EVENTS_PER_VISIT, visits)
    visit = np.repeat(np.arange(visits), visit_lengths)
    gaps = rng.exponential(MEAN_GAP_US, visit.size).astype(np.int64)
    since_first_gap = np.cumsum(gaps)
    first_of_visit = np.concatenate(([0], np.cumsum(visit_lengths)[:-1]))
    offset = since_first_gap - since_first_gap[first_of_visit][visit]
    start = day_number(day) * DAY_US + rng.integers(0, DAY_US, visits)
    time_us = start[visit] + offset
    user = _heavy_tailed_users(rng, visits, users)[visit]
    product = rng.integers(0, len(PRODUCTS), visits)[visit]
    event = rng.integers(0, len(EVENT_IDS), visit.size)

    event_day = time_us // DAY_US
    late = rng.random(visit.size) < LATE_SHARE
    lateness = np.where(late, rng.integers(1, MAX_LATENESS_DAYS + 1, visit.size), 0)
    again = (rng.random(visit.size) < DUPLICATE_SHARE) & (lateness < MAX_LATENESS_DAYS)
    again_lateness = rng.integers(lateness[again] + 1, MAX_LATENESS_DAYS + 1)
    return Deliveries(
        np.concatenate((user, user[again])),
        np.concatenate((product, product[again])),
        np.concatenate((event, event[again])),
        np.concatenate((time_us, time_us[again])),
        np.concatenate((event_day + lateness, event_day[again] + again_lateness)),
    )


def batch(day: date, events_per_day: int, seed: int, first_day: date) -> Deliveries:
    """What the batch of `day` brings, given that nothing happened before `first_day`."""
    reach = MAX_LATENESS_DAYS + 2  # a visit may run past midnight, so its events may be of a later day than its start
    days = [day - timedelta(days=back) for back in range(reach) if day - timedelta(days=back) >= first_day]
    parts = [events_of_day(each, events_per_day, seed).of_batch(day_number(day)) for each in days]
    return Deliveries(
        np.concatenate([part.user for part in parts]),
        np.concatenate([part.product for part in parts]),
        np.concatenate([part.event for part in parts]),
        np.concatenate([part.time_us for part in parts]),
        np.concatenate([part.batch_day for part in parts]),
    )


def as_table(deliveries: Deliveries) -> pa.Table:
    """`user_id, event_id, timestamp, product_code`: three strings and a timestamp (microseconds, UTC)."""
    users = pa.array(deliveries.user)
    return pa.table(
        {
            "user_id": pa.compute.binary_join_element_wise("user-", users.cast(pa.string()), ""),
            "event_id": EVENT_IDS.take(pa.array(deliveries.event)),
            "timestamp": pa.array(deliveries.time_us, pa.timestamp("us", tz="UTC")),
            "product_code": PRODUCTS.take(pa.array(deliveries.product)),
        }
    )


def write_batch(deliveries: Deliveries, input_root: Path, day: date) -> Path:
    """Write a batch in arrival order (shuffled), as a handful of Parquet files; returns its folder."""
    folder = input_root / f"date={day.isoformat()}"
    folder.mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng(day_number(day)).permutation(deliveries.time_us.size)
    table = as_table(deliveries).take(pa.array(order))
    rows_per_file = -(-table.num_rows // FILES_PER_BATCH)
    for number in range(FILES_PER_BATCH):
        part = table.slice(number * rows_per_file, rows_per_file)
        pq.write_table(part, folder / f"part-{number:02}.parquet", compression="zstd")
    return folder
