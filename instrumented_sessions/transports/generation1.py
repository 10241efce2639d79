"""The 1.x session, made to read on while a callback answers the server."""

from __future__ import annotations

import logging
from typing import Any

from . import sdk

logger = logging.getLogger(__name__)


class AnsweringSession(sdk.ClientSession):  # type: ignore[misc]  # Its type depends on the SDK.
    """A 1.x `ClientSession` that answers the server's requests in tasks of their own.

    1.x awaits the callback in its receive loop, so that a callback which calls the same session waits
    for an answer that nobody reads.
    """

    protocol_version: str | None = None
    """The version that the server chose; 1.x forgets it."""

    async def initialize(self) -> Any:
        """Shake hands, and remember the protocol's version."""
        answer = await super().initialize()
        self.protocol_version = str(answer.protocolVersion)
        return answer

    async def _received_request(self, responder: Any) -> None:
        self._task_group.start_soon(self._answer, responder)

    async def _answer(self, responder: Any) -> None:
        try:
            await super()._received_request(responder)
        except Exception:
            # Not a callback's error, which ends there, but the connection's: it must not end this task group.
            logger.debug("a server's request was not answered", exc_info=True)

    async def _handle_incoming(self, req: Any) -> None:
        # 1.x would pass on a request that is not answered when `_received_request` returns.
        if not hasattr(req, "respond"):
            await super()._handle_incoming(req)
