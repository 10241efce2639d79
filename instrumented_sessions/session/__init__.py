"""The handle that users hold, its view that looks like the SDK's, and what their calls do."""

from .handle import Doors, Session, SessionRecord
from .view import ClientView
from .work import CallBody, CallWork, Progress

__all__ = ["CallBody", "CallWork", "ClientView", "Doors", "Progress", "Session", "SessionRecord"]
