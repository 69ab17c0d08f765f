"""What an audit or a rebuild found, in lines for a terminal and for a log."""

from collections.abc import Iterator
from typing import Final

from sessions_dagster.errors import one_line
from sessions_dagster.model.counts import number_of
from sessions_dagster.model.dates import date_list, day_range
from sessions_dagster.pipeline.audit import AuditReport
from sessions_dagster.pipeline.comparison import SESSIONS, DateRange, Difference, Differences
from sessions_dagster.pipeline.rebuild import RebuildReport
from sessions_dagster.transforms.differences import DifferenceKind

COLUMNS: Final = (
    "kind",
    "table",
    "compared_with",
    "day",
    "user_id",
    "product_code",
    "event_id",
    "timestamp",
    "rows",
    "expected",
    "found",
)
"""The columns of the table of differences: the attributes of `Difference`."""

_CHANGES: Final = {
    DifferenceKind.MISSING: "added",
    DifferenceKind.EXTRA: "removed",
    DifferenceKind.DIFFERENT: "changed",
}
_DRY_RUN: Final = (
    "Nothing was written. To have the tables made anew: --apply on the command line, dry_run: false in the job."
)


def audit_lines(report: AuditReport) -> Iterator[str]:
    """What an audit found: a line for each comparison, and the first differences as a table."""
    days = days_compared(report.days)
    yield from count_lines(report.differences, days)
    if report.pending:
        yield f"landed and not applied yet: {date_list(report.pending)}"
    yield from difference_table(report.differences)


def rebuild_lines(report: RebuildReport) -> Iterator[str]:
    """What a rebuild changes, or would change: the rules, a line for each table, the first rows, and the next step."""
    if report.old_rules not in (None, report.rules):
        yield f"built with {report.old_rules}; rebuilt with {report.rules}"
    days = days_compared(report.days)
    for (table, _), kinds in report.differences.counts.items():
        what, many = ("session", "sessions") if table == SESSIONS else ("row", "rows")
        parts = [f"{number_of(kinds[kind], what, many)} {_CHANGES[kind]}" for kind in DifferenceKind if kind in kinds]
        yield f"{table}, {days}: {', '.join(parts) or 'nothing changes'}"
    yield from difference_table(report.differences)
    for day, rows in report.accepted_now.items():
        yield (
            f"batch {day}: {number_of(rows, 'row was', 'rows were')} rejected as too late and may be accepted by these "
            f"rules. Materialize raw_events and what follows for {day} once more, after the tables are rebuilt."
        )
    if report.count or report.old_rules != report.rules:
        yield f"The tables are rebuilt, {report.seconds:.1f} s." if report.is_applied else _DRY_RUN
    else:
        yield "The tables are what raw_events says."


def days_compared(days: DateRange | None) -> str:
    """Which days were compared, for a message."""
    return "all dates" if days is None else day_range(*days)


def count_lines(differences: Differences, days: str) -> Iterator[str]:
    """How many rows differ: a line for each comparison."""
    for (table, compared_with), kinds in differences.counts.items():
        said = ", ".join(f"{number_of(count, 'row')} {kind}" for kind, count in sorted(kinds.items()))
        yield f"{table} compared with {compared_with}, {days}: {said or 'no difference'}"


def difference_table(differences: Differences) -> Iterator[str]:
    """The first differences as a table of text; no line if there are none."""
    if not differences.first:
        return
    rows = [COLUMNS, *(cells(each) for each in differences.first)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def cells(difference: Difference) -> tuple[str, ...]:
    """A difference as the cells of a table, each on one line: an id may be any text."""
    values = (getattr(difference, name) for name in COLUMNS)
    return tuple("" if value is None else one_line(str(value)) for value in values)
