"""Who uses a session that the program opened itself, and at which line."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import sys
import weakref
from types import FrameType

from ...chain import CodeLocation, Party
from ...parking import current_caller
from ...stacks import is_own, task_stack, thread_stack, without_own_frames
from ...transports import sdk

_SDK = os.path.dirname(os.path.abspath(sdk.mcp.__file__)) + os.sep
_BETWEEN = (_SDK, contextlib.__file__)
_LOOPS = os.path.dirname(asyncio.__file__) + os.sep


class Asker:
    """The calling task or thread; keeps neither alive."""

    __slots__ = ("_task", "party")

    def __init__(self) -> None:
        party: Party = current_caller().party
        self.party = dataclasses.replace(party, location=_location())
        loop = asyncio._get_running_loop()
        task = asyncio.current_task(loop) if loop is not None else None
        self._task = weakref.ref(task) if task is not None else None

    def stack(self) -> tuple[str, ...]:
        """Return where it is now, outermost call first; from any thread. Empty for trio's tasks."""
        if self._task is not None:
            task = self._task()
            return without_own_frames(task_stack(task)) if task is not None else ()
        if self.party.task_name is not None:
            return ()
        return without_own_frames(thread_stack(self.party.thread_id))


def _location() -> CodeLocation | None:
    """Return the innermost line outside this package and the SDK that led here; None when a loop did."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and (
        is_own(frame.f_code.co_filename) or frame.f_code.co_filename.startswith(_BETWEEN)
    ):
        frame = frame.f_back
    if frame is None or frame.f_code.co_filename.startswith(_LOOPS):
        return None
    code = frame.f_code
    return CodeLocation(getattr(code, "co_qualname", code.co_name), code.co_filename, frame.f_lineno or 0)
