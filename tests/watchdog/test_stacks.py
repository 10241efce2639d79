"""Whose line a stack blames, on stacks that are really there."""

from __future__ import annotations

import asyncio
import selectors
import socket
import sys
import sysconfig
import threading
from collections.abc import Callable
from types import FrameType

import anyio
import pytest
import trio

from instrumented_sessions.chain import CodeLocation
from instrumented_sessions.watchdog.stacks import (
    MAX_FRAMES,
    MAX_STACKS,
    Origin,
    Samples,
    Stack,
    current_frames,
    has_only_called,
    origin_of,
    read_stack,
    waits,
)
from tests.watchdog.loops import run_on

STDLIB = sysconfig.get_path("stdlib")


def stack_of(*frames: tuple[str, str], inside: int = 0, idle: bool = False) -> Stack:
    return Stack(tuple(CodeLocation(name, file, 1) for name, file in frames), inside, (), idle)


@pytest.mark.parametrize(
    ("file", "origin"),
    [
        ("/srv/app/handlers.py", Origin.PROGRAM),
        ("<stdin>", Origin.PROGRAM),
        ("/venv/lib/python3.12/site-packages/requests/api.py", Origin.LIBRARY),
        ("/usr/lib/python3/dist-packages/yaml/scanner.py", Origin.LIBRARY),
        ("/venv/lib/python3.12/site-packages/uvloop/__init__.py", Origin.MACHINERY),
        ("/venv/lib/python3.12/site-packages/trio/_core/_run.py", Origin.MACHINERY),
        (f"{STDLIB}/subprocess.py", Origin.MACHINERY),
        (f"{STDLIB}/asyncio/events.py", Origin.MACHINERY),
        ("<frozen importlib._bootstrap>", Origin.MACHINERY),
        (sys.modules[Samples.__module__].__file__, Origin.MACHINERY),
    ],
)
def test_origin_of_a_file_is_told_by_its_place(file: str, origin: Origin) -> None:
    """The program, an installed package, or what never is to blame."""
    assert origin_of(file) is origin


def test_culprit_is_the_innermost_line_of_the_program() -> None:
    """What it called in the standard library or in a package is its own doing."""
    stack = stack_of(
        ("main", "/srv/app/main.py"),
        ("handler", "/srv/app/handlers.py"),
        ("get", "/venv/lib/python3.12/site-packages/requests/api.py"),
        ("recv_into", f"{STDLIB}/socket.py"),
    )
    assert stack.culprit == CodeLocation("handler", "/srv/app/handlers.py", 1)


def test_package_is_blamed_where_the_program_has_no_line() -> None:
    """A program that is itself installed, or a package's own task."""
    stack = stack_of(
        ("run", f"{STDLIB}/asyncio/runners.py"),
        ("poll", "/venv/lib/python3.12/site-packages/poller/core.py"),
        ("sleep", f"{STDLIB}/time.py"),
    )
    assert stack.culprit == CodeLocation("poll", "/venv/lib/python3.12/site-packages/poller/core.py", 1)


def test_what_started_the_loop_is_never_the_culprit() -> None:
    """Only what the loop called counts."""
    stack = stack_of(("main", "/srv/app/main.py"), ("_run", f"{STDLIB}/asyncio/events.py"), inside=2)
    assert stack.culprit is None


def test_reading_a_frame_finds_the_callback_and_the_await_chain() -> None:
    """Coroutines show the way from the task to the line; the loop's own frames do not."""
    seen: list[Stack] = []

    def leaf() -> None:
        frame = sys._getframe()
        seen.append(read_stack(frame, asyncio.Handle._run.__code__))

    async def inner() -> None:
        leaf()

    async def outer() -> None:
        await inner()

    asyncio.run(outer())
    [stack] = seen
    assert [location.function for location in stack.frames[stack.inside :]] == ["outer", "inner", "leaf"]
    assert [location.function for location in stack.awaits] == ["outer", "inner"]
    assert stack.culprit is not None
    assert (stack.culprit.function, stack.culprit.file) == ("leaf", __file__)
    assert not stack.idle


def look_at(runner: str, callback: Callable[[], object], until: Callable[[FrameType], bool]) -> FrameType:
    """Return a frame of a loop's thread, seen from another one, while the loop runs `callback` or waits."""
    ident, seen = threading.get_ident(), []

    def look(leave: Callable[[], object]) -> None:
        while not seen:
            frame = current_frames()[ident]
            if until(frame):
                seen.append(frame)
        leave()

    async def main() -> None:
        done = anyio.Event()
        if runner == "trio":
            enter = trio.lowlevel.current_trio_token().run_sync_soon
        else:
            enter = asyncio.get_running_loop().call_soon_threadsafe
        thread = threading.Thread(target=look, args=(lambda: enter(done.set),))
        thread.start()
        enter(callback)
        await done.wait()
        thread.join()

    run_on(runner, main)
    return seen[0]


@pytest.mark.parametrize("runner", ["asyncio", "trio"])
def test_loop_that_waits_for_its_next_event_is_idle_and_blames_nobody(runner: str) -> None:
    """Its stack ends in the selector, called by the loop itself."""
    stacks: list[Stack] = []

    def until(frame: FrameType) -> bool:
        if waits(frame):
            stacks.append(read_stack(frame, asyncio.Handle._run.__code__))
        return bool(stacks)

    look_at(runner, int, until)
    assert stacks[0].idle
    assert stacks[0].culprit is None


def test_loop_whose_wait_cannot_be_seen_is_not_said_to_wait() -> None:
    """Under uvloop the innermost frame is whatever runs the loop; it may wait, or run a native callback."""
    frame = look_at("uvloop", int, lambda frame: frame.f_code is run_on.__code__)
    assert read_stack(frame, frame.f_code).idle
    assert not waits(frame)


@pytest.mark.parametrize("how", ["by-name", "directly", "from-a-function"])
def test_callback_that_waits_for_events_itself_is_no_idle_loop(how: str) -> None:
    """The standard library's selector is not the loop's, and a function may be called like it."""
    seen: list[tuple[bool, bool]] = []

    def select() -> None:
        ours.recv(1)

    def until(frame: FrameType) -> bool:
        caller = frame.f_back
        if frame.f_code.co_name == "select" and caller is not None and caller.f_code.co_name != "_run_once":
            seen.append((waits(frame), read_stack(frame, asyncio.Handle._run.__code__).idle))
            theirs.close()
        return bool(seen)

    ours, theirs = socket.socketpair()
    with ours, theirs, selectors.DefaultSelector() as selector:
        selector.register(ours, selectors.EVENT_READ)
        callbacks: dict[str, Callable[[], object]] = {
            "by-name": select,
            "directly": selector.select,
            "from-a-function": lambda: selector.select(),
        }
        look_at("asyncio", callbacks[how], until)
    assert seen == [(False, False)]


def test_deep_stack_keeps_its_innermost_frames() -> None:
    """A recursion does not make a report without end."""

    def dive(depth: int) -> FrameType:
        return dive(depth - 1) if depth else sys._getframe()

    stack = read_stack(dive(MAX_FRAMES * 2))
    assert len(stack.frames) == MAX_FRAMES
    assert stack.frames[-1].function == "dive"


def test_samples_are_aggregated_and_bounded() -> None:
    """Equal stacks are counted; of endless different ones only some are kept."""
    samples = Samples()
    often = stack_of(("main", "/srv/app/main.py"), ("often", "/srv/app/a.py"))
    for number in range(MAX_STACKS * 3):
        samples.add(often, "task-a")
        samples.add(stack_of((f"rare{number}", "/srv/app/b.py")), f"task-{number}")
    assert len(samples.stacks()) == MAX_STACKS
    assert samples.stacks()[0].frames == often.frames
    assert samples.stacks()[0].count == MAX_STACKS * 3
    assert samples.culprit == CodeLocation("often", "/srv/app/a.py", 1)
    assert samples.tasks.most_common(1) == [("task-a", MAX_STACKS * 3)]
    assert samples.total == MAX_STACKS * 6


def test_function_seen_most_is_blamed_at_its_most_frequent_line() -> None:
    """Lines of one function count together against those of another."""
    samples = Samples()

    def at(function: str, line: int) -> Stack:
        return Stack((CodeLocation(function, "/srv/app/a.py", line),), 0, (), False)

    for location in (at("loop", 1), at("loop", 2), at("loop", 2), at("other", 9), at("other", 9)):
        samples.add(location, None)
    assert samples.culprit == CodeLocation("loop", "/srv/app/a.py", 2)


def test_idle_samples_blame_nobody() -> None:
    """Even when the program's frames are below them."""
    samples = Samples()
    samples.add(stack_of(("main", "/srv/app/main.py"), idle=True), None)
    assert samples.culprit is None
    assert samples.idle == 1


def test_late_sample_blames_a_function_only_if_the_one_before_it_shows_it_too() -> None:
    """A watchdog that could not run may see what the loop went on to."""
    samples = Samples()
    culprit = stack_of(("main", "/srv/app/main.py"), ("culprit", "/srv/app/a.py"))
    after = stack_of(("main", "/srv/app/main.py"))
    samples.add(after, None, in_time=False)
    assert samples.culprit is None
    assert samples.total == len(samples.stacks()) == 1
    samples.add(culprit, None, in_time=False)
    assert samples.culprit is None
    samples.add(culprit, None, in_time=False)
    assert samples.culprit == CodeLocation("culprit", "/srv/app/a.py", 1)


class Caller:
    """Calls back from native code, so that a test can look at the frame below while it is in a call."""

    def look(self, frame: FrameType) -> bool:
        self.found = has_only_called(frame)
        return self.found


def test_only_a_call_that_nothing_came_before_is_sure_to_have_kept_the_gil() -> None:
    """What a function did on earlier lines may have kept it as well, and so may what it called there."""
    look = Caller().look

    def first_line() -> bool:
        return look(sys._getframe())

    def after_a_computation() -> bool:
        product = 2 * len(STDLIB)
        return look(sys._getframe()) if product else False

    def after_another_call() -> bool:
        first_line()
        return look(sys._getframe())

    assert first_line()
    assert not after_a_computation()
    assert not after_another_call()
