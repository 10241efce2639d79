"""Measures what the README states: `python -m benchmarks` writes docs/benchmarks.md.

python -m benchmarks            the full form, whose figures are committed
python -m benchmarks --short    a few minutes, prints and writes nothing
"""

from __future__ import annotations

import argparse
from pathlib import Path

from . import machine, user_locks, warm_path

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"

INTRODUCTION = """# Figures

<!-- Made by `make bench`; do not edit. -->

Each table is one run, so that its rows met the same machine; read the ratios, not the times.
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", action="store_true", help="fewer rounds, and write nothing")
    short = parser.parse_args().short
    table = warm_path.table(repeats=3 if short else 15)
    locks = user_locks.table(repeats=100 if short else 1000)
    print(f"{table}\n\n{locks}")
    if not short:
        text = f"{INTRODUCTION}\nMeasured {machine.describe()}.\n\n## The warm path\n\n{table}\n"
        text += f"\n## The users' own locks\n\n{locks}\n"
        PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
