"""Ways to reach an MCP server, on `mcp` 1.24 or later and 2.x.

Build a transport once and keep it: sessions are shared by its `id`.
"""

from __future__ import annotations

from .base import Transport
from .http import SSETransport, StreamableHTTPTransport
from .memory import InMemoryTransport
from .stdio import StdioTransport

__all__ = ["InMemoryTransport", "SSETransport", "StdioTransport", "StreamableHTTPTransport", "Transport"]
