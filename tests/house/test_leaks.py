"""The checks of tests/conftest.py find what they are there to find."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from typing import Any

import pytest
from blockbuster import BlockBuster, BlockingError

from tests import leaks


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not give what stays the time to end."""
    monkeypatch.setattr(leaks, "GRACE_S", 0.05)


@pytest.mark.usefixtures("impatient")
def test_thread_that_stays_is_named_with_its_line() -> None:
    """A thread that does not end is reported by its name and place."""
    before, end = leaks.threads(), threading.Event()
    thread = threading.Thread(target=end.wait, name="stays")
    thread.start()
    found = leaks.leaked_threads(before)
    end.set()
    thread.join(5)
    assert len(found) == 1
    assert "'stays'" in found[0]
    assert "threading.py:" in found[0]


def test_thread_that_is_ending_is_waited_for() -> None:
    """A thread that ends within the grace is no leak."""
    before, end = leaks.threads(), threading.Event()
    threading.Thread(target=end.wait, name="ends").start()
    threading.Timer(0.01, end.set).start()
    assert leaks.leaked_threads(before) == []


@pytest.mark.usefixtures("impatient")
@pytest.mark.skipif(not leaks.children_are_told(), reason="this system does not list a process's children")
def test_child_that_stays_is_named_and_killed() -> None:
    """A child process that does not end is reported by its command, and ended."""
    before = leaks.children()
    child = subprocess.Popen([sys.executable, "-c", "input('stays')"], stdin=subprocess.PIPE)
    found = leaks.leaked_children(before)
    assert len(found) == 1
    assert "input('stays')" in found[0]
    assert child.stdin is not None
    child.stdin.close()
    child.wait(5)  # Already dead and waited for: returns at once.
    assert leaks.children() == before


@pytest.mark.usefixtures("impatient")
async def test_task_that_stays_fails_its_test() -> None:
    """A coroutine test that leaves a task behind fails, and the message names the task."""
    started: list[asyncio.Task[Any]] = []

    async def leave_a_task() -> None:
        started.append(asyncio.create_task(asyncio.Event().wait(), name="stays"))

    with pytest.raises(AssertionError, match="stays"):
        await leaks.without_task_leaks(leave_a_task)()
    started[0].cancel()


@pytest.mark.logs_asyncio_errors("to see that it is noticed")
def test_error_in_asyncios_log_is_collected() -> None:
    """What asyncio only logs, such as an exception in a callback, is seen."""
    with leaks.asyncio_errors() as logged:
        loop = asyncio.new_event_loop()
        loop.call_soon(lambda: 1 / 0)
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.close()
    assert len(logged) == 1
    assert "ZeroDivisionError" in logged[0]


async def test_librarys_blocking_call_on_a_loop_raises(blockbuster: BlockBuster) -> None:
    """Code in the library's directory may not block a loop."""
    scanned = blockbuster.functions["time.sleep"]._scanned_modules[0]
    code = compile("import time\ntime.sleep(0)\n", f"{scanned}made_up.py", "exec")
    with pytest.raises(BlockingError, match=r"time\.sleep"):
        exec(code, {})
