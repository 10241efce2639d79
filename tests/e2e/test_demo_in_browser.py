"""A person opens the dashboard in a real browser while the demo runs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.needs import need
from tests.servers import first_line

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(150)]

WAIT_MS = 45_000
"""How long the demo may take to show a wait or a stall: a guard, they come within seconds."""
PICTURE = os.environ.get("DASHBOARD_PICTURE")
"""Where to put the picture that the README shows; none is made when it is not set."""


@contextmanager
def demo(*arguments: str) -> Iterator[str]:
    """Run the demo without a person, and give the dashboard's address."""
    line = [sys.executable, "-m", "instrumented_sessions", "demo", "--headless", *arguments]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        match = re.search(r"http://127\.0\.0\.1:\d+", first_line(process, 60.0))
        assert match is not None
        yield match.group()
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


@contextmanager
def page_of(address: str, **options: Any) -> Iterator[Any]:
    """Open the address in Chromium; console errors and requests to other hosts fail the test."""
    from playwright.sync_api import sync_playwright

    complaints: list[str] = []
    arguments = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(need("chromium")), args=arguments)
        try:
            page = browser.new_context(**options).new_page()
            page.on("console", lambda said: said.type == "error" and complaints.append(said.text))
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("request", lambda r: complaints.append(r.url) if not r.url.startswith(address) else None)
            page.goto(address)
            yield page
        finally:
            browser.close()
    assert complaints == []


def test_waits_and_stalls_of_the_demo_appear_live() -> None:
    """Without a reload the page shows a wait with its holder, every transport, and a stall with its line."""
    size = {"width": 1280, "height": 900}
    with demo("--duration", "90") as address, page_of(address, viewport=size) as page:
        page.wait_for_selector("#connection[data-state=live]", timeout=WAIT_MS)
        page.wait_for_selector("#waits-list > li", timeout=WAIT_MS)
        page.wait_for_selector("#stalls > li", timeout=WAIT_MS)
        page.get_by_text(re.compile("sleep_on_the_loop|compute_on_the_loop")).first.wait_for(timeout=WAIT_MS)
        for transport in ("weather", "notes", "search", "tickets", "printer"):
            page.locator("#transports-list").get_by_text(transport, exact=True).wait_for(timeout=WAIT_MS)
        # A wait that is told by a report in progress, with who holds what it waits for.
        holder = re.compile(r"opening (weather|notes|search|tickets)/")
        page.get_by_text(holder).first.wait_for(timeout=WAIT_MS)
        assert page.locator("#verdict .sentence").inner_text() not in ("", "Waiting for the first report…")
        if PICTURE:
            page.locator("#range").select_option("300")
            page.wait_for_selector("#waits-list > li", timeout=WAIT_MS)
            page.screenshot(path=PICTURE)


def test_picture_of_the_readme_is_there() -> None:
    """The README shows what this test saw: `make picture` makes it anew."""
    assert (Path(__file__).parent.parent.parent / "docs" / "images" / "dashboard.png").is_file()
