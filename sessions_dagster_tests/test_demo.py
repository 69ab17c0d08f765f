"""The demo: its batches contain the problems that it describes, and its report explains changes. No Spark needed."""

from collections import Counter
from datetime import UTC, date, datetime
from itertools import pairwise
from pathlib import Path

import dagster as dg
import pyarrow.parquet as pq

from sessions_dagster.demo import story
from sessions_dagster.demo.changes import Event, Snapshot, corrections, row_changes
from sessions_dagster.demo.report import checks_line, reason
from sessions_dagster.demo.story import Delivery
from sessions_dagster.model.columns import DELIVERED_BY, EVENT, PRODUCT, SESSION_END, SESSION_START, TIMESTAMP, USER
from sessions_dagster.model.rules import SessionRules

RULES = SessionRules()


def time_of(row: Delivery) -> datetime | None:
    """The row's timestamp; None if it is invalid."""
    try:
        return datetime.strptime(row.timestamp or "", "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        return None


def verdict(day: date, row: Delivery) -> str:
    """Whether landing accepts a row, or why it rejects it, by rules that are written here once more."""
    if not (row.user_id and row.event_id and row.product_code):
        return "empty key"
    at = time_of(row)
    if at is None:
        return "no timestamp"
    if at.date() > day:
        return "from the future"
    return "too old" if at.date() < RULES.first_event_date(day) else "accepted"


def accepted() -> list[tuple[date, Delivery, datetime]]:
    """The rows of the week that landing accepts, as batch date, row and timestamp."""
    rows = [(day, row) for day, batch in story.batches().items() for row in batch if verdict(day, row) == "accepted"]
    return [(day, row, at) for day, row in rows if (at := time_of(row)) is not None]


def test_every_run_makes_the_same_batches() -> None:
    assert story.batches() == story.batches()


def test_the_week_has_seven_batches_and_less_than_600_rows() -> None:
    assert list(story.batches()) == [date(2025, 9, day) for day in range(15, 22)]
    assert sum(map(len, story.batches().values())) < 600


def test_every_member_of_the_cast_has_rows() -> None:
    users = {row.user_id for rows in story.batches().values() for row in rows}
    assert users - {None} == {*story.CAST, *story.REGULARS}


def test_one_row_is_rejected_for_each_reason() -> None:
    verdicts = Counter(verdict(day, row) for day, rows in story.batches().items() for row in rows)
    del verdicts["accepted"]
    assert verdicts == {"empty key": 1, "no timestamp": 1, "from the future": 1, "too old": 1}


def test_the_latest_event_has_the_maximum_lateness() -> None:
    assert max((day - at.date()).days for day, _, at in accepted()) == RULES.lateness_days


def test_one_event_is_twice_in_a_batch_and_another_one_is_in_two_batches() -> None:
    twice = {row for row, count in Counter(row for _, row, _ in accepted()).items() if count > 1}
    batches_of = [{day for day, other, _ in accepted() if other == row} for row in twice]
    assert sorted(map(len, batches_of)) == [1, 2]


def test_dmitri_has_one_session_over_two_midnights() -> None:
    times = sorted(at for _, row, at in accepted() if row.user_id == "dmitri")
    assert all(later - earlier < RULES.timeout for earlier, later in pairwise(times))
    assert (times[-1].date() - times[0].date()).days == 2


def test_the_corrected_batch_lacks_only_one_user_action() -> None:
    first, again = story.batches()[story.CORRECTED], story.corrected_batch()
    (retracted,) = (Counter(first) - Counter(again)).elements()
    assert retracted.event_id in RULES.user_action_ids
    assert not Counter(again) - Counter(first)


def test_a_batch_is_written_as_text_and_replaces_the_earlier_one(tmp_path: Path) -> None:
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


def rows_of_bruno(*rows: tuple[str, str, str | None, str | None], delivered_by: int = 1) -> Snapshot:
    """A snapshot of rows of one key, each given as event id, time, session start and end."""
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


APART = rows_of_bruno(
    ("a", "14:00:00", "14:00:00", "14:05:00"),
    ("x", "14:06:00", None, None),
    ("a", "14:08:00", "14:08:00", "14:13:00"),
)
TOGETHER = rows_of_bruno(
    ("a", "14:00:00", "14:00:00", "14:13:00"),
    ("b", "14:04:00", "14:00:00", "14:13:00"),
    ("x", "14:06:00", "14:00:00", "14:13:00"),
    ("a", "14:08:00", "14:00:00", "14:13:00"),
    delivered_by=4,
)


def reasons(before: Snapshot, after: Snapshot) -> list[str]:
    return [reason(correction, RULES.user_action_ids) for correction in corrections(before, after)]


def test_merged_sessions_are_reported_with_the_late_event_and_the_event_now_inside() -> None:
    assert reasons(APART, TOGETHER) == ["merged: b 14:04:00 came 2 days late; x 14:06:00 now inside"]


def test_a_split_session_is_reported_with_the_retracted_event_and_the_event_now_outside() -> None:
    assert reasons(TOGETHER, APART) == ["split: b 14:04:00 no longer delivered; x 14:06:00 now outside"]


def test_sessions_that_only_touch_are_reported_separately() -> None:
    touching = rows_of_bruno(("a", "14:00:00", "14:00:00", "14:05:00"), ("b", "14:05:00", "14:05:00", "14:10:00"))
    assert reasons(Snapshot({}), touching) == ["new: a 14:00:00 came on time", "new: b 14:05:00 came on time"]


def test_unchanged_sessions_are_not_reported() -> None:
    assert reasons(APART, APART) == []


def test_a_row_is_updated_if_its_session_or_its_batches_differ() -> None:
    changes = row_changes(APART, TOGETHER)
    assert (len(changes.inserted), len(changes.updated), len(changes.deleted)) == (1, 3, 0)


def test_an_event_is_delivered_again_if_it_has_a_new_batch_bit() -> None:
    row = ("a", "14:00:00", "14:00:00", "14:05:00")
    changes = row_changes(rows_of_bruno(row, delivered_by=1), rows_of_bruno(row, delivered_by=3))
    assert changes.delivered_again == changes.updated == {Event("bruno", "idea", u("14:00:00"), "a")}


def test_a_run_is_reported_with_the_checks_of_its_own_day() -> None:
    def evaluation(name: str, partition: str | None, *, passed: bool) -> dg.AssetCheckEvaluation:
        return dg.AssetCheckEvaluation(dg.AssetKey("x"), name, passed, metadata={}, partition=partition)

    of_others = [evaluation("late", "2025-09-16", passed=False), evaluation("all", None, passed=False)]
    of_day = [evaluation("a", "2025-09-15", passed=True), evaluation("b", "2025-09-15", passed=True)]
    assert checks_line([*of_others, *of_day], date(2025, 9, 15)) == "2 of 2 checks passed"
    wrong = evaluation("c", "2025-09-15", passed=False)
    assert checks_line([*of_day, wrong], date(2025, 9, 15)) == "2 of 3 checks passed, not c"
