"""The README is short, and what it states of the code is what the code says."""

from __future__ import annotations

import re
from pathlib import Path

from instrumented_sessions.telemetry.catalog import docs

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_readme_is_short() -> None:
    """What is longer belongs to docs/."""
    assert len(README.splitlines()) < 150


def test_metric_table_is_the_catalogs() -> None:
    """`python -m instrumented_sessions.telemetry.catalog --readme` prints what stands there."""
    table = re.search(r"<!-- metrics: .*? -->\n(.*?)<!-- /metrics -->", README, re.DOTALL)
    assert table is not None
    assert table.group(1) == docs.render_summary()


def test_links_lead_somewhere() -> None:
    """Every file that the README links to is there."""
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", README):
        assert (ROOT / target).exists(), target


def test_pages_have_one_sentence_a_line() -> None:
    """No line of prose holds two sentences, so that a diff shows which one changed."""
    code = False
    for line in README.splitlines():
        if line.startswith("```"):
            code = not code
        elif not code and not line.startswith(("|", "<", "#")):
            assert not re.search(r"[a-z`)][.!?] [A-Z]", line), line
