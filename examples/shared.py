"""Threads and tasks of one program share one manager, and get the very same session object.

Run it with `python examples/shared.py`.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from pathlib import Path

from instrumented_sessions import Session, SessionManager
from instrumented_sessions.transports import StdioTransport

weather = StdioTransport(
    id="weather", command=sys.executable, args=[str(Path(__file__).with_name("weather_server.py"))]
)


def main() -> None:
    sessions: list[Session] = []

    def in_a_thread(manager: SessionManager) -> None:
        session = manager.session(weather, timeout_s=20.0)
        sessions.append(session)
        print("thread:", session.call_tool("forecast", {"city": "Zürich"}).content[0].text)

    async def in_a_task(manager: SessionManager) -> None:
        session = await manager.asession(weather, timeout_s=20.0)
        sessions.append(session)
        result = await session.acall_tool("forecast", {"city": "Lagos"})
        print("task:", result.content[0].text)

    with SessionManager() as manager:
        thread = threading.Thread(target=in_a_thread, args=(manager,))
        thread.start()
        asyncio.run(in_a_task(manager))
        thread.join()
        print("same session:", sessions[0] is sessions[1])


if __name__ == "__main__":
    main()
