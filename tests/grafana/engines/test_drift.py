"""What is committed is what the code writes, and what it asks is PromQL."""

from __future__ import annotations

import promql_parser
import pytest
import yaml

from grafana import build
from tests.grafana import boards


def test_generated_files_are_those_of_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody has edited them, and nobody has forgotten `make grafana`."""
    assert build.main(["--check"]) == 0, capsys.readouterr().out


@pytest.mark.parametrize("query", boards.queries(), ids=str)
def test_query_is_promql(query: boards.Query) -> None:
    """A parser that is not Prometheus' own understands it too."""
    promql_parser.parse(query.filled())


def test_rules_are_promql() -> None:
    """The same holds for rules."""
    for group in yaml.safe_load((build.GENERATED / "rules.yml").read_text())["groups"]:
        for rule in group["rules"]:
            promql_parser.parse(rule["expr"])
