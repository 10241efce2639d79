"""The page in a real browser, fed through the real exporter."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from instrumented_sessions.telemetry import catalog
from tests import needs
from tests.dashboard import scene
from tests.dashboard.agent import Agent, agent, session
from tests.dashboard.conftest import Served, serving

sync_api = pytest.importorskip("playwright.sync_api", reason="needs the Python package playwright")

pytestmark = [pytest.mark.browser, pytest.mark.needs("chromium"), pytest.mark.timeout(120)]

LIMIT_MS = 15_000
ARGUMENTS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
SCREENSHOTS = os.environ.get("DASHBOARD_SCREENSHOTS")
"""A directory to keep pictures of the page in, for people to look at."""


class Visit:
    """A page, and everything about it that must not happen."""

    def __init__(self, browser: Any, address: str, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(LIMIT_MS)
        self.wrong: list[str] = []
        self.address = address
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        self.page.on("request", self._asked)
        # A violation is reported to the page too, also where nothing reaches the console.
        self.page.add_init_script(
            "addEventListener('securitypolicyviolation', e => console.error('CSP ' + e.violatedDirective))"
        )

    def _heard(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.wrong.append(f"{message.type}: {message.text}")

    def _asked(self, request: Any) -> None:
        if urlsplit(request.url).netloc != urlsplit(self.address).netloc:
            self.wrong.append(f"asked {request.url}")

    def open(self, path: str = "/") -> Any:
        self.page.goto(self.address + path)
        return self.page

    def picture(self, name: str) -> None:
        if SCREENSHOTS:
            self.page.screenshot(path=Path(SCREENSHOTS) / f"{name}.png", full_page=True)


@pytest.fixture
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=needs.need("chromium"), args=ARGUMENTS)
        yield found
        found.close()


@pytest.fixture
def program(served: Served) -> Iterator[Agent]:
    with agent(served.address) as found:
        yield found


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("light", {"viewport": {"width": 1280, "height": 800}, "color_scheme": "light"}),
        ("dark", {"viewport": {"width": 1280, "height": 800}, "color_scheme": "dark"}),
        ("phone", {"viewport": {"width": 390, "height": 844}, "color_scheme": "light", "has_touch": True}),
    ],
)
def test_page_shows_the_scene(
    served: Served, program: Agent, browser: Any, name: str, options: dict[str, Any]
) -> None:
    """Verdict, waits, contention, a stall with its culprit, sessions; nothing overflows or fails."""
    spans = scene.play(program)
    visit = Visit(browser, served.address, **options)
    page = visit.open()
    page.get_by_label("Range").select_option("15 minutes")
    page.locator("#transports-list article", has_text="6 failed").wait_for()

    assert "Loop main of agent-1 has been stalled" in page.locator("#verdict .sentence").inner_text()
    assert page.locator("#verdict").get_attribute("data-level") == "bad"

    waits = page.locator("#waits-list > li")
    assert waits.count() == 9
    assert "Loop main is stalled" in waits.nth(0).inner_text()
    assert scene.CULPRIT in waits.nth(0).inner_text()
    assert "search / c-1" in waits.nth(1).inner_text()
    locked = page.locator("#waits-list > li", has_text="search / c-5").inner_text()
    assert f"by {scene.HOLDER} and 3 more" in locked
    assert "asked at answer (agent/tools.py:120)" in locked

    cards = page.locator("#transports-list h3").all_inner_texts()
    assert cards == ["search", "files", "weather"]
    assert page.locator("#transports-list .chart .area-lock").count() > 0
    assert "6 failed" in page.locator("#transports-list article").nth(0).inner_text()

    assert page.locator("#timeline canvas").is_visible()
    assert page.locator("#loops-rows tr").count() == 2
    stalls = page.locator("#stalls > li")
    assert stalls.count() == 2
    assert "rank (agent/rank.py:203)" in stalls.nth(1).inner_text()
    sessions = page.locator("#sessions-rows tr", has_text="search").inner_text()
    assert sessions.split() == ["search", "http", "5", "4", "1", "10"]

    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= options["viewport"]["width"], "the page scrolls sideways"
    for selector in ("#transports-list .card", "#verdict", "#waits-list .entry"):
        overflowing = page.eval_on_selector_all(
            selector, "all => all.filter(one => one.scrollWidth > one.clientWidth + 1).length"
        )
        assert overflowing == 0, f"text is wider than its {selector}"
    visit.picture(name)
    assert visit.wrong == []
    for span in spans:
        span.end()


def test_ages_tick_and_an_ended_wait_leaves(served: Served, program: Agent, browser: Any) -> None:
    """Live by the stream: a new wait appears, gets older by itself, and goes when it ends."""
    visit = Visit(browser, served.address)
    page = visit.open()
    page.locator("#waits-empty").wait_for()
    span = program.start(catalog.SPAN_ACQUIRE, 2.0, session("search", "c-9"))
    program.report_now(span)
    program.flush()
    age = page.locator("#waits-list [data-part=age]")
    age.wait_for()
    before = age.inner_text()
    page.wait_for_function(
        "before => document.querySelector('[data-part=age]').textContent !== before", arg=before
    )
    program.end(span)
    program.flush()
    page.locator("#waits-empty").wait_for()
    assert page.locator("#waits-list > li").count() == 0
    assert visit.wrong == []


def test_page_is_used_with_the_keyboard(served: Served, program: Agent, browser: Any) -> None:
    """Stacks open and a trace is shown and closed without a mouse."""
    spans = scene.play(program)
    visit = Visit(browser, served.address)
    page = visit.open()
    stack = page.locator("#waits-list .more-button").first
    stack.wait_for()
    stack.focus()
    page.keyboard.press("Enter")
    assert "load_prices (agent/prices.py:17)" in page.locator("#waits-list .inside pre").first.inner_text()
    assert stack.get_attribute("aria-expanded") == "true"
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    page.locator("dialog .spans li").first.wait_for()
    visit.picture("trace")
    assert "loop.stall.in_progress" in page.locator("dialog").inner_text()
    page.keyboard.press("Escape")
    assert not page.locator("dialog").is_visible()
    assert page.locator("#waits-list .inside pre").first.is_visible(), "what was open stays open"
    assert visit.wrong == []
    for span in spans:
        span.end()


def test_text_from_telemetry_is_never_markup(served: Served, program: Agent, browser: Any) -> None:
    """A transport's name, a holder or a stack that looks like markup is shown as it is."""
    evil = '<img src=x onerror="document.title=1"><script>1</script>'
    span = program.start(catalog.SPAN_ACQUIRE, 2.0, session(evil, evil))
    program.report_now(
        span, {catalog.HOLDER: evil, catalog.HOLDER_HELD_S: 1.0, catalog.STACK: evil, catalog.DOING: evil}
    )
    program.done(catalog.SPAN_LOCK_WAIT, 5, 1, session(evil, evil))
    program.flush()
    visit = Visit(browser, served.address)
    page = visit.open()
    page.locator("#transports-list h3").wait_for()
    assert page.locator("#transports-list h3").inner_text() == evil
    assert evil in page.locator("#waits-list > li").inner_text()
    assert page.locator("img, main script").count() == 0
    assert visit.wrong == []
    program.end(span)


def test_lost_connection_is_shown_and_found_again(browser: Any, tmp_path: Path) -> None:
    """A page that knows nothing of now says so, and goes on by itself when the dashboard is back."""
    database = tmp_path / "d.db"
    with serving(db=database) as served:
        visit = Visit(browser, served.address)
        page = visit.open()
        page.locator("#connection[data-state=live]").wait_for()
        port = int(served.address.rpartition(":")[2])
    page.locator("#connection[data-state=lost]").wait_for()
    assert "connection lost" in page.locator("#connection").inner_text()
    visit.picture("lost")
    with serving(db=database, port=port):
        page.locator("#connection[data-state=live]").wait_for()
        page.close()


def test_link_with_a_token_opens_the_page(browser: Any) -> None:
    """The token leaves the address, and page, API and stream work with the cookie."""
    with serving(host="0.0.0.0", token="s3cret") as served:
        visit = Visit(browser, served.address)
        page = visit.open("/?token=s3cret")
        page.locator("#connection[data-state=live]").wait_for()
        assert page.url == served.address + "/"
        assert page.evaluate("document.cookie") == ""
        assert visit.wrong == []
        page.close()


def test_link_on_another_site_opens_the_page_with_its_range(browser: Any) -> None:
    """As in Grafana, with the token the first time and with the cookie from then on."""
    with serving(host="0.0.0.0", token="s3cret") as served, serving() as elsewhere:
        page = Visit(browser, served.address).page
        for query in (
            "?token=s3cret&from=1780315200000&to=1780318800000",
            "?from=1780315200000&to=1780318800000",
        ):
            page.goto(elsewhere.address.replace("127.0.0.1", "localhost"))
            page.evaluate("address => { location.href = address }", f"{served.address}/{query}")
            page.locator("#chosen", has_text="Nothing is stored for").wait_for()
            page.locator("#connection[data-state=live]").wait_for()
            assert page.url == served.address + "/?from=1780315200000&to=1780318800000"
        page.close()
