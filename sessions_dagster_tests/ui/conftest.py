"""The `dagster dev` and the page that all tests of the UI share, and the evidence that is reported if a test fails."""

from collections.abc import Generator, Iterator
from typing import Final

import pytest
from playwright.sync_api import Error

from sessions_dagster.demo import story
from sessions_dagster_tests.ui.browser import NoBrowserError, chromium, open_browser
from sessions_dagster_tests.ui.clicks import Ui
from sessions_dagster_tests.ui.server import DagsterDev, dagster_dev, log_tail

_DAGSTER: Final = pytest.StashKey[DagsterDev]()
_UI: Final = pytest.StashKey[Ui]()


def pytest_configure(config: pytest.Config) -> None:
    try:
        chromium()
    except NoBrowserError as error:
        raise pytest.UsageError(str(error)) from error


@pytest.fixture(scope="session")
def dagster(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[DagsterDev]:
    """A `dagster dev` on an empty warehouse."""
    with dagster_dev(tmp_path_factory.mktemp("dagster"), first_day=story.MONDAY) as running:
        pytestconfig.stash[_DAGSTER] = running
        yield running


@pytest.fixture(scope="session")
def ui(dagster: DagsterDev, pytestconfig: pytest.Config) -> Iterator[Ui]:
    """The UI of the `dagster dev`."""
    with open_browser() as page:
        pytestconfig.stash[_UI] = Ui(dagster.url, page)
        yield pytestconfig.stash[_UI]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    stash = item.config.stash
    if report.failed and _UI in stash:
        report.sections.append(("Dagster's UI", _evidence(stash[_DAGSTER], stash[_UI], item.name)))
    return report


def _evidence(dagster: DagsterDev, ui: Ui, name: str) -> str:
    picture = dagster.folder / f"{name}.png"
    newest = ui.page.context.pages[-1]
    try:
        newest.screenshot(path=picture)
    except Error as error:
        shown = f"no picture of the page: {error}"
    else:
        shown = f"the page {newest.url} is in {picture}"
    return f"{shown}\nall of the log is in {dagster.log}, and this is its end:\n{log_tail(dagster.folder)}"
