"""The browser: the machine's Chromium, driven by Playwright. Playwright's own browser would need a download."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from playwright.sync_api import Page, expect, sync_playwright

EXECUTABLES: Final = ("chromium", "chromium-browser", "google-chrome")

CLICK_SECONDS: Final = 30
"""Timeout of a click or an expectation. It is long because pages load slowly while a run uses all cores."""

_OPTIONS: Final = (
    "--no-sandbox",  # the sandbox does not work for root, as in a container
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class NoBrowserError(RuntimeError):
    """This machine has no Chromium; the message has a remedy."""


def chromium() -> str:
    """The path of the machine's Chromium.

    Raises:
        NoBrowserError: If there is none.
    """
    found = [path for name in EXECUTABLES if (path := shutil.which(name))]
    if not found:
        raise NoBrowserError(
            f"The UI is tested in Chromium, and there is none on the PATH (looked for {', '.join(EXECUTABLES)}). "
            "Install it: on Debian `apt-get install chromium`, on Fedora `dnf install chromium`; elsewhere install "
            "Chrome, and put a link named `google-chrome` to it on the PATH."
        )
    return found[0]


@contextmanager
def open_browser(width: int = 1440, height: int = 900) -> Iterator[Page]:
    """Open the browser with one page, and close it afterwards.

    Args:
        width: Of the page, in pixels.
        height: Of the page, in pixels.

    Yields:
        The page.

    Raises:
        NoBrowserError: If this machine has no Chromium.
    """
    executable = chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=_OPTIONS)
        page = browser.new_page(
            viewport={"width": width, "height": height}, locale="en-US", timezone_id="UTC", reduced_motion="reduce"
        )
        page.set_default_timeout(CLICK_SECONDS * 1000)
        expect.set_options(timeout=CLICK_SECONDS * 1000)
        yield page
        browser.close()
