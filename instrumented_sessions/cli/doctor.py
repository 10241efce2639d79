"""Checks the installation: what is there, what is missing, and what to do about it."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata

from ..demo import extras
from ..demo.dashboard import DEFAULT_ADDRESS, answers

OLDEST_PYTHON = (3, 10)
OLDEST_MCP = (1, 24)
NEWEST_MCP = (2,)
OLDEST_OPENTELEMETRY = (1, 30)


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    is_well: bool
    found: str
    """What was found, or what to do."""
    is_needed: bool = True
    """Whether nothing works without it."""


def examine(address: str | None) -> list[Check]:
    """Look at everything.

    Args:
        address: Where a dashboard has to answer; None: one may answer at `DEFAULT_ADDRESS`.
    """
    return [
        _python(),
        _distribution("mcp", OLDEST_MCP, NEWEST_MCP),
        _distribution("opentelemetry-api", OLDEST_OPENTELEMETRY),
        _extra("otel", "opentelemetry-sdk"),
        _extra("prometheus", "prometheus-client"),
        _extra("dashboard", "fastapi"),
        _dashboard(address),
    ]


def describe(checks: Iterable[Check]) -> str:
    """Return the checks, a line for each."""
    marks = {(True, True): "ok", (True, False): "ok", (False, True): "WRONG", (False, False): "absent"}
    return "".join(
        f"{marks[check.is_well, check.is_needed]:<7} {check.name:<18} {check.found}\n" for check in checks
    )


def _python() -> Check:
    oldest = ".".join(map(str, OLDEST_PYTHON))
    is_well = sys.version_info[:2] >= OLDEST_PYTHON
    found = f"{platform.python_version()} on {platform.system()}"
    return Check("python", is_well, found if is_well else f"{found}; {oldest} or newer is needed")


def _distribution(name: str, oldest: tuple[int, ...], newest: tuple[int, ...] | None = None) -> Check:
    version = _version_of(name)
    if version is None:
        return Check(name, False, f"not installed; run: pip install {name}")
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:3])
    is_well = numbers >= oldest and (newest is None or numbers[: len(newest)] <= newest)
    allowed = f"{'.'.join(map(str, oldest))} or newer" + (
        f", generation {newest[0]} at most" if newest else ""
    )
    generation = f" (generation {numbers[0]})" if newest else ""
    return Check(name, is_well, f"{version}{generation}" + ("" if is_well else f"; {allowed} is needed"))


def _extra(extra: str, distribution: str) -> Check:
    lacking = extras.missing(extra)
    if lacking:
        found = f"{', '.join(lacking)} not installed; if wanted, run: {extras.advice(extra)}"
    else:
        found = f"{distribution} {_version_of(distribution) or 'of unknown version'}"
    return Check(f"[{extra}]", not lacking, found, is_needed=False)


def _dashboard(address: str | None) -> Check:
    where = address or DEFAULT_ADDRESS
    is_well = answers(where, timeout_s=2.0)
    found = (
        f"answers at {where}"
        if is_well
        else f"none answers at {where}; start one: instrumented-sessions dashboard"
    )
    return Check("dashboard", is_well, found, is_needed=address is not None)


def _version_of(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
