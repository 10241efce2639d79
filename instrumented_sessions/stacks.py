"""Stacks of threads and of suspended tasks, readable from any thread."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from types import CodeType, FrameType
from typing import Any

from .chain import CodeLocation

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_DEMO = os.path.join(_PACKAGE, "demo", "")  # A program that uses this library, though it comes with it.
_LOOPS = os.path.dirname(asyncio.__file__) + os.sep
_MAX_FRAMES = 64
_OPAQUE = frozenset(
    {"async_generator_asend", "async_generator_athrow", "anext_awaitable", "coroutine_wrapper"}
)


def is_own(file: str) -> bool:
    """Return whether `file` is this library's, rather than a program's."""
    return file.startswith(_PACKAGE) and not file.startswith(_DEMO)


def caller_location() -> CodeLocation | None:
    """Return the innermost line outside this package that led here.

    None when there is none, as in a task whose coroutine is one of this package's own.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and is_own(frame.f_code.co_filename):
        frame = frame.f_back
    if frame is None or frame.f_code.co_filename.startswith(_LOOPS):
        return None
    return _location(frame, frame.f_lineno)


def without_own_frames(stack: tuple[str, ...]) -> tuple[str, ...]:
    """Return a stack without this package's frames at its inner end; the outermost stays in any case."""
    end = len(stack)
    while end and f"({_PACKAGE}" in stack[end - 1] and f"({_DEMO}" not in stack[end - 1]:
        end -= 1
    return stack[: max(1, end)]


def thread_stack(thread_id: int) -> tuple[str, ...]:
    """Return the stack of a running thread, outermost call first; empty when it has ended."""
    frame = sys._current_frames().get(thread_id)
    frames: list[str] = []
    while frame is not None and len(frames) < _MAX_FRAMES:
        frames.append(str(_location(frame, frame.f_lineno)))
        frame = frame.f_back
    return tuple(reversed(frames))


def task_stack(task: Any) -> tuple[str, ...]:
    """Return the await chain of a suspended asyncio or trio task, outermost first, down to what it waits for.

    May be called from any thread: a task that moves meanwhile gives a shorter or mixed chain.
    """
    frames: list[str] = []
    awaitable: Any = task.get_coro() if hasattr(task, "get_coro") else task.coro
    while awaitable is not None and len(frames) < _MAX_FRAMES:
        frame, awaitable = _step(awaitable)
        if frame is not None:
            frames.append(str(_location(frame, frame.f_lineno)))
    return tuple(frames)


def _step(awaitable: Any) -> tuple[FrameType | None, Any]:
    """Return the frame of one awaitable and what it waits for."""
    for prefix, inner in (("cr", "cr_await"), ("ag", "ag_await"), ("gi", "gi_yieldfrom")):
        if hasattr(awaitable, f"{prefix}_frame"):
            return getattr(awaitable, f"{prefix}_frame"), getattr(awaitable, inner, None)
    if type(awaitable).__name__ in _OPAQUE:
        # These do not say what they drive; the collector knows.
        for referent in gc.get_referents(awaitable):
            if hasattr(referent, "ag_frame") or hasattr(referent, "cr_frame"):
                return None, referent
    return None, None


def location_at(code: CodeType, instruction: int) -> CodeLocation:
    """Return the line of an instruction, given as a frame's `f_lasti`."""
    lines = (line for start, end, line in code.co_lines() if start <= instruction < end)
    return CodeLocation(getattr(code, "co_qualname", code.co_name), code.co_filename, next(lines, 0) or 0)


def _location(frame: FrameType, line: int | None) -> CodeLocation:
    code = frame.f_code
    return CodeLocation(getattr(code, "co_qualname", code.co_name), code.co_filename, line or 0)
