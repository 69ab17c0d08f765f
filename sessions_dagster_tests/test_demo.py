"""The demo's week: what it delivers is what it says it delivers, within the rules of landing. No Spark needed."""

from collections import Counter
from datetime import UTC, date, datetime
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq

from sessions_dagster.demo import story
from sessions_dagster.demo.changes import Event, Snapshot, corrections, row_changes
from sessions_dagster.demo.story import Delivery
from sessions_dagster.demo.telling import reason
from sessions_dagster.model.columns import DELIVERED_BY, EVENT, PRODUCT, SESSION_END, SESSION_START, TIMESTAMP, USER
from sessions_dagster.model.rules import SessionRules

RULES = SessionRules()


def time_of(row: Delivery) -> datetime | None:
    """The row's timestamp, None where it is none."""
    try:
        return datetime.strptime(row.timestamp or "", "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        return None


def verdict(day: date, row: Delivery) -> str:
    """What the rules of landing say of a row, in our own words."""
    if not (row.user_id and row.event_id and row.product_code):
        return "empty key"
    at = time_of(row)
    if at is None:
        return "no timestamp"
    if at.date() > day:
        return "from the future"
    return "too old" if at.date() < RULES.first_event_date(day) else "accepted"


def accepted() -> list[tuple[date, Delivery, datetime]]:
    """The rows of the week that landing accepts, each with its batch before it and its time after it."""
    rows = [(day, row) for day, batch in story.batches().items() for row in batch if verdict(day, row) == "accepted"]
    return [(day, row, at) for day, row in rows if (at := time_of(row)) is not None]


def test_every_run_makes_the_same_batches() -> None:
    assert story.batches() == story.batches()


def test_the_week_is_seven_batches_and_small() -> None:
    assert list(story.batches()) == [date(2025, 9, day) for day in range(15, 22)]
    assert sum(map(len, story.batches().values())) < 600


def test_everybody_of_the_cast_appears() -> None:
    users = {row.user_id for rows in story.batches().values() for row in rows}
    assert users - {None} == {*story.CAST, *story.REGULARS}


def test_one_row_is_rejected_for_each_reason() -> None:
    verdicts = Counter(verdict(day, row) for day, rows in story.batches().items() for row in rows)
    del verdicts["accepted"]
    assert verdicts == {"empty key": 1, "no timestamp": 1, "from the future": 1, "too old": 1}


def test_an_event_comes_as_late_as_it_may() -> None:
    assert max((day - at.date()).days for day, _, at in accepted()) == RULES.lateness_days


def test_an_event_is_delivered_twice_in_one_batch_and_another_in_two_batches() -> None:
    twice = {row for row, count in Counter(row for _, row, _ in accepted()).items() if count > 1}
    batches_of = [{day for day, other, _ in accepted() if other == row} for row in twice]
    assert sorted(map(len, batches_of)) == [1, 2]


def test_dmitri_is_never_idle_as_long_as_the_timeout_over_two_midnights() -> None:
    times = sorted(at for _, row, at in accepted() if row.user_id == "dmitri")
    assert all(later - earlier < RULES.timeout for earlier, later in pairwise(times))
    assert (times[-1].date() - times[0].date()).days == 2


def test_the_corrected_batch_lacks_one_user_action_and_nothing_else() -> None:
    first, again = story.batches()[story.CORRECTED], story.corrected_batch()
    (gone,) = (Counter(first) - Counter(again)).elements()
    assert gone.event_id in RULES.user_action_ids
    assert not Counter(again) - Counter(first)


def test_a_batch_is_written_as_text_in_place_of_the_one_before(tmp_path: Path) -> None:
    for rows in (story.batches()[story.CORRECTED], story.corrected_batch()):
        story.write_batch(tmp_path, story.CORRECTED, rows)
    (file,) = (tmp_path / "date=2025-09-19").iterdir()
    written = pq.ParquetFile(file).read().to_pylist()
    assert [tuple(row.values()) for row in written] == [
        (row.user_id, row.event_id, row.product_code, row.timestamp) for row in story.corrected_batch()
    ]
    assert list(written[0]) == [USER, EVENT, PRODUCT, TIMESTAMP]


def u(time: str) -> datetime:
    """A time of 2025-09-17."""
    return datetime.fromisoformat(f"2025-09-17T{time}+00:00")


def held(*rows: tuple[str, str, str | None, str | None], delivered_by: int = 1) -> Snapshot:
    """Rows of one key, each as event id, time, session start and end."""
    return Snapshot.of_rows(
        {
            USER: "bruno",
            PRODUCT: "idea",
            EVENT: event_id,
            TIMESTAMP: u(at),
            SESSION_START: start and u(start),
            SESSION_END: end and u(end),
            DELIVERED_BY: delivered_by,
        }
        for event_id, at, start, end in rows
    )


APART = held(
    ("a", "14:00:00", "14:00:00", "14:05:00"),
    ("x", "14:06:00", None, None),
    ("a", "14:08:00", "14:08:00", "14:13:00"),
)
TOGETHER = held(
    ("a", "14:00:00", "14:00:00", "14:13:00"),
    ("b", "14:04:00", "14:00:00", "14:13:00"),
    ("x", "14:06:00", "14:00:00", "14:13:00"),
    ("a", "14:08:00", "14:00:00", "14:13:00"),
    delivered_by=4,
)


def told(before: Snapshot, after: Snapshot) -> list[str]:
    return [reason(correction, RULES.user_action_ids) for correction in corrections(before, after)]


def test_joined_sessions_are_told_with_the_late_event_and_what_it_drew_in() -> None:
    assert told(APART, TOGETHER) == ["joined: b 14:04:00 came 2 days late; x 14:06:00 now inside"]


def test_a_split_session_is_told_with_the_event_that_is_gone_and_what_was_left_out() -> None:
    assert told(TOGETHER, APART) == ["split: b 14:04:00 no longer delivered; x 14:06:00 now outside"]


def test_sessions_that_only_touch_are_told_apart() -> None:
    touching = held(("a", "14:00:00", "14:00:00", "14:05:00"), ("b", "14:05:00", "14:05:00", "14:10:00"))
    assert told(Snapshot({}), touching) == ["new: a 14:00:00 came on time", "new: b 14:05:00 came on time"]


def test_nothing_is_told_of_sessions_that_stay() -> None:
    assert told(APART, APART) == []


def test_rows_are_compared_by_all_that_the_table_says_of_them() -> None:
    changes = row_changes(APART, TOGETHER)
    assert (len(changes.inserted), len(changes.updated), len(changes.deleted)) == (1, 3, 0)


def test_an_event_delivered_again_is_told_with_its_batch_bits() -> None:
    row = ("a", "14:00:00", "14:00:00", "14:05:00")
    changes = row_changes(held(row, delivered_by=1), held(row, delivered_by=3))
    assert changes.delivered_again == changes.updated == {Event("bruno", "idea", u("14:00:00"), "a")}
