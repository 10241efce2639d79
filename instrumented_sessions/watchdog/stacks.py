"""Stacks of a stalled loop: read frames, find the program's own, aggregate samples."""

from __future__ import annotations

import dis
import os
import re
import sys
import sysconfig
import threading
from collections import Counter
from collections.abc import Sequence
from enum import Enum
from functools import lru_cache
from types import CodeType, FrameType
from typing import NamedTuple

from ..chain import CodeLocation
from ..events import StackSample
from ..stacks import is_own

MAX_FRAMES = 100
"""The innermost frames that are kept of a stack."""
MAX_STACKS = 20
"""How many different stacks are kept of one stall."""

_STDLIB = tuple(
    {os.path.realpath(sysconfig.get_path(name)) + os.sep for name in ("stdlib", "platstdlib")}
    | {sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib")}
)
_THIRD_PARTY = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_MACHINERY = frozenset(
    {"uvloop", "trio", "anyio", "sniffio", "outcome", "nest_asyncio", "asyncio", "greenlet"}
)
_TURNS = frozenset({("base_events.py", "_run_once"), ("_run.py", "unrolled_run")})
"""The functions of asyncio and trio that run callbacks in turn."""
_PAUSES = frozenset({("base_events.py", "_run_once"), ("_run.py", "run")})
"""Those that wait for events in between."""
_WAITS = frozenset({"select", "_poll", "get_events"})
"""What they call for that; on Windows, `_poll` within `select`."""


class Origin(Enum):
    """Whose code a file is."""

    PROGRAM = 0
    LIBRARY = 1
    """An installed package."""
    MACHINERY = 2
    """The standard library, an event loop, or this library: never the culprit."""


@lru_cache(maxsize=4096)
def origin_of(file: str) -> Origin:
    """Return whose code `file` is."""
    if file.startswith("<frozen ") or is_own(file):
        return Origin.MACHINERY
    for marker in _THIRD_PARTY:
        _, found, inside = file.rpartition(marker)
        if found:
            package = inside.split(os.sep, 1)[0].removesuffix(".py")
            return Origin.MACHINERY if package in _MACHINERY else Origin.LIBRARY
    return Origin.MACHINERY if file.startswith(_STDLIB) else Origin.PROGRAM


class Stack(NamedTuple):
    """One sample of one thread."""

    frames: tuple[CodeLocation, ...]
    """Outermost call first, `MAX_FRAMES` at most."""
    inside: int
    """Where in `frames` the loop's callback begins; what comes before runs the loop itself."""
    awaits: tuple[CodeLocation, ...]
    """The frames of coroutines, outermost first: the await chain of the running task."""
    idle: bool
    """Whether the loop waited for its next event."""

    @property
    def culprit(self) -> CodeLocation | None:
        """The innermost frame of the program; of an installed package where the program has none."""
        library = None
        for location in reversed(self.frames[self.inside :]):
            origin = origin_of(location.file)
            if origin is Origin.PROGRAM:
                return location
            if origin is Origin.LIBRARY and library is None:
                library = location
        return library


def read_stack(frame: FrameType | None, base: CodeType | None = None) -> Stack:
    """Return the stack that ends in `frame`, of any thread.

    Args:
        frame: The innermost frame.
        base: The code from which the loop runs its callbacks; None if not known.
    """
    walked: list[tuple[CodeType, int]] = []
    innermost = frame
    while frame is not None and len(walked) < MAX_FRAMES:
        walked.append((frame.f_code, frame.f_lineno or 0))
        frame = frame.f_back
    walked.reverse()
    frames = tuple(CodeLocation(code.co_name, code.co_filename, line) for code, line in walked)
    inside = 0
    if base is not None and frame is None:
        # Without the base in it, the whole stack is the loop's own.
        inside = next(
            (depth for depth in range(len(walked), 0, -1) if walked[depth - 1][0] is base), len(walked)
        )
    awaits = tuple(
        location
        for location, (code, _) in zip(frames[inside:], walked[inside:], strict=True)
        if code.co_flags & _COROUTINE and origin_of(location.file) is not Origin.MACHINERY
    )
    return Stack(frames, inside, awaits, waits(innermost) or _may_wait(frames, inside))


def waits(frame: FrameType | None) -> bool:
    """Return whether a loop's thread, in `frame`, waits for its next event; False if that cannot be seen.

    Under uvloop it cannot. Quick, as it is asked of every loop at every look.
    """
    while frame is not None and _is_wait(frame.f_code.co_name, frame.f_code.co_filename):
        frame = frame.f_back
        if frame is not None and _pauses(frame.f_code.co_name, frame.f_code.co_filename):
            return True
    return False


@lru_cache(maxsize=4096)
def runs_callbacks(name: str, file: str) -> bool:
    """Return whether a function is the one with which asyncio or trio run callbacks in turn."""
    return (os.path.basename(file), name) in _TURNS


@lru_cache(maxsize=4096)
def _pauses(name: str, file: str) -> bool:
    return (os.path.basename(file), name) in _PAUSES and origin_of(file) is Origin.MACHINERY


@lru_cache(maxsize=4096)
def _is_wait(name: str, file: str) -> bool:
    return name in _WAITS and origin_of(file) is Origin.MACHINERY


_QUICK = re.compile(
    "RESUME|NOP|CACHE|EXTENDED_ARG|LOAD_(?!ATTR|METHOD|NAME)|STORE_FAST|COPY_FREE|MAKE_CELL|PUSH_NULL"
    "|GEN_START|RETURN_GENERATOR|POP_TOP|POP_JUMP|JUMP_FORWARD|TO_BOOL|IS_OP|SETUP_FINALLY"
)


def has_only_called(frame: FrameType) -> bool:
    """Return whether all that the frame's function has done yet is a call, on the line that it is in.

    A thread that is asked for the GIL gives it up where a function starts, after a native call and where a
    loop begins again. So when it was given up here, it was this line that kept it since it was asked for.
    In any other place it may have been code that ran before, in a function that has returned, too.
    """
    code, last = frame.f_code, frame.f_lasti
    lines = [(start, end, line) for start, end, line in code.co_lines() if start <= last]
    name = ""
    for start, end, line in lines:
        for step in range(start, min(end, last + 2), 2):
            opname = dis.opname[code.co_code[step]]
            if opname != "CACHE":
                name = opname
            if line != frame.f_lineno and not _QUICK.match(opname):
                return False
    return name.startswith(("CALL", "PRECALL"))


_COROUTINE = 0x80 | 0x100 | 0x200  # inspect.CO_COROUTINE, CO_ITERABLE_COROUTINE, CO_ASYNC_GENERATOR


def _may_wait(frames: Sequence[CodeLocation], inside: int) -> bool:
    """Return whether a loop may wait for its next event where that cannot be seen.

    uvloop waits in native code, so that the caller of the loop is the innermost frame. In asyncio the
    innermost frame is the base only while a callback that is a native function runs.
    """
    if not frames:
        return True
    last = frames[-1]
    calls_native = (os.path.basename(last.file), last.function) == ("events.py", "_run")
    return inside == len(frames) and not calls_native and not runs_callbacks(last.function, last.file)


class Samples:
    """The samples of one stall, aggregated; bounded in memory."""

    def __init__(self) -> None:
        self.total = 0
        """How many samples were taken."""
        self.idle = 0
        """How many of them found the loop waiting for its next event."""
        self.tasks: Counter[str] = Counter()
        """How often each task was seen running."""
        self._stacks: Counter[tuple[CodeLocation, ...]] = Counter()
        self._culprits: Counter[CodeLocation] = Counter()
        self._awaits: dict[CodeLocation, tuple[CodeLocation, ...]] = {}
        self._last: tuple[str, str] | None = None
        """File and name of the function that the last sample ended in."""

    def add(self, stack: Stack, task: str | None, in_time: bool = True) -> None:
        """Count one sample.

        Args:
            stack: What was seen.
            task: The task that ran.
            in_time: Whether it was taken when it was meant to be. One that came late may show what the loop
                went on to; it blames a function only if the sample before it does.
        """
        self.total += 1
        if stack.idle:
            self.idle += 1
        if stack.frames and (stack.frames in self._stacks or len(self._stacks) < MAX_STACKS):
            self._stacks[stack.frames] += 1
        if task is not None and (task in self.tasks or len(self.tasks) < MAX_STACKS):
            self.tasks[task] += 1
        culprit = None if stack.idle else stack.culprit
        before, self._last = self._last, None if culprit is None else (culprit.file, culprit.function)
        if culprit is None or not (in_time or before == self._last):
            return
        if culprit in self._culprits or len(self._culprits) < MAX_STACKS:
            self._culprits[culprit] += 1
            self._awaits[culprit] = stack.awaits

    @property
    def culprit(self) -> CodeLocation | None:
        """The line that was seen most often among those of the function that was seen most often."""
        functions: Counter[tuple[str, str]] = Counter()
        for location, count in self._culprits.items():
            functions[location.file, location.function] += count
        if not functions:
            return None
        (most, _), *_ = functions.most_common(1)
        return max(
            (location for location in self._culprits if (location.file, location.function) == most),
            key=self._culprits.__getitem__,
        )

    @property
    def awaits(self) -> tuple[CodeLocation, ...]:
        """The await chain that led to the culprit, outermost first."""
        culprit = self.culprit
        return () if culprit is None else self._awaits[culprit]

    def stacks(self) -> tuple[StackSample, ...]:
        """Return the different stacks, the most frequent first."""
        return tuple(StackSample(frames, count) for frames, count in self._stacks.most_common())


def current_frames() -> dict[int, FrameType]:
    """Return the innermost frame of every other Python thread, by thread id; takes microseconds."""
    frames = sys._current_frames()
    # The caller's own would be part of a cycle, which kept all of them, and what they refer to, alive.
    del frames[threading.get_ident()]
    return frames
