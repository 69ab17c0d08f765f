"""The standard workload: seeded batches of IDE events, as Parquet folders `date=YYYY-MM-DD/`.

n events a day; n/20 users with a heavy tail; 4 products; visits of about 25 events with exponential gaps of mean
60 s; 11 event ids, 3 of them user actions; 5% of the events 1 to 5 days late, uniformly; 0.5% delivered again by a
later batch. Here belongs what makes batches, and nothing that reads them.
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
"""Of the rows of a batch, where its sender corrects it."""

HOT_USER: Final = "user-hot"
HOT_SHARE: Final = 0.5
WHOLE_DAY: Final = range(24)
ONE_HOUR: Final = range(12, 13)
"""When the hot user is at work, in hours of the day (UTC)."""

_DAY_US: Final = 86_400_000_000
_REACH_DAYS: Final = MAX_LATENESS_DAYS + 1
"""How long after its start a visit can still have events delivered: it may run past a midnight, and be late then."""
_ROWS_WORTH_A_FILE: Final = 100_000
_MAX_FILES: Final = 8

Numbers = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Workload:
    """What decides every batch.

    Attributes:
        events_per_day: n.
        first_day: Nothing happens before it, so the first batches bring fewer late events.
        seed: Another seed, other events.
    """

    events_per_day: int
    first_day: date = date(2025, 1, 1)
    seed: int = 1

    def days(self, count: int, start: int = 0) -> list[date]:
        """Consecutive days, the first of them `start` days after the first day of the workload."""
        return [self.first_day + timedelta(days=start + offset) for offset in range(count)]


@dataclass(frozen=True)
class Deliveries:
    """Events with the batches that bring them: parallel arrays, times in microseconds since 1970 (UTC).

    Users, products and events are numbers; batch days are days since 1970.
    """

    user: Numbers
    product: Numbers
    event: Numbers
    time_us: Numbers
    batch_day: Numbers

    @property
    def count(self) -> int:
        """How many events."""
        return int(self.time_us.size)

    def where(self, chosen: Numbers) -> "Deliveries":
        """Those with true in a mask."""
        return Deliveries(*(column[chosen] for column in self._columns()))

    def by_batch(self) -> dict[int, "Deliveries"]:
        """The deliveries of each batch day."""
        return {int(day): self.where(self.batch_day == day) for day in np.unique(self.batch_day)}

    @staticmethod
    def joined(parts: Sequence["Deliveries"]) -> "Deliveries":
        """All of them, in the order given."""
        return Deliveries(*(np.concatenate(columns) for columns in zip(*(p._columns() for p in parts), strict=True)))

    def _columns(self) -> tuple[Numbers, ...]:
        return self.user, self.product, self.event, self.time_us, self.batch_day


def events_of_day(workload: Workload, day: date) -> Deliveries:
    """All visits that start on a day, dealt to batches; a function of the arguments alone."""
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
    """The batches of consecutive days, one after the other."""
    waiting: dict[int, list[Deliveries]] = defaultdict(list)
    begin = max(workload.first_day, days[0] - timedelta(days=_REACH_DAYS))
    for day in (begin + timedelta(days=offset) for offset in range((days[-1] - begin).days + 1)):
        for batch_day, part in events_of_day(workload, day).by_batch().items():
            waiting[batch_day].append(part)
        batch = Deliveries.joined(waiting.pop(_day_number(day)))
        if day >= days[0]:
            yield day, batch


def write_batches(workload: Workload, days: Sequence[date], folder: Path) -> Path:
    """Write the batches of consecutive days, except those that were written before.

    Args:
        workload: What is in them.
        days: The batches.
        folder: Where inputs are kept. Those of another workload, or of another version of this module, lie beside.

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
    """`user_id, event_id, timestamp, product_code`: three strings and a timestamp (microseconds, UTC)."""
    return pa.table(
        {
            "user_id": pc.binary_join_element_wise("user", pa.array(deliveries.user).cast(pa.string()), "-"),
            "event_id": pa.array(EVENT_IDS).take(pa.array(deliveries.event)),
            "timestamp": pa.array(deliveries.time_us, pa.timestamp("us", tz="UTC")),
            "product_code": pa.array(PRODUCTS).take(pa.array(deliveries.product)),
        }
    )


def with_hot_user(batch: pa.Table, day: date, hours: range = WHOLE_DAY) -> pa.Table:
    """A batch of the same size with half of its events from one user, in one product.

    Only events of the batch's own day change hands, so that the late ones correct the same rows as before.

    Args:
        batch: Any batch of a workload.
        day: Its day.
        hours: The hours of that day in which the user is at work; the day that the events had is shrunk to them.
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
    """A batch as its sender corrects it: some of its rows are gone, and as many others have come.

    Args:
        batch: The batch of a workload.
        workload: That one.
        day: The day of the batch.
    """
    rng = np.random.default_rng(_day_number(day))
    # Of another seed, and so as late as those that go, but from visits that nobody has seen anything of.
    ((_, deliveries),) = batches(replace(workload, seed=workload.seed + 1), [day])
    kept, gone = np.split(rng.permutation(batch.num_rows), [-round(batch.num_rows * CORRECTED_SHARE)])
    others = as_table(deliveries).take(pa.array(rng.choice(deliveries.count, gone.size, replace=False)))
    return pa.concat_tables([batch.take(pa.array(kept)), others])


def write_batch(batch: pa.Table, input_root: Path, day: date) -> None:
    """Write a batch in arrival order (shuffled), as a handful of Parquet files."""
    folder = _batch_folder(input_root, day)
    unfinished = folder.with_name(f".{folder.name}")
    unfinished.mkdir(parents=True, exist_ok=True)
    shuffled = batch.take(pa.array(np.random.default_rng(_day_number(day)).permutation(batch.num_rows)))
    files = min(_MAX_FILES, max(1, batch.num_rows // _ROWS_WORTH_A_FILE))
    rows_per_file = max(1, -(-batch.num_rows // files))
    for number in range(files):
        part = shuffled.slice(number * rows_per_file, rows_per_file)
        pq.write_table(part, unfinished / f"part-{number:02}.parquet", compression="zstd")
    unfinished.rename(folder)


def _batch_folder(input_root: Path, day: date) -> Path:
    return input_root / f"date={day.isoformat()}"


def _squeezed(times: pa.ChunkedArray, day: date, hours: range) -> pa.Array:
    """The times of a day (timestamp) as if it had some of its hours only; those of other days may become any."""
    midnight, hour_us = _day_number(day) * _DAY_US, _DAY_US // 24
    since_midnight = pc.cast(times, pa.int64()).to_numpy() - midnight
    squeezed = midnight + hours.start * hour_us + since_midnight * len(hours) // 24
    return pa.array(squeezed, pa.timestamp("us", tz="UTC"))


def _day_number(day: date) -> int:
    return (day - date(1970, 1, 1)).days


def _heavy_tailed_users(rng: np.random.Generator, visits: int, workload: Workload) -> Numbers:
    """User numbers, a few of them very busy: a squared uniform variable favours the low numbers."""
    users = max(1, workload.events_per_day // EVENTS_PER_USER)
    return (rng.random(visits) ** 2 * users).astype(np.int32)
