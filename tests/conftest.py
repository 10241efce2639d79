"""What holds for every test: an event loop for coroutines, nothing left behind, no blocked loop.

- Coroutine tests need no marker. They run on asyncio; for other loops parametrise `anyio_backend`:
  `@pytest.mark.parametrize("anyio_backend", ["asyncio", ("asyncio", {"use_uvloop": True}), "trio"])`.
- A test fails when it leaves a thread, a child process, a task, or an error in asyncio's log behind.
- A coroutine test fails when this library's code blocks an event loop, whichever thread it runs in.
- `@pytest.mark.needs("chromium")`, or `tests.needs.need("chromium")` for its path: see tests/needs.py.
- `@pytest.mark.scenario("S3")` names the scenarios that a test shows to be survived or diagnosed.
"""

from __future__ import annotations

import gc
import inspect
import os
import re
import signal
import types
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from blockbuster import BlockBuster

from tests import leaks, needs

ROOT = Path(__file__).parent.parent
SCENARIO_ID = re.compile(r"[SO][1-9][0-9]?")

BLOCKS_ON_PURPOSE = {
    "tests/watchdog": "its tests block loops to see them reported, with the very frames that blocked",
}
"""Directories whose tests are run without the check for blocked loops, and why."""


MAY_BLOCK: list[tuple[str, str, set[str], str]] = [
    (
        "os.stat",
        "linecache.py",
        {"checkcache", "updatecache", "lazycache"},
        "a report that is about to be made reads source lines, once for each file",
    ),
    (
        "os.access",
        "subprocess.py",
        {"_execute_child"},
        "starting a process looks for its program; asyncio itself does so on the loop",
    ),
]
"""Blocking function, file, functions in it that may call it on a loop, and why."""


def pytest_configure(config: pytest.Config) -> None:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        os.environ.pop(name, None)  # As on most machines; where they are set, TLS is set up otherwise.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A suite in a shell's background ignores it, and so would the programs that tests interrupt.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if tuple(int(part) for part in version("mcp").split(".")[:2]) < (1, 30):
        # When an opening is cancelled, its older SSE and HTTP clients leave two streams to the collector.
        config.addinivalue_line("filterwarnings", "ignore:Unclosed <MemoryObject:ResourceWarning")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for marker in item.iter_markers("scenario"):
            for scenario in marker.args:
                if not SCENARIO_ID.fullmatch(str(scenario)):
                    raise pytest.UsageError(f"{item.nodeid}: {scenario!r} is not a scenario's id")
        for name in ("blocks_the_loop", "logs_asyncio_errors"):
            for marker in item.iter_markers(name):
                if not (marker.args or marker.kwargs.get("reason")):
                    raise pytest.UsageError(f"{item.nodeid}: the marker {name} needs a reason")


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("needs"):
        for tool in marker.args:
            needs.need(tool)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    if inspect.iscoroutinefunction(pyfuncitem.obj):
        pyfuncitem.obj = leaks.without_task_leaks(pyfuncitem.obj)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say which tests did not run for lack of a program; a skip is easily overlooked."""
    missing: dict[str, list[str]] = {}
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if needs.MISSING in reason:
            missing.setdefault(reason.split(needs.MISSING, 1)[1], []).append(report.nodeid)
    if missing:
        terminalreporter.section("NOT RUN: programs are missing", sep="!", red=True, bold=True)
        for tool, tests in missing.items():
            terminalreporter.line(f"{tool}: {len(tests)} tests did not run")
            for test in tests:
                terminalreporter.line(f"  {test}")


@pytest.fixture
def anyio_backend() -> Any:
    """The loop of coroutine tests, unless they parametrise this."""
    return "asyncio"


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test when threads, children or errors in asyncio's log remain after its other fixtures."""
    threads, children = leaks.threads(), leaks.children()
    with leaks.asyncio_errors() as logged:
        yield
        found = leaks.leaked_threads(threads) + leaks.leaked_children(children)
    if request.node.get_closest_marker("logs_asyncio_errors") is None:
        found += [f"asyncio logged: {text}" for text in logged]
    if found:
        pytest.fail("the test left behind:\n  " + "\n  ".join(found), pytrace=False)


@pytest.fixture(autouse=True, scope="module")
def nothing_left_to_collect() -> Iterator[None]:
    """Fail the module's last test when asyncio complains of what its tests left to the garbage collector."""
    with leaks.asyncio_errors() as logged:
        yield
        logged.clear()  # What was logged before is some test's own matter.
        gc.collect()
    if logged:
        pytest.fail("left to the garbage collector:\n  " + "\n  ".join(logged), pytrace=False)


@pytest.fixture(scope="session")
def blockbuster() -> Iterator[BlockBuster]:
    # Stand-ins for the two packages, so that it scans their files without importing them here.
    ours = []
    for name in ("instrumented_sessions", "dashboard"):
        package = types.ModuleType(name)
        package.__path__ = [str(ROOT / name) + os.sep]
        ours.append(package)
    buster = BlockBuster(scanned_modules=ours)
    for name, file, functions, _reason in MAY_BLOCK:
        buster.functions[name].can_block_in(file, functions)
    yield buster
    buster.deactivate()


@pytest.fixture(autouse=True)
def no_blocked_loop(request: pytest.FixtureRequest, blockbuster: BlockBuster) -> None:
    """Raise `BlockingError` in this library's code when it makes a blocking call on a loop's thread.

    Only in coroutine tests: the check adds frames of its own to the stacks that other tests look at.
    """
    directory = request.path.parent.relative_to(ROOT).as_posix()
    on_purpose = directory in BLOCKS_ON_PURPOSE or request.node.get_closest_marker("blocks_the_loop")
    if inspect.iscoroutinefunction(getattr(request.node, "obj", None)) and not on_purpose:
        blockbuster.activate()
    else:
        blockbuster.deactivate()
