"""What the demo plays: its servers with their faults, the transports to them, and who talks."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

from ..settings import Settings
from ..transports import StdioTransport, StreamableHTTPTransport, Transport
from ..vocabulary import LockGranularity
from . import leash
from .fleet import ServerPlan

LIVE_CONVERSATIONS = 3
"""How many conversations go on at once."""

_NAMES = (
    "refund-4711",
    "trip-to-lisbon",
    "invoice-0815",
    "onboarding-kim",
    "outage-eu-west",
    "contract-acme",
    "newsletter-may",
    "hiring-backend",
    "returns-ms-okafor",
    "audit-2026",
)

_SUBJECTS = ("Zürich", "Lagos", "parcel 88", "VPN", "lease", "quarterly figures", "Ms Okafor", "warranty")


@dataclass(frozen=True)
class Scene:
    """The faults of one run of the demo.

    Attributes:
        healthy: Without the slow, stalling and dying parts; one server still takes one call at a time.
        seed: Where all randomness starts.
    """

    healthy: bool
    seed: int

    def settings(self) -> Settings:
        """Return limits that are short enough to be met in a demo."""
        return Settings(
            granularity=LockGranularity.TRANSPORT,
            permits=4 if self.healthy else 1,  # One handshake at a time, so that there is a queue to see.
            open_timeout_s=15.0,
            acquire_timeout_s=15.0,
            call_timeout_s=10.0 if self.healthy else 2.5,  # Shorter than the longest stall of a server.
            close_timeout_s=1.0,  # Ctrl-C has to end everything in less than five seconds.
            backoff_initial_s=0.3,
            backoff_max_s=2.0,
            slow_call_threshold_s=1.5,
            heartbeat_span_interval_s=2.0,
        )

    def http_servers(self) -> list[ServerPlan]:
        """Return how to start the servers that speak HTTP; those over stdio start with their sessions."""
        seed = f"--seed={self.seed}"
        return [
            ServerPlan("search", (seed, *self._faults("--slow-handshake-s=0.8"))),
            ServerPlan("tickets", (seed,), lives_s=() if self.healthy else (6.0, 15.0)),
            ServerPlan("printer", (seed, "--one-at-a-time")),
        ]

    def transports(self, url: Callable[[str], str], errlog: TextIO) -> dict[str, Transport]:
        """Return the way to each server, by its name.

        Args:
            url: Tells the address of a server that speaks HTTP.
            errlog: A file for the error output of those over stdio.
        """
        return {
            "weather": self._stdio("weather", errlog, *self._faults("--slow-handshake-s=0.8")),
            "notes": self._stdio("notes", errlog, *self._faults("--stall-every=25", "--stall-s=3.0")),
            "search": StreamableHTTPTransport(id="search", url=url("search")),
            "tickets": StreamableHTTPTransport(id="tickets", url=url("tickets")),
            # One process for all conversations takes one call at a time, so the lock covers the transport.
            "printer": StreamableHTTPTransport(
                id="printer",
                url=url("printer"),
                call_permits=1,
                call_granularity=LockGranularity.TRANSPORT,
            ),
        }

    def _faults(self, *arguments: str) -> tuple[str, ...]:
        return () if self.healthy else arguments

    def _stdio(self, name: str, errlog: TextIO, *arguments: str) -> Transport:
        program, *rest = leash.command(
            "instrumented_sessions.demo.servers", name, f"--seed={self.seed}", *arguments
        )
        # The SDK gives its servers a bare environment; the way to this package must be in it.
        env = {name: value for name, value in os.environ.items() if name == "PYTHONPATH"}
        return StdioTransport(id=name, command=program, args=rest, env=env, errlog=errlog)


class Conversations:
    """Who talks now: `LIVE_CONVERSATIONS` names, the oldest of which leave and others come.

    May be used from any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # Protects the two below.
        self._live = list(_NAMES[:LIVE_CONVERSATIONS])
        self._waiting = list(_NAMES[LIVE_CONVERSATIONS:])

    def pick(self, rng: random.Random) -> str:
        """Return one that goes on now."""
        with self._lock:
            return rng.choice(self._live)

    def end_oldest(self, count: int) -> list[str]:
        """End the `count` oldest, begin as many others, and return the names of those that ended."""
        with self._lock:
            ended, self._live = self._live[:count], self._live[count:] + self._waiting[:count]
            self._waiting = self._waiting[count:] + ended
            return ended


def pick_subject(rng: random.Random) -> str:
    """Return something to ask a server about."""
    return rng.choice(_SUBJECTS)
