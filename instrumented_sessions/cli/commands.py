"""What each command does; what it needs is imported when it runs, so that `--help` needs nothing."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path


def run_demo(options: argparse.Namespace) -> int:
    """Run the demo."""
    from ..demo.run import DemoOptions, run_demo

    return run_demo(
        DemoOptions(
            duration_s=options.duration,
            headless=options.headless,
            healthy=options.healthy,
            seed=options.seed,
            port=options.port,
            metrics_port=options.metrics_port,
        )
    )


def run_dashboard(options: argparse.Namespace) -> int:
    """Serve the dashboard until a signal ends it."""
    from ..demo import extras
    from ..demo.problem import Problem

    extras.require("the dashboard", "dashboard")
    dashboard = importlib.import_module("instrumented_sessions_dashboard")
    try:
        token = Path(options.token_file).read_text("utf-8").strip() if options.token_file else None
        dashboard.serve(options.host, options.port, options.db, token)
    except (dashboard.ServeError, OSError) as error:
        raise Problem(str(error)) from error
    return 0


def run_program(options: argparse.Namespace) -> int:
    """Run a program, instrumented; returns only when there is none."""
    from ..demo.problem import Problem
    from .run import run

    program = options.program[1:] if options.program[:1] == ["--"] else options.program
    if not program:
        raise Problem("say what to run: a script, or -m and a module")
    run(program, is_module=options.is_module)


def run_advise(options: argparse.Namespace) -> int:
    """Print what a recording says of lock granularity."""
    from . import advise

    advise.run(options.file, is_json=options.json, permits=options.permits)
    return 0


def run_doctor(options: argparse.Namespace) -> int:
    """Print what is wrong with an agent, or what is installed and what is not."""
    from . import diagnosis
    from .doctor import describe, examine

    address = diagnosis.with_scheme(options.address) if options.address else None
    if address is not None and diagnosis.is_agent(address):
        return _diagnose(address)
    checks = examine(address)
    sys.stdout.write(describe(checks))
    return 0 if all(check.is_well or not check.is_needed for check in checks) else 1


def _diagnose(address: str) -> int:
    from ..demo.problem import Problem
    from . import diagnosis

    try:
        found = diagnosis.diagnose(address)
    except (OSError, ValueError, LookupError) as error:
        raise Problem(f"{address} does not answer as an agent does: {error}", exit_code=1) from error
    sys.stdout.write(found.text())
    return 1 if found.findings else 0
