"""The lines about what a step did, as the logs and the command have them."""

from datetime import date, timedelta

import pytest

from sessions_dagster.pipeline.refresh_sessions import SessionsReport
from sessions_dagster.pipeline.summaries import refresh_summary


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
