"""An agent that falls ill when it is told to, by lines on its standard input; its end ends it.

stall SECONDS    block the event loop `main`
hold SECONDS     the same in native code that keeps the GIL, so that nothing in the process runs
hang             begin an opening that hangs; `heal` lets it go on
queue            begin an opening behind the hung one, so that somebody waits for its lock
heal             let the hung opening go on
deadlock         close a circle of waits: one is refused
fail             an opening that times out, a call that fails, a wait for a lock that times out
flood            more events than an observer can take, so that some are dropped
"""

from __future__ import annotations

import asyncio
import ctypes
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any

from instrumented_sessions import LockGranularity, Queued, SessionManager, Settings, watch_loop
from instrumented_sessions.telemetry import setup
from instrumented_sessions.testing import FakeTransport


class Circle:
    """A transport whose opening asks for the very session that it opens."""

    id = "circle"
    kind = "memory"

    def connect(self) -> AbstractAsyncContextManager[Any]:
        return self._connect()

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[Any]:
        session = await PATIENT.asession(self)
        yield session.client


class Slow:
    """An observer that takes its time, so that its queue overflows."""

    def on_event(self, event: object) -> None:
        time.sleep(0.2)


async def main(telemetry_port: int) -> None:
    loop = asyncio.get_running_loop()
    watch_loop("main")
    done = asyncio.Event()
    threading.Thread(target=read, args=(loop, done), name="orders", daemon=True).start()
    print(f"metrics: http://127.0.0.1:{telemetry_port}/metrics", flush=True)
    await done.wait()


def read(loop: asyncio.AbstractEventLoop, done: asyncio.Event) -> None:
    """Obey, on a thread of its own, which goes on while the loop stands still."""
    for line in sys.stdin:
        word, *arguments = line.split()
        ORDERS[word](loop, *arguments)
        print(f"done: {word}", flush=True)
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(done.set)


def ask(manager: SessionManager, transport: Any, conversation: str, **options: Any) -> None:
    """Ask for a session on a thread of its own, whatever comes of it."""

    def run() -> None:
        with suppress(Exception):
            manager.session(transport, conversation, **options)

    threading.Thread(target=run, name=f"asks-{transport.id}", daemon=True).start()


def stall(loop: asyncio.AbstractEventLoop, seconds: str) -> None:
    loop.call_soon_threadsafe(time.sleep, float(seconds))


def hold(loop: asyncio.AbstractEventLoop, seconds: str) -> None:
    loop.call_soon_threadsafe(ctypes.PyDLL(None).sleep, int(seconds))


def hang(loop: asyncio.AbstractEventLoop) -> None:
    HUNG.connecting.close()
    ask(PATIENT, HUNG, "first", timeout_s=600.0)


def queue(loop: asyncio.AbstractEventLoop) -> None:
    ask(PATIENT, HUNG, "second", timeout_s=600.0)


def heal(loop: asyncio.AbstractEventLoop) -> None:
    HUNG.connecting.open()


def deadlock(loop: asyncio.AbstractEventLoop) -> None:
    ask(PATIENT, Circle(), "default", timeout_s=60.0)


def fail(loop: asyncio.AbstractEventLoop) -> None:
    silent, single = FakeTransport("silent"), FakeTransport("single", call_permits=1)
    silent.connecting.close()
    with suppress(Exception):
        HASTY.session(silent, timeout_s=5.0)
    silent.connecting.open()
    session = HASTY.session(single, timeout_s=60.0)
    single.calling.close()
    hung = threading.Thread(target=call, args=(session, 3.0), name="hung-call", daemon=True)
    hung.start()
    while not session.in_flight:
        time.sleep(0.01)
    call(session, 0.5)
    single.calling.open()
    hung.join()


def call(session: Any, timeout_s: float) -> None:
    with suppress(Exception):
        session.call_tool("echo", {"text": "x"}, timeout_s=timeout_s)


def flood(loop: asyncio.AbstractEventLoop) -> None:
    queued = Queued(Slow(), capacity=1)
    HASTY.add_observer(queued)
    transport = FakeTransport("flood")
    for number in range(20):
        HASTY.session(transport, str(number), timeout_s=60.0)


ORDERS: dict[str, Any] = {
    "stall": stall,
    "hold": hold,
    "hang": hang,
    "queue": queue,
    "heal": heal,
    "deadlock": deadlock,
    "fail": fail,
    "flood": flood,
}

if __name__ == "__main__":
    telemetry = setup(service_name="sick-agent", prometheus_port=0)
    PATIENT = SessionManager(
        Settings(
            granularity=LockGranularity.TRANSPORT, permits=1, open_timeout_s=600.0, acquire_timeout_s=600.0
        )
    )
    HASTY = SessionManager(Settings(open_timeout_s=0.5, permits=1))
    HUNG = FakeTransport("hung")
    with PATIENT, HASTY:
        PATIENT.session(FakeTransport("well"), timeout_s=60.0)
        asyncio.run(main(telemetry.prometheus_port or 0))
    telemetry.close(1.0)
