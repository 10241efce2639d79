"""What may stand on the command line, and what it means."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TypeAlias

from ..demo.dashboard import DEFAULT_ADDRESS
from ..settings import check_limit_s
from .commands import run_advise, run_dashboard, run_demo, run_doctor, run_program

_Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # Its only name is private.


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; what it parses has `name`, and `command`, a function that takes it."""
    parser = argparse.ArgumentParser(
        prog="instrumented-sessions",
        description="Share MCP sessions between threads and event loops, and see every wait while it lasts.",
    )
    commands = parser.add_subparsers(title="commands", dest="name", metavar="COMMAND", required=True)
    _add_demo(commands)
    _add_dashboard(commands)
    _add_run(commands)
    _add_advise(commands)
    _add_doctor(commands)
    return parser


def _add_demo(commands: _Commands) -> None:
    demo = _add(
        commands,
        "demo",
        run_demo,
        "see contention and stalls on real servers",
        "Start real MCP servers with faults, a mixed load through one manager, and a dashboard that shows "
        "it. Prints a summary at the end. Ctrl-C ends it cleanly, with exit code 0.",
    )
    demo.add_argument(
        "--duration",
        type=_duration_s,
        metavar="SECONDS",
        help="how long the load lasts, in seconds (default: until Ctrl-C; 20 with --headless)",
    )
    demo.add_argument(
        "--headless", action="store_true", help="no person watches: no live line, and it ends by itself"
    )
    demo.add_argument("--healthy", action="store_true", help="without the slow, stalling and dying parts")
    demo.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="NUMBER",
        help="where all randomness starts (default: %(default)s)",
    )
    demo.add_argument(
        "--port", type=_port, default=0, help="port of the dashboard (default: any that is free)"
    )
    demo.add_argument(
        "--metrics-port",
        type=_port,
        default=0,
        metavar="PORT",
        help="port of the Prometheus metrics (default: any that is free)",
    )


def _add_dashboard(commands: _Commands) -> None:
    dashboard = _add(
        commands,
        "dashboard",
        run_dashboard,
        "serve the dashboard, and take OTLP/HTTP on the same port",
        "Serve the dashboard. Programs report to it by OTLP/HTTP on the same port. Ends with Ctrl-C.",
    )
    dashboard.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; any but this machine's own needs a token (default: %(default)s)",
    )
    dashboard.add_argument(
        "--port",
        type=_port,
        default=4318,
        help="port to listen on; 0: any that is free (default: %(default)s)",
    )
    dashboard.add_argument(
        "--db",
        metavar="FILE",
        help="SQLite database to keep what is reported in (default: none, kept until it ends)",
    )
    dashboard.add_argument(
        "--token-file",
        metavar="FILE",
        help="file with the token that requests must show "
        "(default: the variable INSTRUMENTED_SESSIONS_DASHBOARD_TOKEN)",
    )


def _add_run(commands: _Commands) -> None:
    run = _add(
        commands,
        "run",
        run_program,
        "run a program with its loops and MCP sessions watched",
        "Run a Python program as `python` would, with every event loop and every MCP client session watched, "
        "and telemetry set up from OTEL_* variables.",
    )
    run.add_argument("-m", dest="is_module", action="store_true", help="PROGRAM is a module's name")
    run.add_argument(
        "program", nargs=argparse.REMAINDER, metavar="PROGRAM", help="a script or module, and its arguments"
    )


def _add_advise(commands: _Commands) -> None:
    advise = _add(
        commands,
        "advise",
        run_advise,
        "say what another lock granularity would change",
        "Replay a recording of openings under every lock granularity and several numbers of permits, compare "
        "the waits with those that were measured, and advise on the settings, or say why not. A program "
        "records with Recorder and advisor.save(), see docs/tuning.md. The advice changes no settings.",
    )
    source = advise.add_mutually_exclusive_group(required=True)
    source.add_argument("file", nargs="?", metavar="FILE", help="a recording that advisor.save() has written")
    source.add_argument(
        "--demo", action="store_true", help="no file: record a load with contention now, some two seconds"
    )
    advise.add_argument(
        "--permits",
        type=_permits,
        metavar="NUMBER",
        help="the setting of that name during the run (default: as recorded)",
    )
    advise.add_argument(
        "--json", action="store_true", help="print JSON for a program, with all durations in s"
    )


def _add_doctor(commands: _Commands) -> None:
    doctor = _add(
        commands,
        "doctor",
        run_doctor,
        "check the installation, or an agent that hangs",
        "Check what is installed, and whether a dashboard answers; given the address of an agent's "
        "diagnostics, say what waits, which loop stalls and what to do. Exits with 1 when something is "
        "wrong: a loop stalls, a request has waited for more than 5 seconds, a needed part is missing, or "
        "nothing answers at a given ADDRESS.",
    )
    doctor.add_argument(
        "address",
        nargs="?",
        metavar="ADDRESS",
        help="an agent's diagnostics, as `run` says at its start, or a dashboard "
        f"(default: {DEFAULT_ADDRESS}, which may be silent)",
    )


def _add(
    commands: _Commands,
    name: str,
    command: Callable[[argparse.Namespace], int],
    help: str,
    description: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=help, description=description)
    parser.set_defaults(command=command)
    return parser


def _duration_s(text: str) -> float:
    try:
        duration_s = check_limit_s(float(text))
    except ValueError:
        duration_s = 0.0
    if duration_s == 0.0:
        raise argparse.ArgumentTypeError(f"must be a number of seconds, more than 0; got {text!r}")
    return duration_s


def _permits(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number, 1 or more; got {text!r}")
    return int(text)


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"must be a port, 0 to 65535; got {text!r}")
    return int(text)
