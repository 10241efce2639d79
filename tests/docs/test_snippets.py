"""Every Python snippet of the documentation runs.

A page is run as one program in a directory that has `weather_server.py`, a real MCP server. These
addresses may be written in a snippet; in the run a real server of the same kind stands behind them:

- `http://127.0.0.1:9000/mcp`: an MCP server over HTTP with the tools `forecast` and `search`
- `http://127.0.0.1:4318`: takes OTLP and keeps nothing
- `prometheus_port=9464`: becomes a free port
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.docs.snippets import PageError, find_snippets

ROOT = Path(__file__).parent.parent.parent
HERE = Path(__file__).parent
PAGES = sorted(page for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")] if page.is_file())
LIMIT_S = 90


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class _Sink(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def otlp_sink() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Sink)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), name="otlp-sink")
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def mcp_server() -> Iterator[int]:
    port = free_port()
    server = subprocess.Popen([sys.executable, HERE / "site" / "weather_server.py", str(port)])
    try:
        deadline = time.monotonic() + 30
        while True:  # It says nowhere that it listens, so ask.
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert server.poll() is None, "the MCP server ended"
                assert time.monotonic() < deadline, "the MCP server does not listen"
                threading.Event().wait(0.05)
        yield port
    finally:
        server.terminate()
        server.wait(10)


def execute(page: Path, directory: Path, addresses: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run the snippets of `page` in a copy of site/."""
    shutil.copytree(HERE / "site", directory, dirs_exist_ok=True)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("OTEL_")},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONPATH": f"{HERE}{os.pathsep}{ROOT}",
        "SNIPPET_ADDRESSES": json.dumps(addresses),
    }
    command = [sys.executable, "-W", "error", HERE / "run_page.py", page]
    return subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )


@pytest.mark.timeout(LIMIT_S + 30)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_snippet_of_the_page_runs(page: Path, tmp_path: Path) -> None:
    """The page's snippets run in order without an error or a warning."""
    snippets = find_snippets(page.read_text(encoding="utf-8"))
    if all(snippet.skipped for snippet in snippets):
        return  # No snippets, or each says why it is not executed.
    with mcp_server() as mcp_port, otlp_sink() as otlp_port:
        addresses = {
            "127.0.0.1:9000": f"127.0.0.1:{mcp_port}",
            "127.0.0.1:4318": f"127.0.0.1:{otlp_port}",
            "prometheus_port=9464": f"prometheus_port={free_port()}",
        }
        done = execute(page, tmp_path, addresses)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def test_snippets_are_found_with_their_lines_and_reasons() -> None:
    """Only ```python blocks count; a comment on the line before one says why it is skipped."""
    page = "# A\n\n```python\nx = 1\n```\n\n```console\n$ x\n```\n\n<!-- skip: needs a cluster -->\n"
    page += "```python\ny = 2\n```\n\n- in a list\n\n  ```python\n  if x:\n      z = 3\n  ```\n"
    assert [(one.line, one.source, one.skipped) for one in find_snippets(page)] == [
        (4, "x = 1\n", None),
        (13, "y = 2\n", "needs a cluster"),
        (19, "if x:\n    z = 3\n", None),
    ]


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("```py\nx\n```\n", "write ```python"),
        ("```Python\nx\n```\n", "write ```python"),
        ("```python\nx\n", "not closed"),
        ("<!-- skip: -->\n```python\nx\n```\n", "needs a reason"),
    ],
)
def test_page_that_would_hide_a_snippet_is_refused(page: str, message: str) -> None:
    """A misspelt language, an open fence or a missing reason cannot keep a snippet from the run."""
    with pytest.raises(PageError, match=message):
        find_snippets(page)


def test_snippets_share_names_and_may_await(tmp_path: Path) -> None:
    """A page is one program; `await` works at its top level."""
    page = tmp_path / "page.md"
    page.write_text(
        "```python\nimport asyncio\nword = 'one'\n```\n\n"
        "```python\nawait asyncio.sleep(0)\nprint(word, 'two')\n```\n\n"
        "<!-- skip: it would fail -->\n```python\n1 / 0\n```\n"
    )
    done = execute(page, tmp_path, {"'two'": "'three'"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "page.md:2",
        "page.md:7",
        "one three",
        "page.md:13 not executed: it would fail",
    ]


def test_failing_snippet_names_the_line_in_its_page(tmp_path: Path) -> None:
    """The traceback of a snippet points into the page, and shows the line."""
    page = tmp_path / "page.md"
    page.write_text("# Title\n\n```python\nx = 1\n1 / 0\n```\n")
    done = execute(page, tmp_path, {})
    assert done.returncode == 1
    assert f'File "{page}", line 5' in done.stderr
    assert "1 / 0" in done.stderr
    assert "ZeroDivisionError" in done.stderr


def test_server_of_the_snippets_answers_on_http() -> None:
    """The address that snippets use has a real MCP server behind it."""
    with mcp_server() as port:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
