"""The page of promises names tests that are there."""

import ast
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest

PAGE: Final = Path(__file__).parents[1] / "docs" / "reliability.md"

NAMED: Final = sorted(set(re.findall(r"\[`(test_\w+)`\]\(([^)#]+\.py)\)", PAGE.read_text())))
"""The name of each test on the page, and the file that the name is a link to."""


ALLOWED: Final = {"sys.platform != 'linux'", "'dagster_dg_cli'"}
"""What a test of the page may be skipped for: the promises hold on Linux, and `make test` always has `dg`."""


@pytest.mark.parametrize(("test", "file"), NAMED)
def test_a_test_that_a_promise_names_is_there_and_runs(test: str, file: str) -> None:
    assert skips_of(test, (PAGE.parent / file).read_text()) <= ALLOWED


@pytest.mark.parametrize(
    "source",
    [
        "@pytest.mark.skip\ndef test_a() -> None: ...",
        "LATER = pytest.mark.skipif(True, reason='x')\n@LATER\ndef test_a() -> None: ...",
        "LATER: Final = pytest.mark.skip\n@pytest.mark.parametrize('x', [1])\n@LATER(reason='x')\ndef test_a(x): ...",
        "LATER = pytest.mark.xfail\nCASES = [pytest.param(1, marks=LATER)]\n"
        "@pytest.mark.parametrize('x', CASES)\ndef test_a(x): ...",
        "pytestmark = pytest.mark.skip(reason='x')\ndef test_a() -> None: ...",
        "def test_a() -> None:\n    pytest.skip('x')",
        "def test_a() -> None:\n    pytest.importorskip('x')",
    ],
)
def test_a_test_that_may_be_skipped_is_found(source: str) -> None:
    assert skips_of("test_a", source)
    assert not skips_of("test_b", "LATER = pytest.mark.skip\n@LATER\ndef test_a(): ...\ndef test_b(): skip_corrupt()")


def skips_of(test: str, source: str) -> set[str]:
    """What may skip a test of a module: in its decorators, by whatever name they have, in its body, and for all."""
    module = ast.parse(source)
    (found,) = (node for node in module.body if isinstance(node, ast.FunctionDef) and node.name == test)
    named = dict(_assigned(module))
    marks: list[ast.expr] = [*found.decorator_list, ast.Name("pytestmark")]
    skips, seen = _skips_in(found.body), set[str]()
    while marks:
        mark = marks.pop()
        skips |= _skips_in([mark])
        names = {node.id for node in ast.walk(mark) if isinstance(node, ast.Name)} & named.keys() - seen
        marks += [named[name] for name in names]
        seen |= names
    return skips


def _skips_in(nodes: Sequence[ast.AST]) -> set[str]:
    """The conditions of marks that skip, and the marks and calls that have none."""
    within = [each for node in nodes for each in ast.walk(node)]
    of_skips = [node for node in within if isinstance(node, ast.Call) and _is_skip(node.func)]
    called = [call.func for call in of_skips]
    conditions = {ast.unparse(call.args[0] if call.args else call) for call in of_skips}
    return conditions | {ast.unparse(node) for node in within if _is_skip(node) and node not in called}


def _is_skip(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr in ("skip", "skipif", "importorskip", "xfail")


def _assigned(module: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    for node in module.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from ((target.id, node.value) for target in targets if isinstance(target, ast.Name))


def test_every_promise_names_a_test() -> None:
    tables = PAGE.read_text().split("| promise | held by |\n|---|---|\n")[1:]
    promises = [row for table in tables for row in table.partition("\n\n")[0].splitlines()]
    assert promises
    assert [promise for promise in promises if "[`test_" not in promise] == []
