"""What a partition looks like at a glance: Markdown with bars made of text."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

from sessions_dagster.pipeline.land import LandingReport
from sessions_dagster.quality.day_statistics import SESSION_MINUTES, DaySummary

_WIDTH: Final = 24


def batch_preview(report: LandingReport) -> str:
    """How late the rows of a batch came, as Markdown."""
    return f"**Rows of this batch, by lateness**\n\n{_lateness_bars(report.rows_by_lateness)}"


def day_preview(summary: DaySummary) -> str:
    """How long the sessions that start on a day are, and how late its events came, as Markdown."""
    return "\n\n".join(
        [
            "**Sessions that start on this day, by minutes**",
            _bars(dict(zip(_minutes(), summary.sessions_by_minutes, strict=True))),
            # Later batches still bring some, and do not materialize the day again.
            "**Events of this day so far, by lateness**",
            _lateness_bars(summary.rows_by_lateness),
        ]
    )


def _minutes() -> list[str]:
    return [f"{first} to {end}" for first, end in pairwise(SESSION_MINUTES)] + [f"{SESSION_MINUTES[-1]} or more"]


def _lateness_bars(rows: Sequence[int]) -> str:
    names = ["on time", "1 day", *(f"{days} days" for days in range(2, len(rows)))]
    return _bars(dict(zip(names[: len(rows)], rows, strict=True)))


def _bars(counts: Mapping[str, int]) -> str:
    longest, total = max(counts.values()), sum(counts.values())
    lines = ["| | count | share | |", "|---|---:|---:|---|"]
    for name, count in counts.items():
        # A count above 0 has a bar, however small it is.
        width = max(1, round(_WIDTH * count / longest)) if count else 0
        share = count / total if total else 0.0
        lines.append(f"| {name} | {count:,} | {share:.1%} | {'█' * width} |")
    return "\n".join(lines)
