"""Secrets in every field appear nowhere: a program plants them, and all that it leaves is searched."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import servers
from tests.demo.processes import need_full_installation
from tests.servers import raw

from . import authorization
from .authorization import MARK, PRIVATE

PROGRAM = Path(__file__).parent / "planting.py"
ROOT = PROGRAM.parent.parent.parent
PAGES = ("/", *(f"/api/v1/{one}" for one in ("now", "verdict", "waits", "sessions", "transports", "loops")))


def tells_all(request: raw.Request) -> None:
    """Fail in the way that the path names, and tell what was sent."""
    told = f"{request.path} {request.headers}"
    way = request.path.split("?")[0].rpartition("/")[2]
    if way == "rpc" and request.method == "POST":
        request.error(-32602, told)
    elif way == "redirect":
        request.answer(307, location=f"http://elsewhere.invalid{request.path}")
    elif way == "html":
        request.answer(200, f"<html>{told}</html>", content_type="text/html")
    else:
        code = int(way) if way.isdigit() else 405
        request.answer(code, told, content_type="text/plain", www_authenticate="Bearer")


def found_in(text: str) -> list[str]:
    """The lines that hold a secret, or what a tool was told where the SDK does not log it."""
    return [
        line
        for line in text.splitlines()
        if MARK in line or (PRIVATE in line and not line.startswith("LOG mcp."))
    ]


def without_the_sdks_own(text: str) -> str:
    """What is stored, without the status of SDK 2.x's own span of a call: the server's words, unchanged."""
    return re.sub(rf"fails to keep \[.*?\] {MARK}-env", "", text)


@pytest.mark.timeout(300)
def test_planted_secrets_appear_nowhere(tmp_path: Path) -> None:
    """Not in ids, errors, logs, spans, events, reprs, explanations, metrics, nor in the dashboard."""
    need_full_installation()
    from tests.dashboard.conftest import serving

    shown, database = tmp_path / "shown", tmp_path / "dashboard.db"
    with (
        raw.Raw(tells_all) as failing,
        servers.running("http") as server,
        authorization.running() as (protected, grants),
        serving(db=database) as dashboard,
    ):
        done = subprocess.run(
            [
                *(sys.executable, str(PROGRAM), str(shown), dashboard.address),
                *(server.url, protected, failing.url("")),
            ],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stderr=subprocess.PIPE,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        assert {one.split("-")[1] for one in grants.secrets} == {"code", "token"}
        assert any(MARK in str(request.headers) for request in failing.requests), "nothing was planted"
        assert found_in(without_the_sdks_own(everything_of(dashboard))) == []
    text = shown.read_text(encoding="utf-8")
    for word in (
        "SessionOpenError",
        "TransportConflictError",
        "LOG httpx",
        "OpeningEnded",
        "CallEnded",
        "session_requests",
    ):
        assert word in text, f"the program does not show {word}"
    assert found_in(text) == []
    for file in tmp_path.glob("dashboard.db*"):
        assert found_in(without_the_sdks_own(file.read_bytes().decode("latin-1"))) == []


def everything_of(dashboard: Any) -> str:
    """All answers of the dashboard, the details of each trace included."""
    text = ""
    for page in PAGES:
        answer = dashboard.ask(page)
        assert answer.status == 200, page
        text += answer.body.decode()
    traces = set(re.findall(r'"trace_id":\s*"([0-9a-f]{32})"', text))
    return text + "".join(dashboard.ask(f"/api/v1/traces/{trace}").body.decode() for trace in traces)
