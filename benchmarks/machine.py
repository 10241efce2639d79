"""Says on what a figure was measured, without naming the machine."""

from __future__ import annotations

import os
import platform
from datetime import date
from importlib.metadata import version


def describe() -> str:
    """Return one line: date, cores, system, Python, and the packages that matter."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("mcp", "opentelemetry-api"))
    system = f"{platform.system()} {platform.machine()}"
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{date.today().isoformat()}, {os.cpu_count()} shared cores, {system}, {python}, {packages}"
