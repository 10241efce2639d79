"""Modern protocols ask for input in rounds of the call itself; each callback then has its own caller."""

from __future__ import annotations

import contextvars
from typing import Annotated, Any

import anyio
import pytest

from instrumented_sessions.transports import InMemoryTransport
from tests.transports.watching import GUARD_S, IS_2, call

if not IS_2:
    pytest.skip("only SDK 2.x speaks modern protocols", allow_module_level=True)

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.resolve import ListRoots, Resolve
from mcp_types import ListRootsResult, Root

caller: contextvars.ContextVar[str] = contextvars.ContextVar("caller", default="nobody")


async def ask() -> ListRoots:
    return ListRoots()


async def where(roots: Annotated[ListRootsResult, Resolve(ask)]) -> str:
    """Ask the client for its roots, in a second round."""
    return str(roots.roots[0].uri)


def answer(context: Any) -> Any:
    return ListRootsResult(roots=[Root(uri=f"file:///{caller.get()}")])


@pytest.fixture
def transport() -> Any:
    server = MCPServer("rounds")
    server.add_tool(where, structured_output=False)
    return InMemoryTransport("rounds", server, list_roots_callback=answer)


async def test_callback_in_a_round_sees_its_own_caller(transport: Any) -> None:
    """Also when several calls are in flight: the round belongs to one of them."""
    found: dict[str, str] = {}

    async def as_caller(name: str, client: Any) -> None:
        caller.set(name)
        found[name] = await call(client, "where")

    with anyio.fail_after(GUARD_S):
        async with transport.connect() as client, anyio.create_task_group() as group:
            for name in ("alice", "bob", "carol"):
                group.start_soon(as_caller, name, client)
    assert found == {name: f"file:///{name}" for name in ("alice", "bob", "carol")}
