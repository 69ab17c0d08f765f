"""Actions and expectations of a person in the UI, by the roles and texts of the pages."""

import re
from dataclasses import dataclass
from typing import Final

from playwright.sync_api import Locator, Page, expect

from sessions_dagster.defs.assets import RAW_EVENTS, SESSIONIZED_EVENTS, SESSIONS
from sessions_dagster.defs.sensors import SENSOR_NAME

ASSETS: Final = (RAW_EVENTS, SESSIONIZED_EVENTS, SESSIONS)
"""The materializable assets."""

TICK_SECONDS: Final = 120
RUN_SECONDS: Final = 300
BACKFILL_SECONDS: Final = 2 * RUN_SECONDS
"""Timeout in seconds of a tick of the sensor, a run and a backfill: several times their usual duration."""

_FINISHED: Final = re.compile("^(Success|Failure|Canceled)$")
_CODE_LOCATION: Final = "sessions_dagster.definitions"


@dataclass(frozen=True)
class Ui:
    """The UI in a browser.

    Attributes:
        url: Where it is.
        page: The page that shows it.
    """

    url: str
    page: Page

    def open(self, path: str) -> None:
        """Open another page of the UI."""
        self.page.goto(f"{self.url}/{path}")


def milliseconds(seconds: float) -> float:
    """A duration in the unit of Playwright."""
    return seconds * 1000


def materialize_all(ui: Ui, partitions: str) -> None:
    """Launch all assets from their graph.

    Args:
        ui: The UI to click in.
        partitions: A key, or a range as the UI has it: `[first...last]`.
    """
    ui.open("asset-groups")
    ui.page.get_by_role("button", name="Materialize all").click()
    _launch(ui.page.get_by_role("dialog"), partitions)


def materialize_events(ui: Ui, partitions: str) -> None:
    """Launch `sessionized_events` alone from its asset page; see `materialize_all`."""
    ui.open(f"assets/{SESSIONIZED_EVENTS}")
    ui.page.get_by_role("button", name="Materialize…").click()
    _launch(ui.page.get_by_role("dialog"), partitions)


def open_launched(ui: Ui) -> None:
    """Follow the link in the message about a launch, to the page of the run or the backfill."""
    ui.page.get_by_role("region", name="Notifications").get_by_role("link", name="View").click()
    ui.page.wait_for_url(re.compile(r"/runs/"))


def expect_finished(page: Page, status: str = "Success") -> None:
    """Wait on the page of a run until it is finished, and expect a status."""
    status_text = page.get_by_text(_FINISHED)
    expect(status_text, f"the run is not finished after {RUN_SECONDS} s").to_be_visible(
        timeout=milliseconds(RUN_SECONDS)
    )
    expect(status_text, "the run ended otherwise").to_have_text(status)


def expect_backfill_succeeded(ui: Ui, runs: int) -> None:
    """Wait on the page of a backfill until the given number of its runs succeeded; Dagster updates its status later."""
    ui.page.get_by_role("tab", name="Runs").click()
    succeeded = ui.page.get_by_text("Success", exact=True)
    expect(succeeded, f"there are no {runs} runs that have succeeded after {BACKFILL_SECONDS} s").to_have_count(
        runs, timeout=milliseconds(BACKFILL_SECONDS)
    )


def show_partitions(ui: Ui, asset: str, partitions: str) -> None:
    """Show the states of an asset's partitions."""
    ui.open(f"assets/{asset}?view=partitions")
    _select_partitions(ui.page, partitions)


def show_check(ui: Ui, asset: str, check: str, partitions: str) -> None:
    """Show the results of an asset's check for partitions."""
    ui.open(f"assets/{asset}?view=checks&checkDetail={check}")
    of_check = ui.page.get_by_role("tablist").filter(has=ui.page.get_by_role("tab", name="Execution history"))
    of_check.get_by_role("tab", name="Partitions").click()
    _select_partitions(ui.page, partitions)


def show_check_of_asset(ui: Ui, asset: str, check: str) -> None:
    """Show the newest result of a check that has no partitions."""
    ui.open(f"assets/{asset}?view=checks&checkDetail={check}")


def show_launchpad(ui: Ui, job: str) -> None:
    """Show the Launchpad of a job, in which its configuration can be edited."""
    ui.open(f"locations/{_CODE_LOCATION}/jobs/{job}/playground")


def open_partition(ui: Ui, partition: str) -> None:
    """Show the details of one of the visible partitions."""
    ui.page.get_by_title(partition, exact=True).click()


def number_of(ui: Ui, state: str, count: int) -> Locator:
    """The element with the number of selected partitions in a state."""
    return ui.page.get_by_text(f"{state} ({count})", exact=True)


def show_sensor(ui: Ui) -> None:
    """Show the page of the sensor."""
    ui.open(f"locations/{_CODE_LOCATION}/sensors/{SENSOR_NAME}")


def switch_sensor(ui: Ui, *, on: bool) -> None:
    """Turn the sensor on or off, on its page."""
    running = ui.page.get_by_role("row", name="Running")
    running.locator("label").click()
    expect(running.get_by_role("checkbox"), "the sensor's switch does not stay").to_be_checked(checked=on)


def ticks(ui: Ui, result: str) -> Locator:
    """The ticks with a result on the sensor's page, newest first."""
    rows = ui.page.get_by_role("row")
    return rows.filter(has=ui.page.get_by_role("button", name="View logs")).filter(has_text=result)


def open_requested(ui: Ui, tick: Locator) -> Page:
    """Follow the link of a tick to the page of the run that it requested. Returns the new page."""
    with ui.page.expect_popup() as opened:
        tick.get_by_role("link").click()
    return opened.value


def _launch(dialog: Locator, partitions: str) -> None:
    selection = dialog.get_by_role("textbox")
    expect(selection, "the dialog has no partitions to choose from").to_be_visible()
    # If there are many partitions, the dialog lists only the newest ones and shows a note.
    every = dialog.get_by_role("button", name="Show all partitions")
    if every.is_visible():
        every.click()
    selection.fill(partitions)
    selection.press("Enter")
    dialog.get_by_role("button", name=re.compile("^Launch (1 run|backfill)$")).click()


def _select_partitions(page: Page, partitions: str) -> None:
    selection = page.get_by_role("textbox", name="ex: ")
    selection.fill(partitions)
    selection.press("Enter")
