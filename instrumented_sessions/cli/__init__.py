"""The command line `instrumented-sessions`; `main` runs it.

Exit codes: 0 done, also when a signal ended a demo or a dashboard; 1 something failed while it ran, or a
check found a fault; 2 bad input or a missing part; 130 interrupted before or while anything else.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ..demo.problem import Problem
from .parser import build_parser

__all__ = ["main"]

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: Its arguments; default the command line's.

    Returns:
        The exit code.
    """
    parser = build_parser()
    try:
        options = parser.parse_args(argv)
    except SystemExit as end:  # argparse has said all there is to say.
        return end.code if isinstance(end.code, int) else 2
    try:
        return int(options.command(options))
    except Problem as problem:
        print(f"{parser.prog} {options.name}: error: {problem}", file=sys.stderr)
        return problem.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
