"""Prints `docs/metrics.md`; with `--readme`, the table in README.md."""

from __future__ import annotations

import sys

from .docs import render, render_summary

if __name__ == "__main__":
    sys.stdout.write(render_summary() if sys.argv[1:] == ["--readme"] else render())
