"""A program that ends, or is ended, while a call hangs: its argument says how. It prints one line before.

exit: the main thread ends while another one waits in a call. loop: `asyncio.run` is left with a hung task.
wait: the main thread itself waits in the call, for a signal to end it. opening: as `wait`, in an opening.
The other arguments are the way of the stdio server, the file for its pid, and `close_timeout_s`.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from pathlib import Path
from typing import Any

from instrumented_sessions import SessionManager, Settings
from instrumented_sessions.transports import StdioTransport

SERVER = Path(__file__).parent.parent / "servers" / "raw_stdio.py"


def main() -> None:
    how, way, file, close_timeout_s = sys.argv[1:5]
    settings = Settings(close_timeout_s=float(close_timeout_s))
    manager = SessionManager(settings)
    transport = StdioTransport(id="one", command=sys.executable, args=[str(SERVER), way, file])

    def hang(session: Any) -> None:
        try:
            session.call_tool("echo", {"text": "x" * 1_000_000}, timeout_s=3600.0)
        except Exception as error:
            print(type(error).__name__, file=sys.stderr, flush=True)

    if how == "opening":
        print("hangs", flush=True)
        manager.session(transport, timeout_s=3600.0)
    session = manager.session(transport)
    if how == "wait":
        print("hangs", flush=True)
        session.call_tool("echo", {"text": "x" * 1_000_000}, timeout_s=3600.0)
    elif how == "exit":
        threading.Thread(target=hang, args=(session,), name="hung").start()
        while not session.in_flight:
            threading.Event().wait(0.001)
        print("hangs", flush=True)
    else:

        async def leave() -> None:
            task = asyncio.create_task(session.acall_tool("echo", {"text": "x" * 1_000_000}))
            while not session.in_flight:
                await asyncio.sleep(0.001)
            print("hangs", flush=True)
            del task

        asyncio.run(leave())


if __name__ == "__main__":
    main()
