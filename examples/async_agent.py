"""Asynchronous code: several tasks share one session, and the loop is never blocked.

Run it with `python examples/async_agent.py`.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from instrumented_sessions import SessionManager
from instrumented_sessions.transports import StdioTransport

weather = StdioTransport(
    id="weather", command=sys.executable, args=[str(Path(__file__).with_name("weather_server.py"))]
)


async def ask(manager: SessionManager, city: str) -> str:
    session = await manager.asession(weather, conversation="trip-to-lisbon", timeout_s=20.0)
    result = await session.acall_tool("forecast", {"city": city}, timeout_s=10.0)
    return str(result.content[0].text)


async def main() -> None:
    async with SessionManager() as manager:
        for answer in await asyncio.gather(*(ask(manager, city) for city in ["Lisbon", "Porto", "Faro"])):
            print(answer)
        print("openings:", manager.statistics().counters["openings_ok"])


if __name__ == "__main__":
    asyncio.run(main())
