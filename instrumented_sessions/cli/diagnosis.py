"""What an agent's diagnostics say, and what to do about it: `doctor ADDRESS`."""

from __future__ import annotations

import http.client
import json
import urllib.request
from dataclasses import dataclass
from typing import Any

from ..chain import CodeLocation

SERVICE = "instrumented-sessions diagnostics"
"""What the server says it is, see `integrations.auto.server`."""

PATIENCE_S = 5.0
"""A wait that has lasted longer, in seconds, is a finding."""

_LIMIT_S = 10.0
_SHOWN = 10

FOR_CAUSE = {
    "blocking_call": "await an asynchronous variant of that call, or move it off the loop with"
    " asyncio.to_thread()",
    "cpu": "move the computation to a worker thread or process, or give the loop a turn now and then",
    "gil": "that native code keeps the GIL, so a thread does not help: move it to another process",
    "gc": "call gc.freeze() after start, or let it collect less often with gc.set_threshold()",
    "starved": "the machine has too little CPU for what runs on it: no code of the program is at fault",
    "throttled": "raise the CPU limit of the container: no code of the program is at fault",
    "suspended": "the process or the machine was stopped: no code of the program is at fault",
    "unknown": "look at the stack: kill -USR2 writes all of them to the agent's stderr",
}
"""What to do about a stall, by its cause."""

FOR_PHASE = {
    "queue": "it waits for an opening of the same session, for room (max_sessions), or for a back-off to end",
    "lock": "see who holds the lock; more permits, or a finer granularity, let others pass a hung one",
    "connect": "see whether the server is started and can be reached",
    "authorize": "a person has to grant access",
    "negotiate": "the server was reached and does not answer the handshake: see its log",
    "write": "the server does not read its input: see whether it is busy or stopped",
    "response": "the server has the request and does not answer: see its log, and give calls a limit",
    "close": "calls are still in flight, or the server does not end",
}
"""What to do about a wait, by its phase."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong."""

    what: str
    advice: str
    stack: tuple[str, ...] = ()
    """Innermost call last."""


@dataclass(frozen=True)
class Diagnosis:
    """What an agent says of itself."""

    about: str
    """One sentence: which process, and what it has."""
    findings: tuple[Finding, ...]

    def text(self) -> str:
        """Return it for a person."""
        lines = [self.about]
        for finding in self.findings[:_SHOWN]:
            lines += ["", f"WRONG   {finding.what}.", f"        What to do: {finding.advice}."]
            if finding.stack:
                lines += [
                    "        Where, innermost last:",
                    *(f"          {frame}" for frame in finding.stack[-8:]),
                ]
        if len(self.findings) > _SHOWN:
            lines += ["", f"and {len(self.findings) - _SHOWN} more"]
        if not self.findings:
            lines.append("ok      every loop runs, and nothing has waited for long")
        return "\n".join(lines) + "\n"


def is_agent(address: str) -> bool:
    """Return whether an agent's diagnostics answer at `address`."""
    try:
        health = _get(address, "/healthz")
    except (OSError, ValueError):
        return False
    return isinstance(health, dict) and health.get("service") == SERVICE


def diagnose(address: str) -> Diagnosis:
    """Ask an agent what waits and which loop stalls.

    Raises:
        OSError: It does not answer.
        ValueError: It answers something else.
    """
    statistics = _get(address, "/statistics")
    stalls = [_of_stall(stall) for stall in _get(address, "/stalls")]
    waits = [_of_chain(chain) for chain in _get(address, f"/hangs?older_than_s={PATIENCE_S}")]
    return Diagnosis(_about(statistics), (*stalls, *waits))


def with_scheme(address: str) -> str:
    """Return `address` as a URL, `http://` if it names no scheme."""
    return address.rstrip("/") if "://" in address else f"http://{address.rstrip('/')}"


def _about(statistics: dict[str, Any]) -> str:
    sessions = ", ".join(
        f"{entry['count']} {entry['state']} of {entry['transport']}" for entry in statistics["sessions"]
    )
    loops = ", ".join(entry["loop"] for entry in statistics["loops"])
    return (
        f"Process {statistics['pid']} ({statistics['program']}, Python {statistics['python']});"
        f" sessions: {sessions or 'none'}; loops: {loops or 'none'}; {statistics['waiters']} wait."
    )


def _of_stall(stall: dict[str, Any]) -> Finding:
    what = f"loop {stall['loop']!r} has not run for {stall['duration_s']:.1f} s, cause {stall['cause']}"
    if stall["culprit"]:
        culprit = CodeLocation(*(stall["culprit"][field] for field in CodeLocation._fields))
        what += f" at {culprit.short()}"
    frames = stall["stacks"][0]["frames"] if stall["stacks"] else ()
    return Finding(what, FOR_CAUSE.get(stall["cause"], FOR_CAUSE["unknown"]), tuple(frames))


def _of_chain(chain: dict[str, Any]) -> Finding:
    advice = FOR_PHASE.get(chain["phase"], FOR_PHASE["response"])
    if chain["is_cycle"]:
        advice = "this is a deadlock: take these locks in one order everywhere"
    held = next((link["stack"] for link in reversed(chain["links"]) if link["stack"]), ())
    return Finding(chain["summary"], advice, tuple(held or chain["waiter_stack"]))


def _get(address: str, path: str) -> Any:
    # Asked directly: the environment's proxies know nothing of this machine's loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(with_scheme(address) + path, timeout=_LIMIT_S) as answer:
            return json.loads(answer.read(64 * 2**20))
    except http.client.HTTPException as error:
        raise ValueError(f"not an answer by HTTP: {error!r}") from error
