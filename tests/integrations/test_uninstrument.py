"""What `instrument()` does is taken back completely: attributes, threads, observers, the signal."""

from __future__ import annotations

import asyncio
import importlib
import signal
import sys
import threading
from types import ModuleType
from typing import Any

import mcp
import pytest
import trio
import uvloop

from instrumented_sessions.integrations.auto import current, instrument, uninstrument
from instrumented_sessions.integrations.auto.hooks import Patches
from instrumented_sessions.integrations.auto.imports import WhenImported
from instrumented_sessions.observer import AMBIENT

OPENERS = (
    "stdio_client",
    "sse_client",
    "streamable_http_client",
    "streamablehttp_client",
    "websocket_client",
)
MODULES = ("mcp", "mcp.client.stdio", "mcp.client.sse", "mcp.client.streamable_http", "mcp.client.client")


def attributes() -> dict[str, Any]:
    """Every attribute that may be replaced, and what else may be left."""
    found: dict[str, Any] = {}
    for owner in (mcp.ClientSession, asyncio.BaseEventLoop, uvloop.Loop):
        found.update({f"{owner.__qualname__}.{name}": value for name, value in vars(owner).items()})
    for name in MODULES:
        if (module := sys.modules.get(name)) is not None:
            found.update({f"{name}.{opener}": getattr(module, opener, None) for opener in OPENERS})
    found["trio.run"], found["trio._core.run"] = trio.run, sys.modules["trio._core"].run  # type: ignore[attr-defined]
    found["trio.lowlevel.start_guest_run"] = trio.lowlevel.start_guest_run
    return found


def test_everything_is_as_it_was(nothing_exported: None) -> None:
    """By identity: attributes, finders, observers, threads and the signal's handler."""
    importlib.import_module("mcp.client.sse")
    instrument()  # Once before: what is made once for the process stays, such as the watchdog's classes.
    uninstrument()
    before = attributes()
    finders, observers = list(sys.meta_path), AMBIENT.observers
    threads, handler = set(threading.enumerate()), signal.getsignal(signal.SIGUSR2)
    instrument()
    try:
        during = attributes()
        changed = {name for name in during if during[name] is not before.get(name)}
        assert {"ClientSession.__aenter__", "BaseEventLoop.run_forever", "Loop.run_forever"} <= changed
        assert {"trio.run", "trio._core.run", "mcp.stdio_client", "mcp.client.sse.sse_client"} <= changed
        assert "ClientSession.send_request" in during
        assert set(threading.enumerate()) > threads
        assert signal.getsignal(signal.SIGUSR2) is not handler
    finally:
        uninstrument()
    after = attributes()
    assert after.keys() == before.keys()
    assert not {name for name in before if after[name] is not before[name]}
    assert (list(sys.meta_path), AMBIENT.observers) == (finders, observers)
    assert {
        thread for thread in threading.enumerate() if thread.name != "instrumented-sessions-watchdog"
    } <= threads
    assert signal.getsignal(signal.SIGUSR2) is handler
    assert current() is None


def test_functions_imported_by_name_meanwhile_are_put_back(nothing_exported: None) -> None:
    """A module that was imported while the hooks were there keeps none of them."""
    original = mcp.stdio_client
    late = ModuleType("late")
    sys.modules["late"] = late
    try:
        instrument()
        late.stdio_client = mcp.stdio_client  # type: ignore[attr-defined]
        assert late.stdio_client is not original  # type: ignore[attr-defined]
        uninstrument()
        assert late.stdio_client is original  # type: ignore[attr-defined]
    finally:
        uninstrument()
        del sys.modules["late"]


def test_handler_that_the_program_sets_meanwhile_stays(nothing_exported: None) -> None:
    """The program's own handler wins, while we are there and afterwards."""

    def theirs(number: int, frame: Any) -> None:
        pass

    before = signal.getsignal(signal.SIGUSR2)
    try:
        instrument()
        signal.signal(signal.SIGUSR2, theirs)
        uninstrument()
        assert signal.getsignal(signal.SIGUSR2) is theirs
    finally:
        uninstrument()
        signal.signal(signal.SIGUSR2, before)


def test_signal_that_is_handled_is_left_alone(
    nothing_exported: None, caplog: pytest.LogCaptureFixture
) -> None:
    """Who handles the signal keeps it, and the log says why there is no dump."""

    def theirs(number: int, frame: Any) -> None:
        pass

    before = signal.signal(signal.SIGUSR2, theirs)
    try:
        assert instrument().dump is None
        assert "SIGUSR2 has a handler already" in caplog.text
        uninstrument()
        assert signal.getsignal(signal.SIGUSR2) is theirs
    finally:
        uninstrument()
        signal.signal(signal.SIGUSR2, before)


def test_instrumenting_twice_is_once(nothing_exported: None) -> None:
    """The second call has no effect, and one call takes it back."""
    try:
        assert instrument() is instrument()
    finally:
        uninstrument()
    uninstrument()
    assert current() is None


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("INSTRUMENTED_SESSIONS_DUMP_SIGNAL", "SIGKILL", "dumping on a signal is left out"),
        ("INSTRUMENTED_SESSIONS_DUMP_SIGNAL", "SIGNOTHING", "got 'SIGNOTHING'"),
        ("INSTRUMENTED_SESSIONS_DIAGNOSTICS", "0.0.0.0:1", "serving diagnostics is left out"),
        ("INSTRUMENTED_SESSIONS_STALL_THRESHOLD_S", "soon", "watching every loop is left out"),
    ],
)
def test_setting_that_cannot_be_read_is_logged_and_the_rest_goes_on(
    variable: str,
    value: str,
    said: str,
    nothing_exported: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nothing is raised into the program, whatever its environment says."""
    monkeypatch.setenv(variable, value)
    enter = mcp.ClientSession.__aenter__
    try:
        instrument()
        assert said in caplog.text
        assert mcp.ClientSession.__aenter__ is not enter
    finally:
        uninstrument()
    assert mcp.ClientSession.__aenter__ is enter


def test_attribute_that_somebody_replaced_since_is_left_to_him() -> None:
    """Taking ours back from under another's wrapper would take the other's away."""

    class Owner:
        def method(self) -> str:
            return "original"

    class Heir(Owner):
        pass

    patches = Patches()
    patches.replace(Heir, "method", lambda original: lambda self: f"ours, {original(self)}")
    assert Heir().method() == "ours, original"
    patches.undo()
    assert "method" not in vars(Heir)
    patches.replace(Owner, "method", lambda original: lambda self: f"ours, {original(self)}")
    ours = Owner.method
    theirs = Owner.method = lambda self: f"theirs, {ours(self)}"  # type: ignore[method-assign]
    patches.undo()
    assert vars(Owner)["method"] is theirs


def test_module_is_acted_upon_when_it_is_imported(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The action runs once, after the module's own code, and leaves the module its own loader."""
    (tmp_path / "module_of_a_test.py").write_text("here = 1\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    seen: list[ModuleType] = []
    imports = WhenImported()
    imports.call("module_of_a_test", seen.append)
    imports.call("no_such_module_of_a_test", seen.append)
    try:
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("no_such_module_of_a_test")
        module = importlib.import_module("module_of_a_test")
        assert seen == [module]
        assert module.here == 1
        assert type(module.__loader__).__module__ != WhenImported.__module__
        assert module.__spec__ is not None
        assert module.__spec__.loader is module.__loader__
    finally:
        imports.close()
        sys.modules.pop("module_of_a_test", None)
    assert imports not in sys.meta_path
