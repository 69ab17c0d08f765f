"""One line about what a step did, for the logs and for the command line."""

from collections.abc import Sequence
from datetime import date

from sessions_dagster.input.folders import left_out_line
from sessions_dagster.model.counts import number_of
from sessions_dagster.model.dates import date_list
from sessions_dagster.pipeline.apply import ApplyReport
from sessions_dagster.pipeline.forget import ForgetReport
from sessions_dagster.pipeline.land import LandingReport
from sessions_dagster.pipeline.refresh_sessions import SessionsReport


def landing_summary(report: LandingReport) -> str:
    """What landing one batch did, without its name."""
    rows = f"{number_of(report.accepted, 'row')}, {sum(report.rejected.values()):,} rejected, {report.seconds:.1f} s"
    return f"{rows}{left_out_line(report.left_out)}"


def apply_summary(report: ApplyReport) -> str:
    """What applying the batches of a window did."""
    if not report.applied:
        batches = number_of(len(report.present), "landed batch", "landed batches")
        return f"the table already reflects the window: {batches}"
    rows = ", ".join(
        f"{number_of(sum(changes.values()), 'row')} {what}"
        for what, changes in (("inserted", report.inserted), ("updated", report.updated), ("deleted", report.deleted))
    )
    batches = number_of(len(report.applied), "batch", "batches")
    return f"applied {batches} ({date_list(report.applied)}): {rows}, {report.seconds:.1f} s"


def never_applied_line(days: Sequence[date], first_partition: date) -> str:
    """Names landed batches that no run applies, because the start date was moved past them."""
    return (
        f"These batches have landed and are not applied, and no run applies them, because they are before the first "
        f"partition ({first_partition}): {date_list(days)}. To have them applied, move the start date back and "
        "materialize sessionized_events for these days."
    )


def refresh_summary(report: SessionsReport) -> str:
    """What refreshing `sessions` did."""
    if not report.committed:
        return f"sessions already reflects version {report.events_version} of sessionized_events"
    sessions, dates = number_of(report.rebuilt, "session"), number_of(len(report.changed_dates), "changed date")
    return (
        f"sessions reflects version {report.events_version} of sessionized_events: {sessions} rebuilt on {dates}, "
        f"{report.seconds:.1f} s"
    )


def forget_summary(report: ForgetReport) -> str:
    """What forgetting users did. It names nobody."""
    users = number_of(report.listed, "user")
    if not report.listed:
        return "nobody is on the list of forgotten users"
    if not any(report.removed.values()):
        return f"no table has a row of the {users} on the list, {report.seconds:.1f} s"
    rows = ", ".join(f"{rows:,} from {uri.rpartition('/')[2]}" for uri, rows in report.removed.items() if rows)
    return f"removed rows of the {users} on the list: {rows}, {report.seconds:.1f} s"
