"""Synchronous code: several threads share one session.

Run it with `python examples/sync_agent.py`.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from instrumented_sessions import SessionManager
from instrumented_sessions.transports import StdioTransport

weather = StdioTransport(
    id="weather", command=sys.executable, args=[str(Path(__file__).with_name("weather_server.py"))]
)


def ask(manager: SessionManager, city: str) -> str:
    # The first thread opens the session, the others wait for that same opening.
    session = manager.session(weather, conversation="trip-to-lisbon", timeout_s=20.0)
    result = session.call_tool("forecast", {"city": city}, timeout_s=10.0)
    return str(result.content[0].text)


def main() -> None:
    with SessionManager() as manager, ThreadPoolExecutor(3) as pool:
        for answer in pool.map(lambda city: ask(manager, city), ["Lisbon", "Porto", "Faro"]):
            print(answer)
        print("openings:", manager.statistics().counters["openings_ok"])


if __name__ == "__main__":
    main()
