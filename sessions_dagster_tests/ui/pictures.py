"""`python -m sessions_dagster_tests.ui.pictures` takes the pictures of the README, from its own UI.

It shows the week of the demo, twice in a row and as if it ended two days ago: of the many days since the real one the
partition bar would be empty.
"""

import re
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from deltalake import DeltaTable
from playwright.sync_api import Locator, Page, expect

from sessions_dagster.defs.assets import RAW_EVENTS, SESSIONIZED_EVENTS
from sessions_dagster.defs.missing_batches import BATCHES_HAVE_LANDED
from sessions_dagster.demo import story
from sessions_dagster.demo.story import Delivery
from sessions_dagster.quality.events import Rule
from sessions_dagster_tests.ui.browser import open_browser
from sessions_dagster_tests.ui.clicks import (
    ASSETS,
    TICK_SECONDS,
    Ui,
    expect_finished,
    materialize_events,
    milliseconds,
    number_of,
    open_launched,
    open_partition,
    open_requested,
    show_check_of_asset,
    show_sensor,
    switch_sensor,
    ticks,
)
from sessions_dagster_tests.ui.server import REPOSITORY, DagsterDev, dagster_dev

PICTURES: Final = REPOSITORY / "docs" / "pictures"

_ONE_DAY: Final = timedelta(days=1)
_WEEK: Final = timedelta(weeks=1)

_WIDTH: Final = 1600
_HEIGHT: Final = 2400
"""Size of the page, tall enough to show a picture without scrolling."""

_MARGIN: Final = 16
_STILL_SECONDS: Final = 2
"""Time to wait for a plot, whose drawing is animated."""

_LEAVE_OUT: Final = """text => {
    const nodes = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (nodes.nextNode()) nodes.currentNode.data = nodes.currentNode.data.replaceAll(text, "");
}"""


@dataclass(frozen=True)
class _Studio:
    """The objects that every picture uses."""

    dagster: DagsterDev
    ui: Ui
    today: date

    @property
    def last_day(self) -> date:
        """The day of the demo's last batch."""
        return self.today - 2 * _ONE_DAY

    @property
    def broken_day(self) -> date:
        """The day with a batch that cannot be landed."""
        return self.today - _ONE_DAY

    @property
    def damaged_day(self) -> date:
        """The day with a session that gets a wrong end."""
        return self.last_day - (story.SUNDAY - story.WEDNESDAY)

    @property
    def page(self) -> Page:
        """The page that the pictures are taken from."""
        return self.ui.page


def main() -> None:
    """Take all pictures."""
    PICTURES.mkdir(exist_ok=True)
    today = datetime.now(UTC).date()
    first_day = today - _ONE_DAY - 2 * _WEEK
    with (
        TemporaryDirectory() as folder,
        # Otherwise yesterday's batch would only be overdue from noon on.
        dagster_dev(Path(folder).resolve(), first_day, deadline_hours=0) as dagster,
        open_browser(_WIDTH, _HEIGHT) as page,
    ):
        studio = _Studio(dagster, Ui(dagster.url, page), today)
        _land_two_weeks(studio)
        _take_asset_graph(studio)
        _take_plot(studio)
        _break_a_batch(studio)
        _take_partitions(studio)
        _take_sensor_tick(studio)
        _take_missing_batch(studio)
        _damage_a_session(studio)
        _take_failed_check(studio)


def _land_two_weeks(studio: _Studio) -> None:
    last_shift = studio.last_day - story.SUNDAY
    batches = {
        day + shift: [_moved(row, shift) for row in rows]
        for shift in (last_shift - _WEEK, last_shift)
        for day, rows in story.batches().items()
    }
    *before, last = batches
    for day in before:
        story.write_batch(studio.dagster.input_root, day, batches[day])
    show_sensor(studio.ui)
    switch_sensor(studio.ui, on=True)
    _expect_run(studio.ui, 1, "Success")
    story.write_batch(studio.dagster.input_root, last, batches[last])
    _expect_run(studio.ui, 2, "Success")


def _break_a_batch(studio: _Studio) -> None:
    """Write a batch that cannot be landed, and another one for a day that is not over."""
    for day in (studio.broken_day, studio.today):
        folder = studio.dagster.input_root / f"date={day}"
        folder.mkdir()
        (folder / "events.parquet").write_text("not a Parquet file")
    _expect_run(studio.ui, 3, "Failure")


def _damage_a_session(studio: _Studio) -> None:
    """Give a session a wrong end outside of Dagster, then materialize its day, which checks it again."""
    DeltaTable(studio.dagster.warehouse.sessionized_events).update(
        predicate=f"event_date = DATE '{studio.damaged_day}' AND user_id = 'bruno' AND session_end_ts IS NOT NULL",
        updates={"session_end_ts": "session_end_ts + INTERVAL '1 day'"},
    )
    materialize_events(studio.ui, studio.damaged_day.isoformat())
    open_launched(studio.ui)
    expect_finished(studio.page, "Failure")


def _take_asset_graph(studio: _Studio) -> None:
    # The graph is scaled to the size of the page.
    studio.page.set_viewport_size({"width": _WIDTH + 300, "height": _HEIGHT})
    studio.ui.open("asset-groups")
    expect(studio.page.get_by_text("4 / 4 Passed")).to_be_visible()
    expect(studio.page.get_by_text("93% filled")).to_have_count(len(ASSETS) + 1)  # and rejected_events
    _take(studio.page, "asset-graph", studio.page.locator("foreignObject"))
    studio.page.set_viewport_size({"width": _WIDTH, "height": _HEIGHT})


def _take_plot(studio: _Studio) -> None:
    page = studio.page
    studio.ui.open(f"assets/{SESSIONIZED_EVENTS}?view=overview")
    page.get_by_role("button", name="Plots").click()
    # Only numbers that vary by day: two weeks land in two runs, so the numbers of a run would be flat lines.
    names = ("session_minutes_median", "session_minutes_p95")
    labels = [page.get_by_text(name, exact=True) for name in names]
    plots = [label.locator("xpath=ancestor::*[.//canvas][1]") for label in labels]
    plots[-1].scroll_into_view_if_needed()
    _take(page, "plot", *plots)


def _take_partitions(studio: _Studio) -> None:
    page = studio.page
    studio.ui.open(f"assets/{SESSIONIZED_EVENTS}?view=partitions")
    expect(number_of(studio.ui, "Failed", 1)).to_be_visible()
    open_partition(studio.ui, studio.damaged_day.isoformat())
    bar = page.get_by_role("textbox", name="ex: ")
    _take(page, "partitions", bar, number_of(studio.ui, "Missing", 0), page.get_by_text("run_rows_inserted"))


def _take_sensor_tick(studio: _Studio) -> None:
    page = studio.page
    show_sensor(studio.ui)
    skipped = ticks(studio.ui, "0 runs requested")
    expect(skipped.first).to_be_visible()
    expect(skipped).to_have_count(skipped.count() + 1, timeout=milliseconds(TICK_SECONDS))
    skipped.first.get_by_role("button", name="0 runs requested").click()
    dialog = page.get_by_role("dialog")
    reason = dialog.get_by_text("as the run failed")
    expect(reason).to_be_visible()
    # The folder is temporary and of no interest to a reader.
    page.evaluate(_LEAVE_OUT, f"{studio.dagster.folder}/")
    _take(page, "sensor-tick", dialog.get_by_text("Tick for"), reason, inside=dialog)


def _take_missing_batch(studio: _Studio) -> None:
    page = studio.page
    show_check_of_asset(studio.ui, RAW_EVENTS, BATCHES_HAVE_LANDED)
    missing = page.get_by_text(re.compile("batches that are due (has|have) not landed")).first
    expect(missing).to_be_visible(timeout=milliseconds(TICK_SECONDS))
    rows = page.get_by_role("row", name="newest_missing_batches")
    _take(page, "missing-batch", page.get_by_text(BATCHES_HAVE_LANDED, exact=True).last, missing, rows)


def _take_failed_check(studio: _Studio) -> None:
    page = studio.page
    studio.ui.open(f"assets/{SESSIONIZED_EVENTS}?view=checks&checkDetail={Rule.SESSION_END}")
    rows = page.get_by_role("row", name="offending_rows")
    expect(rows.get_by_text("bruno")).to_be_visible()
    # The name is also in the list of all checks.
    _take(page, "failed-check", page.get_by_text(Rule.SESSION_END, exact=True).last, rows)


def _expect_run(ui: Ui, number: int, status: str) -> None:
    """Wait until the sensor requests one more run, and until that run ends."""
    show_sensor(ui)
    asked = ticks(ui, "1 run requested")
    expect(asked, "the sensor asks for no run").to_have_count(number, timeout=milliseconds(TICK_SECONDS))
    run = open_requested(ui, asked.first)
    expect_finished(run, status)
    run.close()


def _take(page: Page, name: str, *shown: Locator, inside: Locator | None = None) -> None:
    """Take a picture of some elements, with a margin that stays within another element, or within the page."""
    page.wait_for_timeout(milliseconds(_STILL_SECONDS))
    left, top, right, bottom = _edges(*shown)
    first_x, first_y, last_x, last_y = _edges(inside or page.locator("body"))
    x, y = max(left - _MARGIN, first_x), max(top - _MARGIN, first_y)
    width, height = min(right + _MARGIN, last_x) - x, min(bottom + _MARGIN, last_y) - y
    path = PICTURES / f"{name}.png"
    page.screenshot(path=path, clip={"x": x, "y": y, "width": width, "height": height})
    print(path.relative_to(REPOSITORY))


def _edges(*shown: Locator) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of the elements together."""
    boxes = [box for locator in shown for each in locator.all() if (box := each.bounding_box()) is not None]
    return (
        min(box["x"] for box in boxes),
        min(box["y"] for box in boxes),
        max(box["x"] + box["width"] for box in boxes),
        max(box["y"] + box["height"] for box in boxes),
    )


def _moved(row: Delivery, by: timedelta) -> Delivery:
    try:
        return replace(row, timestamp=str(datetime.fromisoformat(row.timestamp or "") + by))
    except ValueError:
        # One of the rejected rows.
        return row


if __name__ == "__main__":
    main()
