"""Finds the Python snippets of a Markdown page."""

from __future__ import annotations

import re
from dataclasses import dataclass
from textwrap import dedent

_FENCE = re.compile(r"^(?P<indent>\s*)(?P<fence>`{3,}|~{3,})\s*(?P<info>.*)$")
_SKIP = re.compile(r"<!--\s*skip:\s*(?P<reason>.*?)\s*-->")
_MEANT_PYTHON = {"py", "python3", "py3"}


class PageError(ValueError):
    """A page is written in a way that would hide a snippet from the tests."""


@dataclass(frozen=True)
class Snippet:
    """One fenced block of Python."""

    line: int
    """The number of its first line of code in the page, from 1."""
    source: str
    skipped: str | None = None
    """Why it is not executed; None when it is."""


def find_snippets(text: str) -> list[Snippet]:
    """Return the ```python blocks of a page, in order.

    A block is left out of the run only by a comment with a reason on the line before it:
    `<!-- skip: needs a Kubernetes cluster -->`.

    Raises:
        PageError: A fence is not closed, is marked as Python in another spelling, or a reason is missing.
    """
    snippets: list[Snippet] = []
    opened: tuple[str, str, int, str | None] | None = None  # Fence, language, line, reason to skip.
    reason: str | None = None
    body: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        match = _FENCE.match(line)
        if opened is not None:
            fence, language, first, skipped = opened
            if match and not match["info"] and match["fence"].startswith(fence):
                if language == "python":
                    snippets.append(Snippet(first, dedent("\n".join(body)) + "\n", skipped))
                opened = None
            else:
                body.append(line)
        elif match:
            language = match["info"].split()[0] if match["info"] else ""
            if language in _MEANT_PYTHON or (language != "python" and language.lower() == "python"):
                raise PageError(f"line {number}: write ```python, not ```{language}, or nobody executes it")
            opened, body = (match["fence"], language, number + 1, reason), []
            reason = None
        elif skip := _SKIP.search(line):
            if not skip["reason"]:
                raise PageError(f"line {number}: a skipped snippet needs a reason")
            reason = skip["reason"]
        elif line.strip():
            reason = None
    if opened is not None:
        raise PageError(f"line {opened[2] - 1}: this fence is not closed")
    return snippets
