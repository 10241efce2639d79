"""Watches every event loop of the process from the moment it runs: asyncio's, uvloop's and trio's.

Nothing is wrapped around callbacks: a loop is only told to the watchdog when it begins to run.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

from ...observer import Announcer
from ...settings import Settings
from ...watchdog import SharedWatch, process_watchdog
from ...watchdog.loops import running_loop
from .hooks import Patches, guarded
from .imports import WhenImported


class EveryLoop:
    """Watches the loops that run from now on, and the one that runs on the calling thread, until `close`.

    Raises:
        ValueError: An environment variable cannot be read.
    """

    def __init__(self, patches: Patches, imports: WhenImported) -> None:
        settings = Settings.from_env()
        self._is_open = True
        self._patches = patches
        # A part of its own, so that closing it takes nothing from what the program itself watches.
        self._watch: SharedWatch = process_watchdog().subscribe(
            Announcer(),
            stall_threshold_s=settings.stall_threshold_s,
            heartbeat_interval_s=settings.heartbeat_interval_s,
            heartbeat_span_interval_s=settings.heartbeat_span_interval_s,
        )
        if running_loop() is not None:
            self._see()
        patches.replace(asyncio.BaseEventLoop, "run_forever", self._watching)
        imports.call("uvloop", self._uvloop)
        imports.call("trio", self._trio)

    def close(self) -> None:
        """Watch them no more; the patches are their owner's to undo."""
        self._is_open = False
        self._watch.close()

    def _see(self, loop: Any = None) -> None:
        if self._is_open:
            guarded("watching a loop", self._watch.watch, loop)

    def _watching(self, run_forever: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(run_forever)
        def run_forever_watched(loop: Any, *args: Any, **kwargs: Any) -> Any:
            self._see(loop)
            return run_forever(loop, *args, **kwargs)

        return run_forever_watched

    def _uvloop(self, uvloop: ModuleType) -> None:
        self._patches.replace(uvloop.Loop, "run_forever", self._watching)

    def _trio(self, trio: ModuleType) -> None:
        instrument = _TrioInstrument(self._see)

        def instrumented(run: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(run)
            def run_watched(*args: Any, **kwargs: Any) -> Any:
                if self._is_open:
                    kwargs["instruments"] = (*kwargs.get("instruments", ()), instrument)
                return run(*args, **kwargs)

            return run_watched

        for run in (trio.run, trio.lowlevel.start_guest_run):
            self._patches.replace_everywhere(run, instrumented)


class _TrioInstrument:
    """Trio calls the methods that an instrument has, and has no cost for those that it has not."""

    def __init__(self, see: Callable[[], None]) -> None:
        self._see = see

    def before_run(self) -> None:
        self._see()
