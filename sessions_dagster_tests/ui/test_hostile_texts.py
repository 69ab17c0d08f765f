"""What a sender writes, on the pages of Dagster's UI: shown as it is; no script runs, no element comes of it."""

from datetime import date
from pathlib import Path
from typing import Final

import dagster as dg
import pytest
from playwright.sync_api import Page, expect

from sessions_dagster.config import SessionsConfig
from sessions_dagster.defs.assets import RAW_EVENTS, SESSIONIZED_EVENTS
from sessions_dagster.defs.checks import _rule_evaluation
from sessions_dagster.defs.landing import _failure
from sessions_dagster.defs.metadata import landing_metadata
from sessions_dagster.demo import story
from sessions_dagster.errors import BatchError
from sessions_dagster.input.folders import InputRoot, delivery
from sessions_dagster.pipeline.land import LandingReport
from sessions_dagster.quality.events import Finding, Offender, Rule
from sessions_dagster_tests.hostile import ON_PAGES
from sessions_dagster_tests.ui.clicks import Ui, open_partition, show_check, show_partitions
from sessions_dagster_tests.ui.server import DagsterDev

DAY: Final = date(2025, 10, 20)
CONFIG: Final = SessionsConfig(start_date=story.MONDAY)

MADE_OF_TEXT: Final = "img[src='x'], [onerror], [onload], a[href^='javascript:'], a[href='https://example.com']"


def nothing_came_of_it(page: Page) -> None:
    """Check that no script of a text has run, and that the page has no element that a text describes."""
    assert page.evaluate("window.hacked") is None
    expect(page.locator(MADE_OF_TEXT)).to_have_count(0)


def shown_in(page: Page) -> str:
    """The text that a person can see, whatever the blanks."""
    return " ".join(page.locator("body").inner_text().split())


@pytest.fixture(scope="module")
def instance(dagster: DagsterDev) -> dg.DagsterInstance:
    """The instance of the UI, to which a test reports what a run would report."""
    return dg.DagsterInstance.from_config(str(dagster.folder / "home"))


def test_the_rows_of_a_failed_check_are_shown_as_they_are(ui: Ui, instance: dg.DagsterInstance) -> None:
    rows = tuple(Offender(text, text, text, "12:00", None, None, text) for text in ON_PAGES)
    finding = Finding(DAY, Rule.UNIQUE_EVENTS, len(rows), len(rows), rows)
    instance.report_runless_asset_event(_rule_evaluation(CONFIG, finding, 1, None))
    show_check(ui, SESSIONIZED_EVENTS, Rule.UNIQUE_EVENTS, str(DAY))
    open_partition(ui, str(DAY))
    expect(ui.page.get_by_text(f"{len(rows)} of {len(rows)} rows offend.")).to_be_visible()
    found = shown_in(ui.page)
    nothing_came_of_it(ui.page)
    assert [text for text in ON_PAGES if " ".join(text.split()) not in found] == []


@pytest.fixture
def names(tmp_path: Path) -> list[str]:
    """The files that a batch leaves out, in the order of their names."""
    folder = Path(InputRoot(str(tmp_path)).batch_folder(DAY))
    folder.mkdir()
    for text in ON_PAGES:
        if "/" not in text:
            (folder / f"_{text}").write_bytes(b"left out")
    return sorted(path.name for path in folder.iterdir())


def test_the_error_of_a_batch_is_shown_as_it_is(
    ui: Ui, instance: dg.DagsterInstance, names: list[str], tmp_path: Path
) -> None:
    with pytest.raises(BatchError) as refused:
        delivery(InputRoot(str(tmp_path)), DAY)
    told = [name for name in names if name in str(refused.value)]
    assert any("<" in name for name in told)
    instance.report_runless_asset_event(_failure(dg.AssetKey(RAW_EVENTS), DAY, refused.value, None))
    ui.open(f"assets/{RAW_EVENTS}?view=events&partition={DAY}")
    expect(ui.page.get_by_text("has no data file").first).to_be_visible()
    nothing_came_of_it(ui.page)
    assert [name for name in told if name not in shown_in(ui.page)] == []
    ui.open(f"assets/{RAW_EVENTS}?view=overview")
    expect(ui.page.get_by_text("Definition").first).to_be_visible()
    nothing_came_of_it(ui.page)


def test_the_names_of_files_in_a_partition_are_shown_as_they_are(
    ui: Ui, instance: dg.DagsterInstance, names: list[str], tmp_path: Path
) -> None:
    left_out_names = InputRoot(str(tmp_path)).delivery(DAY).left_out
    report = LandingReport(DAY, "fingerprint", left_out_names, 1, 1, (1,), {}, 1, 1, 1.0)
    event = dg.AssetMaterialization(RAW_EVENTS, partition=str(DAY), metadata=landing_metadata(report))
    instance.report_runless_asset_event(event)
    show_partitions(ui, RAW_EVENTS, str(DAY))
    open_partition(ui, str(DAY))
    expect(ui.page.get_by_text("left_out").first).to_be_visible()
    nothing_came_of_it(ui.page)
    found = shown_in(ui.page)
    assert [name for name in names if " ".join(name.split()) not in found] == []
