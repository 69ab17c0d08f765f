"""The page of promises names tests that are there."""

import ast
import re
from pathlib import Path
from typing import Final

import pytest

PAGE: Final = Path(__file__).parents[1] / "docs" / "reliability.md"

NAMED: Final = sorted(set(re.findall(r"\[`(test_\w+)`\]\(([^)#]+\.py)\)", PAGE.read_text())))
"""The name of each test on the page, and the file that the name is a link to."""


@pytest.mark.parametrize(("test", "file"), NAMED)
def test_a_test_that_a_promise_names_is_there_and_runs(test: str, file: str) -> None:
    module = ast.parse((PAGE.parent / file).read_text())
    (found,) = (node for node in module.body if isinstance(node, ast.FunctionDef) and node.name == test)
    assert "skip" not in ast.unparse(found.args) + "".join(map(ast.unparse, found.decorator_list))


def test_every_promise_names_a_test() -> None:
    tables = PAGE.read_text().split("| promise | held by |\n|---|---|\n")[1:]
    promises = [row for table in tables for row in table.partition("\n\n")[0].splitlines()]
    assert promises
    assert [promise for promise in promises if "[`test_" not in promise] == []
