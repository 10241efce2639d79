"""A program that opens eight conversations cold under each granularity, beside a transport that hangs.

It reports to the dashboard at the address in its argument. `<granularity>-a` and `-b` have four conversations
each and one permit; the handshakes stop at a gate until all eight have asked, so that who waits is certain.
"""

from __future__ import annotations

import asyncio
import sys

from instrumented_sessions import LockGranularity, SessionManager, SessionState, SessionTimeoutError, Settings
from instrumented_sessions.telemetry import setup
from instrumented_sessions.testing import FakeTransport


async def start(granularity: LockGranularity) -> None:
    transports = [FakeTransport(f"{granularity}-{name}") for name in ("a", "b")]
    for transport in transports:
        transport.connecting.close()
    async with SessionManager(Settings(granularity=granularity, permits=1)) as manager:
        asked = [
            asyncio.create_task(manager.asession(transport, f"c-{number}"))
            for transport in transports
            for number in range(4)
        ]
        while manager.statistics().sessions.get(SessionState.CREATING) != 8:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.2)  # The wait that is to be seen.
        for transport in transports:
            transport.connecting.open()
        await asyncio.gather(*asked)


async def hang() -> None:
    transport = FakeTransport("hung")
    transport.connecting.close()
    async with SessionManager(Settings(permits=1)) as manager:
        asked = [manager.asession(transport, f"c-{number}", timeout_s=0.3) for number in range(4)]
        results = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(result, SessionTimeoutError) for result in results)


async def main() -> None:
    for granularity in LockGranularity:
        await start(granularity)
    await hang()


if __name__ == "__main__":
    telemetry = setup(service_name="slow-start", otlp_endpoint=sys.argv[1])
    asyncio.run(main())
    telemetry.close(10.0)
