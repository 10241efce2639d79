"""Who may ask: hosts, origins, tokens."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from instrumented_sessions_dashboard.app import create_app
from instrumented_sessions_dashboard.guard import is_loopback

from tests.dashboard.agent import agent, session
from tests.dashboard.conftest import Served, serving

TOKEN = "correct horse battery staple"
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """A dashboard for all tests of this file, none of which changes it."""
    with serving() as found:
        yield found


@pytest.fixture(scope="module")
def guarded() -> Iterator[Served]:
    """A dashboard that believes it listens on all addresses, with a token."""
    with serving(host="0.0.0.0", token=TOKEN) as found:
        yield found


@pytest.mark.parametrize("path", ["/", "/api/v1/now", "/healthz", "/static/style.css"])
def test_foreign_host_is_refused(served: Served, path: str) -> None:
    """A name that an attacker's DNS points here is not ours."""
    assert served.ask(path, headers={"host": "evil.example:4318"}).status == 421


def test_foreign_host_is_refused_on_ingest(served: Served) -> None:
    """Nobody can fill the dashboard through a rebound name."""
    assert served.ask("/v1/traces", b"{}", {**JSON, "host": "evil.example"}).status == 421


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:9", "127.0.0.1:8080", "[::1]:4318", "127.8.8.8", "localhost."]
)
def test_names_of_this_machine_are_ours(served: Served, host: str) -> None:
    """Also through a forwarded port."""
    assert served.ask("/healthz", headers={"host": host}).status == 200


@pytest.mark.parametrize(
    "host", ["", "localhost.evil.example", "localhost@evil.example", "10.0.0.7", "[::1", "a/b"]
)
def test_other_names_are_not(served: Served, host: str) -> None:
    """Neither look-alikes nor malformed names nor other addresses."""
    assert served.ask("/healthz", headers={"host": host}).status in (400, 421)


@pytest.mark.parametrize("origin", ["https://evil.example", "http://127.0.0.1:1", "null"])
@pytest.mark.parametrize("path", ["/api/v1/waits", "/v1/traces"])
def test_foreign_origin_is_refused(served: Served, origin: str, path: str) -> None:
    """A page of another site, or of another port, may neither read nor write."""
    body = b"{}" if path == "/v1/traces" else None
    assert served.ask(path, body, {**JSON, "origin": origin}).status == 403


def test_own_origin_is_let_in(served: Served) -> None:
    """The page itself may ask."""
    assert served.ask("/api/v1/waits", headers={"origin": served.address}).status == 200


def test_requests_that_other_sites_make_without_an_origin_are_refused(served: Served) -> None:
    """An image or script tag elsewhere gets nothing; a link to the page works."""
    foreign = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}
    assert served.ask("/api/v1/waits", headers=foreign).status == 403
    assert served.ask("/", headers={**foreign, "sec-fetch-mode": "navigate"}).status == 200


def test_answers_carry_a_strict_policy(served: Served) -> None:
    """No script but ours, no other site, no framing, no guessing of types."""
    headers = served.ask("/").headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert served.ask("/api/v1/now").headers["cache-control"] == "no-store"


def test_any_other_address_needs_a_token() -> None:
    """Without one it does not start."""
    with pytest.raises(ValueError, match=r"listening on 0\.0\.0\.0 needs a token"):
        create_app(host="0.0.0.0")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("localhost", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("box", False),
    ],
)
def test_loopback_is_told_from_the_rest(host: str, expected: bool) -> None:
    """Only addresses that nobody else reaches need no token."""
    assert is_loopback(host) is expected


@pytest.mark.parametrize("path", ["/", "/api/v1/now", "/api/v1/stream", "/static/style.css"])
def test_nothing_is_shown_without_the_token(guarded: Served, path: str) -> None:
    """Page, API and stream are closed; only health is not."""
    assert guarded.ask(path).status == 401
    assert guarded.ask(path, headers={"authorization": "Bearer wrong"}).status == 401
    assert guarded.ask("/healthz").status == 200


def test_ingest_takes_the_token_as_bearer(guarded: Served) -> None:
    """Exporters send it as a header; without it nothing is taken."""
    assert guarded.ask("/v1/traces", b"{}", JSON).status == 401
    with agent(guarded.address, headers={"authorization": f"Bearer {TOKEN}"}) as program:
        program.done("session.acquire", 1, 1, session("weather"))
        program.flush()
    answer = guarded.ask("/readyz", headers={"authorization": f"Bearer {TOKEN}"})
    assert answer.json["spans"] == 1


def test_token_in_a_link_becomes_a_cookie(guarded: Served) -> None:
    """The address loses the token, the cookie is out of reach of scripts and other sites."""
    answer = guarded.ask("/?a=1&token=correct+horse+battery+staple")
    assert answer.status == 303
    assert answer.headers["location"] == "/?a=1"
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert "correct" not in cookie
    pair = cookie.split(";", 1)[0]
    assert guarded.ask("/api/v1/now", headers={"cookie": pair}).status == 200
    assert guarded.ask("/api/v1/now", headers={"cookie": pair[:-1] + "!"}).status == 401


def test_wrong_token_in_a_link_is_refused(guarded: Served) -> None:
    """No cookie for a guess."""
    answer = guarded.ask("/?token=guess")
    assert answer.status == 401
    assert answer.headers["set-cookie"] is None


VISIT = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}


def test_link_from_another_site_arrives(guarded: Served) -> None:
    """A strict cookie is not sent along a redirect from elsewhere, so the page itself goes on."""
    answer = guarded.ask("/?from=1&token=correct+horse+battery+staple&to=2", headers=VISIT)
    assert answer.status == 200
    assert b'content="0;url=/?from=1&amp;to=2"' in answer.body
    assert answer.headers["set-cookie"]


def test_link_from_another_site_comes_with_the_cookie_of_an_earlier_visit(guarded: Served) -> None:
    """The browser keeps the strict cookie back at first; asked from here, it has none or is let in."""
    answer = guarded.ask("/?from=1&to=2", headers=VISIT)
    assert answer.status == 200
    assert b'content="0;url=/?from=1&amp;to=2"' in answer.body
    assert answer.headers["set-cookie"] is None
    from_here = {"sec-fetch-site": "same-origin", "sec-fetch-mode": "navigate"}
    assert guarded.ask("/?from=1&to=2", headers=from_here).status == 401


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("//evil.example/", b"url=/"),
        ("/%22%3E%3Cscript%3E", b"url=/%22%3E%3Cscript%3E"),
        ("/?a=%22%3E%3Cscript%3E", b"url=/?a=%22%3E%3Cscript%3E"),
    ],
)
def test_page_that_goes_on_stays_here_and_is_no_markup(guarded: Served, path: str, target: bytes) -> None:
    """Whatever the link on the other site is made of."""
    assert target + b'">' in guarded.ask(path, headers=VISIT).body


def test_token_holds_on_loopback_too() -> None:
    """Who sets one wants it."""
    with serving(token=TOKEN) as served:
        assert served.ask("/api/v1/now").status == 401


def test_names_can_be_added_for_a_proxy() -> None:
    """Behind a proxy the dashboard has another name."""
    with serving(token=TOKEN, allowed_hosts=["dash.example"]) as served:
        headers = {"host": "dash.example", "authorization": f"Bearer {TOKEN}"}
        assert served.ask("/api/v1/now", headers=headers).status == 200
