"""Finds what a test left behind: threads, child processes, asyncio tasks and errors logged by asyncio."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

GRACE_S = 5.0
"""How long what is ending may take to end."""

ONE_FOR_THE_PROCESS = {
    "instrumented-sessions-watchdog": "watches every loop of the process, for its whole life",
    "instrumented-sessions-in-progress": "reports for the observer that every manager has by itself",
}
"""Names of threads of which one may outlive a test, and why; a second one of that name may not."""

OTHERS_THREADS = {
    "Trio thread": "trio keeps idle workers for ten seconds, to use them again",
    "pytest_timeout": "pytest-timeout's own",
}
"""Beginnings of names of other libraries' threads that may outlive a test, and why."""

PROCESS_WIDE_CHILDREN = {
    "multiprocessing.resource_tracker": "multiprocessing keeps one for the life of the process",
    "multiprocessing.forkserver": "multiprocessing keeps one for the life of the process",
}
"""Parts of command lines of children that may outlive a test, and why."""


def threads() -> set[threading.Thread]:
    """The threads that run now and must end with the test that started them."""
    found, permitted = set(), set(ONE_FOR_THE_PROCESS)
    for thread in threading.enumerate():  # Oldest first.
        if thread.name in permitted:
            permitted.remove(thread.name)
        elif not isinstance(thread, threading._DummyThread):  # Not started by Python; cannot be joined.
            if not thread.name.startswith(tuple(OTHERS_THREADS)):
                found.add(thread)
    return found


def leaked_threads(before: set[threading.Thread]) -> list[str]:
    """Describe the threads that were started since `before` and do not end, with where they are."""
    deadline = time.monotonic() + GRACE_S
    started = threads() - before - {threading.current_thread()}
    for thread in started:
        thread.join(max(0.0, deadline - time.monotonic()))
    frames = sys._current_frames()
    found = []
    for thread in started:
        if thread.is_alive():
            frame = frames.get(thread.ident or 0)
            where = f" at {frame.f_code.co_filename}:{frame.f_lineno}" if frame else ""
            found.append(f"thread {thread.name!r} (daemon={thread.daemon}){where}")
    return found


def children_are_told() -> bool:
    """Whether this system lists a process's children."""
    return Path(f"/proc/self/task/{threading.get_native_id()}/children").exists()


def children() -> set[int]:
    """The process ids of this process's children; none where the system does not tell."""
    found: set[int] = set()
    for listing in Path("/proc/self/task").glob("*/children"):
        try:
            found.update(int(pid) for pid in listing.read_text().split())
        except OSError:  # That thread has just ended.
            pass
    return found


def _command_line(pid: int) -> str:
    try:
        text = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""
    return text or "a zombie: it ended, and nobody has waited for it"


def leaked_children(before: set[int]) -> list[str]:
    """Describe the children that were started since `before` and do not end, and kill them."""

    def extra() -> set[int]:
        return {
            pid
            for pid in children() - before
            if not any(part in _command_line(pid) for part in PROCESS_WIDE_CHILDREN)
        }

    deadline = time.monotonic() + GRACE_S
    pause = threading.Event()
    while extra() and time.monotonic() < deadline:  # Nothing announces a child's end to a stranger.
        pause.wait(0.02)
    found = []
    for pid in sorted(extra()):
        found.append(f"child process {pid}: {_command_line(pid)}")
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except OSError:
            pass
    return found


def without_task_leaks(test: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Wrap a coroutine test so that it fails when tasks which it started on its loop do not end."""

    @functools.wraps(test)
    async def checked(*args: Any, **kwargs: Any) -> None:
        try:
            before = asyncio.all_tasks()
        except RuntimeError:  # Under trio, whose nurseries leave nothing behind.
            await test(*args, **kwargs)
            return
        await test(*args, **kwargs)
        started = asyncio.all_tasks() - before
        if started:
            _, pending = await asyncio.wait(started, timeout=GRACE_S)
            if pending:
                raise AssertionError("the test left tasks behind: " + "; ".join(map(repr, pending)))

    return checked


class _Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += f" [{record.exc_info[1]!r}]"
        self.texts.append(text)


@contextmanager
def asyncio_errors() -> Iterator[list[str]]:
    """Collect what asyncio logs as an error: a pending task destroyed, an exception never retrieved."""
    records = _Records()
    logger = logging.getLogger("asyncio")
    logger.addHandler(records)
    try:
        yield records.texts
    finally:
        logger.removeHandler(records)
