"""Holds docs/scenarios.md: every test that it names exists and names the scenario, and none is forgotten."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
PAGE = TESTS.parent / "docs" / "scenarios.md"
ROW = re.compile(r"^\| ([SO]\d+) \| (.+) \| (.+) \| (.+) \|$", re.MULTILINE)
PROMISED = {f"S{number}" for number in range(1, 41)} - {"S35"}  # There is no such scenario.

ROWS = {row[0]: re.findall(r"`([^`]+)`", row[3]) for row in ROW.findall(PAGE.read_text(encoding="utf-8"))}


def scenarios_of(test: str) -> set[str]:
    """The scenarios that a test's markers name."""
    path, name = test.split("::")
    for node in ast.walk(ast.parse((TESTS / path).read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == name:
            return {
                argument.value
                for decorator in node.decorator_list
                if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.scenario"
                for argument in decorator.args
                if isinstance(argument, ast.Constant)
            }
    raise AssertionError(f"docs/scenarios.md names {test}, which does not exist")


def test_every_promised_scenario_has_a_row() -> None:
    """No scenario of the list is without what happens and a test."""
    assert set(ROWS) >= PROMISED
    assert all(ROWS.values())


@pytest.mark.parametrize("scenario", ROWS)
def test_every_named_test_exists_and_names_its_scenario(scenario: str) -> None:
    """A renamed test or a lost marker fails here."""
    for test in ROWS[scenario]:
        assert scenario in scenarios_of(test), f"{test} is not marked with {scenario}"
