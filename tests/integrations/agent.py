"""An agent that has never heard of this library: the raw SDK, a real server, plain asyncio.

It prints what a test wants to know of it as JSON, one object a line.
"""

from __future__ import annotations

import asyncio
import ctypes
import io
import json
import os
import signal
import sys
import threading
import time
from typing import Any

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client


def say(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


async def talk(server: str) -> None:
    parameters = StdioServerParameters(command=sys.executable, args=[server])
    async with stdio_client(parameters) as (read, write), ClientSession(read, write) as session:
        await session.initialize()
        answer = await session.call_tool("echo", {"text": "hello"})
        say(answer=answer.content[0].text)
        await asyncio.to_thread(sys.stdin.readline)  # Until the test has seen what it waits for.


def own_sdk() -> Any:
    """Set up the SDK that this program brings, as late as a program may."""
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


async def bring_sdk(server: str) -> None:
    exporter = own_sdk()
    await talk(server)
    say(spans=sorted({span.name for span in exporter.get_finished_spans()}))


def block(kind: str) -> None:
    """Block the main thread until the test kills this program."""
    threading.Thread(target=a_worker_that_waits, daemon=True).start()
    if kind == "gil":
        library: Any = ctypes.PyDLL(None)  # Keeps the GIL, and goes on after a signal.
        say(ready=True)
        native_code_that_keeps_the_gil(library)
    else:
        asyncio.run(a_task_that_waits())


def native_code_that_keeps_the_gil(library: Any) -> None:
    mutex = ctypes.create_string_buffer(128)  # Zeros are an unlocked one.
    library.pthread_mutex_lock(mutex)
    library.pthread_mutex_lock(mutex)  # Waits for ever, and no signal interrupts it.


def a_worker_that_waits() -> None:
    threading.Event().wait()


async def a_task_that_waits() -> None:
    say(ready=True)
    await asyncio.Event().wait()


def fork() -> None:
    """Fork, and let the child say where its diagnostics are."""
    from instrumented_sessions.integrations.auto import current

    def where() -> str:
        instrumentation = current()
        assert instrumentation is not None
        assert instrumentation.diagnostics is not None
        return instrumentation.diagnostics.address

    say(parent=where())
    child = os.fork()
    if child == 0:
        try:
            sys.stdin = io.StringIO()
            asyncio.run(talk(sys.argv[2]))
            say(child=[where(), os.getpid()])
            while True:
                signal.pause()  # A signal that is handled ends it.
        finally:
            os._exit(0)
    os.waitpid(child, 0)


def main() -> int:
    command = sys.argv[1]
    if command == "talk":
        asyncio.run(talk(sys.argv[2]))
    elif command == "stall":
        asyncio.run(stall())
    elif command == "stall_for_ever":
        asyncio.run(stall_for_ever())
    elif command == "sdk":
        asyncio.run(bring_sdk(sys.argv[2]))
    elif command == "block":
        block(sys.argv[2])
    elif command == "fork":
        fork()
    return 0


async def stall_for_ever() -> None:
    await asyncio.sleep(0)
    say(stalling=True)
    threading.Event().wait()


async def stall() -> None:
    await asyncio.sleep(0)
    time.sleep(1.5)
    await asyncio.to_thread(sys.stdin.readline)


if __name__ == "__main__":
    sys.exit(main())
