"""Real programs: Prometheus, Alertmanager, agents, each ended by its process; and a webhook that listens."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import yaml

from tests import needs

ROOT = Path(__file__).parents[3]
ENGINES = Path(os.environ.get("ENGINES", ROOT / ".engines")) / "bin"

GUARD_S = 120.0
"""How long anything may take that has to happen at all, in seconds; a machine may be very busy."""

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
T = TypeVar("T")


def engine(name: str) -> str:
    """Return the path of an engine; without it, skip the test that asks, or fail it in CI."""
    path = ENGINES / name
    if path.exists():
        return str(path)
    return needs.find(name) or needs.give_up(name, "run requirements/engines.sh")


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def until(find: Callable[[], T | None], what: str, limit_s: float = GUARD_S) -> T:
    """Return what `find` returns as soon as it is true; fails with `what` after `limit_s` seconds."""
    deadline = time.monotonic() + limit_s
    while True:
        found = find()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {limit_s:g} s: {what}"
        threading.Event().wait(0.1)


class Program:
    """A process with its output in a file; leaving the context ends it, its whole group included."""

    def __init__(self, name: str, arguments: Sequence[str], directory: Path, **options: Any) -> None:
        self.name = name
        self.log = directory / f"{name}.log"
        self._output = self.log.open("w")
        self.process = subprocess.Popen(
            arguments,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            cwd=ROOT,
            **options,
        )

    def words(self) -> str:
        """What it has said so far."""
        return self.log.read_text(errors="replace")

    def said(self, prefix: str) -> str:
        """Return the rest of its first line that begins so, as soon as there is one."""

        def find() -> str | None:
            assert self.process.poll() is None, f"{self.name} ended:\n{self.words()[-2000:]}"
            lines = (line for line in self.words().splitlines() if line.startswith(prefix))
            return next((line.removeprefix(prefix).strip() for line in lines), None)

        return until(find, f"{self.name} says {prefix!r}:\n{self.words()[-2000:]}")

    def end(self, grace_s: float = 30.0) -> None:
        """End it politely, then for good."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(grace_s)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()
        self._output.close()

    def __enter__(self: P) -> P:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()


P = TypeVar("P", bound=Program)


def fetch(url: str, timeout_s: float = 20.0) -> bytes:
    """Return what an address answers, asked directly."""
    with _OPENER.open(url, timeout=timeout_s) as answer:
        body: bytes = answer.read()
        return body


class _Server(Program):
    """A program that answers when it is ready."""

    def __init__(self, name: str, arguments: Sequence[str], directory: Path, port: int) -> None:
        super().__init__(name, arguments, directory)
        self.address = f"http://127.0.0.1:{port}"

    def wait_until_ready(self) -> None:
        def is_ready() -> bool:
            assert self.process.poll() is None, f"{self.name} ended:\n{self.words()[-2000:]}"
            try:
                fetch(f"{self.address}/-/ready", timeout_s=5.0)
            except OSError:
                return False
            return True

        until(is_ready, f"{self.name} is ready:\n{self.words()[-2000:]}")


class Alertmanager(_Server):
    """Tells a webhook of every alert at once, and of its end."""

    def __init__(self, directory: Path, webhook: str) -> None:
        config = directory / "alertmanager.yml"
        receiver = {"name": "webhook", "webhook_configs": [{"url": webhook, "send_resolved": True}]}
        route = {
            "receiver": "webhook",
            "group_by": ["..."],
            "group_wait": "0s",
            "group_interval": "1s",
            "repeat_interval": "1h",
        }
        config.write_text(yaml.safe_dump({"route": route, "receivers": [receiver]}))
        port = free_port()
        arguments = [
            engine("alertmanager"),
            f"--config.file={config}",
            f"--storage.path={directory / 'alertmanager'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=",
        ]
        super().__init__("alertmanager", arguments, directory, port)
        self.target = f"127.0.0.1:{port}"


class Prometheus(_Server):
    """Scrapes each second, evaluates the project's rules each second; targets may come later."""

    def __init__(self, directory: Path, rules: Path, alertmanager: str | None = None) -> None:
        self._targets = directory / "targets.json"
        self._targets.write_text("[]")
        self._known: list[dict[str, Any]] = []
        scrape = {
            "job_name": "agents",
            "file_sd_configs": [{"files": [str(self._targets)], "refresh_interval": "1s"}],
        }
        config: dict[str, Any] = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(rules)],
            "scrape_configs": [scrape],
        }
        if alertmanager is not None:
            config["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]}
        file = directory / "prometheus.yml"
        file.write_text(yaml.safe_dump(config))
        port = free_port()
        arguments = [
            engine("prometheus"),
            f"--config.file={file}",
            f"--storage.tsdb.path={directory / 'prometheus'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--enable-feature=exemplar-storage",
        ]
        super().__init__("prometheus", arguments, directory, port)

    def scrape(self, job: str, metrics_url: str) -> None:
        """Begin to scrape a target as `job`, and wait for the first success."""
        host = urllib.parse.urlsplit(metrics_url).netloc
        self._known.append({"targets": [host], "labels": {"job": job}})
        self._targets.write_text(json.dumps(self._known))
        until(lambda: self.value(f'up{{job="{job}"}}') == 1.0, f"{job} is scraped")

    def query(self, expr: str) -> list[dict[str, Any]]:
        """Return the series that a query gives now."""
        return self._ask("query", query=expr)

    def query_range(self, expr: str, start: float, end: float, step_s: float) -> list[dict[str, Any]]:
        """Return the series that a query gives over time."""
        return self._ask("query_range", query=expr, start=start, end=end, step=step_s)

    def value(self, expr: str) -> float | None:
        """Return the value of the only series that a query gives now, None when it gives none."""
        found = self.query(expr)
        return float(found[0]["value"][1]) if found else None

    def rules(self) -> list[dict[str, Any]]:
        """Return the rules that it has loaded, with their health."""
        groups = self._get("rules")["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def exemplars(self, expr: str, start: float, end: float) -> list[dict[str, Any]]:
        """Return the exemplars of a query's series, each with its labels."""
        found = self._get("query_exemplars", query=expr, start=start, end=end)["data"]
        return [exemplar for series in found for exemplar in series["exemplars"]]

    def _ask(self, kind: str, **asked: Any) -> list[dict[str, Any]]:
        result: list[dict[str, Any]] = self._get(kind, **asked)["data"]["result"]
        return result

    def _get(self, kind: str, **asked: Any) -> dict[str, Any]:
        url = f"{self.address}/api/v1/{kind}?{urllib.parse.urlencode(asked)}"
        try:
            answer: dict[str, Any] = json.loads(fetch(url))
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{asked}\n{error.read().decode()}") from None
        return answer


class Demo(Program):
    """The demo as a person starts it."""

    def __init__(self, directory: Path, *arguments: str, name: str = "demo") -> None:
        command = [sys.executable, "-u", "-m", "instrumented_sessions", "demo", "--headless", *arguments]
        super().__init__(name, command, directory)

    def metrics_url(self) -> str:
        """Where its metrics are, as soon as it says so."""
        return self.said("metrics:")


class Agent(Program):
    """A sick agent that does what it is told; see sick_agent.py."""

    def __init__(self, directory: Path) -> None:
        command = [sys.executable, "-u", str(Path(__file__).parent / "sick_agent.py")]
        super().__init__("agent", command, directory, stdin=subprocess.PIPE)

    def metrics_url(self) -> str:
        """Where its metrics are, as soon as it says so."""
        return self.said("metrics:")

    def do(self, *words: str) -> None:
        """Tell it what to do."""
        assert self.process.stdin is not None
        self.process.stdin.write(" ".join(words) + "\n")
        self.process.stdin.flush()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop it as Ctrl-Z does, and let it go on after."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


class Webhook:
    """Listens for Alertmanager's messages; notes each alert with the time of its arrival."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # Protects `_heard`.
        self._heard: list[tuple[float, dict[str, Any]]] = []
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                now = time.time()
                with webhook._lock:
                    webhook._heard += [(now, alert) for alert in body["alerts"]]
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, name="webhook", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def heard(
        self, name: str, status: str, labels: Mapping[str, str], after: float = 0.0
    ) -> tuple[float, dict[str, Any]] | None:
        """Return when the first such message came, and the alert; None when none has."""
        with self._lock:
            heard = list(self._heard)
        for at, alert in heard:
            if at >= after and alert["status"] == status and alert["labels"]["alertname"] == name:
                if labels.items() <= alert["labels"].items():
                    return at, alert
        return None
