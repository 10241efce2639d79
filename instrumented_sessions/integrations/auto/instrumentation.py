"""Everything that watches a program without its doing, switched on and off as one."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from typing import TypeVar

from ... import live
from ...observer import AMBIENT
from ...settings import Settings
from . import hooks
from .dump import DumpOnSignal, wanted_signal
from .exporters import SetupAtFirstFact
from .hooks import Patches, guarded
from .imports import WhenImported
from .ledger import Ledger
from .loops import EveryLoop
from .process import ProcessView, Stalls, all_stacks
from .server import DiagnosticsServer, wanted_address
from .sessions import EverySession

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Instrumentation:
    """What `instrument()` has switched on; `close()` takes all of it back."""

    def __init__(self) -> None:
        self._undo: list[tuple[str, Callable[[], object]]] = []
        self._after_fork: list[tuple[str, Callable[[], object]]] = []
        self.ledger = Ledger(slow_call_threshold_s=_slow_call_threshold_s())
        """The sessions that no manager of ours opened."""
        self.stalls = Stalls()
        self.view = ProcessView(self.ledger, self.stalls)
        """What the process knows of itself."""
        self.diagnostics: DiagnosticsServer | None = None
        """Where it is served; None when it is not."""
        self.dump: DumpOnSignal | None = None

    def start(self) -> None:
        """Switch on whatever can be; what cannot is logged."""
        self._after_fork += [("hooks", hooks.after_fork_in_child), ("stalls", self.stalls.reset)]
        self._part("setting up telemetry", self._start_telemetry)
        self._part("keeping stalls", self._start_observing)
        patches, imports = Patches(), WhenImported()
        self._undo += [("undoing the patches", patches.undo), ("waiting for imports", imports.close)]
        self._part("watching every loop", lambda: self._start_loops(patches, imports))
        self._part("watching every session", lambda: self._start_sessions(patches, imports))
        self._part("serving diagnostics", self._start_server)
        self._part("dumping on a signal", self._start_dump)

    def close(self) -> None:
        """Take everything back, the last first."""
        while self._undo:
            what, undo = self._undo.pop()
            guarded(what, undo)
        self.diagnostics = self.dump = None

    def after_fork_in_child(self) -> None:
        """Begin anew in the child of a fork, which has none of the parent's threads."""
        for what, begin in self._after_fork:
            guarded(f"{what} after a fork", begin)

    def explain(self) -> str:
        """Return all there is to say: what waits and why, where to ask further, and every stack."""
        text = self.view.explain()
        if self.diagnostics is not None:
            text += f"\n\nMore: instrumented-sessions doctor {self.diagnostics.address}"
        return f"{text}\n\nAll stacks, innermost call last:\n{all_stacks()}"

    def _part(self, what: str, start: Callable[[], None]) -> None:
        try:
            start()
        except ValueError as error:  # A setting, or a signal that the program handles.
            logger.warning("%s is left out: %s", what, error)
        except Exception:
            hooks.note_failure(what)

    def _start_telemetry(self) -> None:
        telemetry = SetupAtFirstFact()
        self._undo.append(("closing telemetry", telemetry.close))
        self._after_fork.append(("telemetry", telemetry.after_fork_in_child))

    def _start_observing(self) -> None:
        AMBIENT.add(self.stalls)
        self._undo.append(("keeping stalls", lambda: AMBIENT.remove(self.stalls)))

    def _start_loops(self, patches: Patches, imports: WhenImported) -> None:
        loops = EveryLoop(patches, imports)
        self._undo.append(("watching every loop", loops.close))

    def _start_sessions(self, patches: Patches, imports: WhenImported) -> None:
        live.register(self.ledger)
        self._undo.append(("retiring the ledger", lambda: live.retire(self.ledger)))
        sessions = EverySession(self.ledger, patches, imports)
        self._undo.append(("watching every session", sessions.close))
        self._after_fork.append(("sessions", self._forget_sessions))

    def _forget_sessions(self) -> None:
        self.ledger.reset()
        live.register(self.ledger)  # `live` forgets its sources in the child.

    def _start_server(self) -> None:
        address = wanted_address()
        if address is None:
            return
        try:
            self.diagnostics = DiagnosticsServer(self.view, *address, metrics=self._start_metrics())
        except OSError as error:
            logger.warning("no diagnostics: %s:%s cannot be listened on (%s)", *address, error)
            return
        self._undo.append(("closing diagnostics", self.diagnostics.close))
        self._after_fork.append(("diagnostics", self._move_server))
        logger.info("diagnostics at %s", self.diagnostics.address)

    def _move_server(self) -> None:
        assert self.diagnostics is not None
        self.diagnostics.after_fork_in_child()
        logger.info("diagnostics of process %s at %s", os.getpid(), self.diagnostics.address)

    def _start_metrics(self) -> Callable[[], str] | None:
        try:
            from prometheus_client import generate_latest

            from ...telemetry.prometheus import PrometheusObserver
        except ImportError:
            return None
        observer = PrometheusObserver()
        AMBIENT.add(observer)
        self._undo.append(("metrics", lambda: AMBIENT.remove(observer)))
        return lambda: generate_latest(observer.registry).decode()

    def _start_dump(self) -> None:
        number = wanted_signal()
        if number is not None:
            self.dump = DumpOnSignal(number, self.explain)
            dump = self.dump
            AMBIENT.add(dump)
            self._undo.append(("closing the dump", dump.close))
            self._undo.append(("closing the dump", lambda: AMBIENT.remove(dump)))
            self._after_fork.append(("the dump", self.dump.after_fork_in_child))


_lock = threading.RLock()  # Protects the two below.
_current: Instrumentation | None = None
_has_fork_hook = False


def current() -> Instrumentation | None:
    """Return what is switched on now; None when nothing is."""
    return _current


def instrument() -> Instrumentation:
    """Watch this program without its doing; again has no effect. Never raises."""
    global _current, _has_fork_hook
    with _lock:
        if _current is None:
            _current = Instrumentation()
            _current.start()
        if not _has_fork_hook and hasattr(os, "register_at_fork"):
            _has_fork_hook = True
            os.register_at_fork(after_in_child=_after_fork_in_child)
        return _current


def uninstrument() -> None:
    """Take back everything that `instrument()` did; without it, no effect. Never raises."""
    global _current
    with _lock:
        instrumentation, _current = _current, None
        if instrumentation is not None:
            instrumentation.close()


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.RLock()  # Another thread of the parent may have held it.
    if _current is not None:
        _current.after_fork_in_child()


def _slow_call_threshold_s() -> float:
    try:
        return Settings.from_env().slow_call_threshold_s
    except ValueError:  # Said where the loops are watched.
        return Settings().slow_call_threshold_s
