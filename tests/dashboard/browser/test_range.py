"""A link from Grafana, with its range of time, in a real browser."""

from __future__ import annotations

import time
from typing import Any

import pytest

from instrumented_sessions.telemetry import catalog
from tests.dashboard import scene
from tests.dashboard.agent import Agent, session
from tests.dashboard.browser.test_page import Visit, browser, program
from tests.dashboard.conftest import Served

__all__ = ["browser", "program"]  # Fixtures.

pytestmark = [pytest.mark.browser, pytest.mark.needs("chromium"), pytest.mark.timeout(120)]

WIDE = {"viewport": {"width": 1280, "height": 800}}
PHONE = {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark", "has_touch": True}


@pytest.mark.parametrize(("name", "options"), [("range", WIDE), ("range-phone", PHONE)])
def test_link_with_a_range_shows_it_and_leads_back_to_live(
    served: Served, program: Agent, browser: Any, name: str, options: dict[str, Any]
) -> None:
    """History is that of the range, the page says which, what waits now stays live, and a link ends it."""
    spans = scene.play(program)
    program.done(catalog.SPAN_LOCK_WAIT, 3 * 3_600.0, 4.0, session("yesterday", "c-3", lock="opening"))
    program.done(catalog.SPAN_ACQUIRE, 3 * 3_600.0 - 1, 5.0, session("yesterday", "c-3"))
    stall = {catalog.LOOP: "worker", catalog.CAUSE: "cpu"}
    program.done(catalog.SPAN_STALL, 3 * 3_600.0, 1.5, stall)
    program.flush()
    since_ms = int(time.time() * 1000) - 4 * 3_600_000
    visit = Visit(browser, served.address, timezone_id="UTC", locale="en-US", **options)
    page = visit.open(f"/?from={since_ms}&to={since_ms + 2 * 3_600_000}")
    page.locator("#transports-list article", has_text="yesterday").wait_for()
    page.locator("#chosen", has_text="Transports, timeline and loops show").wait_for()
    begin = time.strftime("%H:%M:%S", time.gmtime(since_ms / 1000))
    assert begin in page.locator("#chosen").inner_text()
    assert page.locator("#transports-list h3").all_inner_texts() == ["yesterday"]
    assert page.locator("#loops-rows tr").count() == 1
    assert page.locator("#stalls > li").count() == 1
    assert page.locator("#waits-list > li").count() == 9, "what waits now is not part of the range"
    assert not page.get_by_label("Range of time").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    visit.picture(name)

    page.get_by_role("link", name="Back to live").click()
    page.locator("#transports-list article", has_text="weather").wait_for()
    assert page.url == served.address + "/"
    assert not page.locator("#chosen").is_visible()
    assert page.get_by_label("Range of time").is_visible()
    assert visit.wrong == []
    for span in spans:
        span.end()


def test_range_without_anything_stored_says_so(served: Served, browser: Any) -> None:
    """Not an empty page without a word."""
    visit = Visit(browser, served.address, timezone_id="UTC", **WIDE)
    page = visit.open("/?from=1780315200000&to=1780318800000")
    page.locator("#chosen", has_text="Nothing is stored for").wait_for()
    said = page.locator("#chosen-range").inner_text()
    assert said == "Nothing is stored for 1 Jun 2026 12:00:00 to 1 Jun 2026 13:00:00 (60 min 0 s)."
    visit.picture("range-empty")
    assert visit.wrong == []


def test_bad_range_is_named_and_the_page_goes_on_live(served: Served, program: Agent, browser: Any) -> None:
    """A sentence with the value, as text; the history is that of now."""
    program.done(catalog.SPAN_LOCK_WAIT, 5.0, 4.0, session("weather", lock="opening"))
    program.flush()
    visit = Visit(browser, served.address, **WIDE)
    page = visit.open("/?from=<b>now</b>&to=1780318800000")
    page.locator("#chosen[data-level=bad]", has_text="got '<b>now</b>'").wait_for()
    page.locator("#transports-list article", has_text="weather").wait_for()
    assert page.get_by_label("Range of time").is_visible()
    visit.picture("range-bad")
    assert all("400" in said for said in visit.wrong)
    page.get_by_role("link", name="Back to live").click()
    page.locator("#chosen").wait_for(state="hidden")
