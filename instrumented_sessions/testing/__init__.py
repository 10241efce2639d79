"""For tests of programs that use sessions: a clock, a gate and a transport that the test controls."""

from .clock import ManualClock
from .gate import Gate
from .transport import FakeClient, FakeResult, FakeTransport

__all__ = ["FakeClient", "FakeResult", "FakeTransport", "Gate", "ManualClock"]
