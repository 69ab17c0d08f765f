"""The lines about what a step did, as the logs and the command have them."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessions_dagster.model.counts import number_of
from sessions_dagster.model.dates import counted, date_list, days_between
from sessions_dagster.model.rejects import RejectReason
from sessions_dagster.pipeline.apply import ApplyReport
from sessions_dagster.pipeline.land import LandingReport
from sessions_dagster.pipeline.refresh_sessions import SessionsReport
from sessions_dagster.pipeline.summaries import apply_summary, landing_summary, refresh_summary


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "0 sessions rebuilt on 0 changed dates"),
        (1, "1 session rebuilt on 1 changed date"),
        (2, "2 sessions rebuilt on 2 changed dates"),
    ],
)
def test_one_session_and_one_date_are_singular(count: int, said: str) -> None:
    days = tuple(date(2025, 9, 1) + timedelta(days=number) for number in range(count))
    report = SessionsReport(1, 1, committed=True, changed_dates=days, rebuilt=count, seconds=0.5)
    assert f": {said}, 0.5 s" in refresh_summary(report)


@pytest.mark.parametrize(("count", "said"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (1234, "1,234 rows")])
def test_one_row_is_singular(count: int, said: str) -> None:
    day = date(2025, 9, 1)
    rejected = {RejectReason.BOT: 1}
    landed = LandingReport(day, "x", (), 1, 1, (count,), rejected, 1, 1, seconds=0.5)
    assert landing_summary(landed) == f"{said}, 1 rejected, 0.5 s"
    assert apply_summary(ApplyReport(1, False, (), (day,))).endswith(": 1 landed batch")
    changes = {day: count}
    applied = ApplyReport(1, True, (day,), (day,), inserted=changes, updated=changes, deleted=changes, seconds=0.5)
    assert apply_summary(applied) == (
        f"applied 1 batch (2025-09-01): {said} inserted, {said} updated, {said} deleted, 0.5 s"
    )


@given(st.integers(0, 10**12), st.sampled_from([("row", None), ("batch", "batches"), ("changed session", None)]))
def test_only_one_of_a_thing_is_singular(count: int, names: tuple[str, str | None]) -> None:
    one, many = names
    number, name = number_of(count, one, many).split(" ", 1)
    assert int(number.replace(",", "")) == count
    assert name == (one if count == 1 else many or f"{one}s")


def test_days_are_counted_and_named() -> None:
    days = [date(2025, 9, 1), date(2025, 9, 2), date(2025, 9, 5)]
    assert counted(days[:1], "batch", "batches") == "1 batch (2025-09-01)"
    assert counted(days, "batch", "batches") == "3 batches (2025-09-01 to 2025-09-05)"


@given(st.sets(st.integers(0, 40)))
def test_dates_in_a_row_are_named_by_the_first_and_the_last(numbers: set[int]) -> None:
    days = {date(2025, 9, 1) + timedelta(days=number) for number in numbers}
    named = [[date.fromisoformat(end) for end in part.split("...")] for part in date_list(days).split(", ") if part]
    assert [day for ends in named for day in days_between(ends[0], ends[-1])] == sorted(days)
    assert not any(ends[-1] + timedelta(days=1) in days for ends in named)
