"""The architecture as it is documented: who may import whom, and what a public function says about itself."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

PRODUCT: Final = "sessions_dagster"
ROOT: Final = Path(__file__).parents[1] / PRODUCT

LEAVES: Final = ("errors", "model", "redaction")
SHARED: Final = (*LEAVES, "s3", "spark.compat", "spark.failures", "spark.tuning")
"""What every package may import."""

MAY_IMPORT: Final = {
    "redaction": (),
    "errors": ("redaction",),
    "model": (),
    "s3": (),
    "alerts": ("errors",),
    "settings": (*LEAVES, "input.formats", "storage.filesystem"),
    "config": (
        *LEAVES,
        "s3",
        "settings",
        "alerts.settings",
        "input.formats",
        "spark.master",
        "spark.session",
        "storage.filesystem",
    ),
    "spark": (*LEAVES, "s3"),
    "transforms": SHARED,
    "storage": (*SHARED, "spark.left_sessions"),
    "input": (*SHARED, "storage.filesystem", "storage.listing"),
    "quality": SHARED,
    "pipeline": (*LEAVES, "transforms", "storage", "input", "quality", "spark"),
    "defs": (*LEAVES, "alerts", "config", "pipeline", "transforms", "storage", "input", "quality", "spark"),
    "component": (*LEAVES, "alerts.settings", "config", "settings", "defs", "input.formats", "spark"),
    "definitions": ("config", "defs", "errors"),
    "__main__": (*LEAVES, "config", "pipeline", "storage", "input", "spark"),
    "demo": (*LEAVES, "config", "definitions", "defs", "pipeline", "storage", "input", "spark"),
    "__init__": ("alerts", "component", "config", "defs", "model", "spark"),
}
"""What each package, or module right below the root, may import besides itself. A test that names one keeps it so."""

KNOWS_DAGSTER: Final = {"defs", "component", "definitions", "demo"}

MAX_STATEMENTS_OF_SHORT: Final = 3

MODULES: Final = sorted(path.relative_to(ROOT).with_suffix("") for path in ROOT.rglob("*.py"))


COMPUTING: Final = [
    module for module in MODULES if module.parts[0] == "transforms" or module == Path("pipeline", "compute_changes")
]
"""The modules that other engines are to be put behind."""


def unit_of(module: Path) -> str:
    """The package or the module right below the root that a module belongs to."""
    return module.parts[0]


def tree_of(module: Path) -> ast.Module:
    return ast.parse(ROOT.joinpath(module).with_suffix(".py").read_text())


def imported(module: Path) -> Iterator[str]:
    """The full names of all modules that a module imports, wherever in its text."""
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            assert node.module is not None
            # Of `from package import module` the module is the one that counts.
            yield from (
                f"{node.module}.{alias.name}" if is_module(f"{node.module}.{alias.name}") else node.module
                for alias in node.names
            )


def is_module(name: str) -> bool:
    path = ROOT.parent.joinpath(*name.split("."))
    return name.startswith(PRODUCT) and (path.is_dir() or path.with_suffix(".py").is_file())


def is_within(name: str, allowed: str) -> bool:
    return name == allowed or name.startswith(f"{allowed}.")


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_imports_go_one_way(module: Path) -> None:
    unit = unit_of(module)
    assert unit in MAY_IMPORT, f"{unit} has no place in the architecture"
    own = [name.removeprefix(f"{PRODUCT}.") for name in imported(module) if is_within(name, PRODUCT)]
    wrong = [name for name in own if not any(is_within(name, allowed) for allowed in (unit, *MAY_IMPORT[unit]))]
    assert not wrong


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_only_the_dagster_layer_knows_dagster(module: Path) -> None:
    if unit_of(module) not in KNOWS_DAGSTER:
        known = [name for name in imported(module) if name.split(".")[0].startswith("dagster")]
        assert not known


@pytest.mark.parametrize("module", COMPUTING, ids=str)
def test_changes_are_computed_without_a_handle_on_the_jvm_and_without_delta(module: Path) -> None:
    packages = {name.split(".")[0] for name in imported(module)}
    attributes = {node.attr for node in ast.walk(tree_of(module)) if isinstance(node, ast.Attribute)}
    assert not packages & {"py4j", "delta", "deltalake"}
    assert not attributes & {"_jvm", "_jdf", "_jsparkSession", "sparkContext", "rdd"}


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_only_the_settings_know_the_names_of_variables(module: Path) -> None:
    if unit_of(module) not in {"config", "settings"}:
        texts = [node.value for node in ast.walk(tree_of(module)) if isinstance(node, ast.Constant)]
        assert not [text for text in texts if isinstance(text, str) and re.fullmatch("SESSIONS_[A-Z_]+", text)]


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_the_environment_is_read_in_few_places(module: Path) -> None:
    """`config` reads the settings, `s3` those of the store, `spark` finds a Java, `definitions` Dagster's home.

    The demo sets its own.
    """
    if unit_of(module) not in {"config", "s3", "spark", "definitions", "demo"}:
        reads = [
            ast.unparse(node)
            for node in ast.walk(tree_of(module))
            if isinstance(node, ast.Attribute) and ast.unparse(node) in {"os.environ", "os.getenv"}
        ]
        assert not reads


Function = ast.FunctionDef | ast.AsyncFunctionDef


def public_functions(module: Path) -> list[Function]:
    """The public functions of a module, and the public methods of its public classes."""
    tree = tree_of(module)
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
    nodes = [*tree.body, *(node for each in classes for node in each.body)]
    return [node for node in nodes if isinstance(node, Function) and not node.name.startswith("_")]


def arguments(function: Function) -> list[ast.arg]:
    every = function.args
    given = [*every.posonlyargs, *every.args, *every.kwonlyargs]
    return [each for each in given if each.arg not in {"self", "cls"}]


def is_short(function: Function) -> bool:
    """Whether there are few statements after the docstring."""
    return len(function.body) - 1 <= MAX_STATEMENTS_OF_SHORT


def annotation(node: ast.expr | None) -> str:
    return "" if node is None else ast.unparse(node)


@pytest.mark.parametrize("module", [module for module in MODULES if unit_of(module) != "demo"], ids=str)
def test_what_is_public_says_what_it_takes_and_gives(module: Path) -> None:
    """Every public function has a docstring.

    One that takes a DataFrame and something else describes each argument, and if it returns a DataFrame, which rows and
    columns that has. A short function may say both in its first sentence: its body is as quickly read.
    """
    lacking = []
    for function in public_functions(module):
        text = ast.get_docstring(function) or ""
        types = [annotation(each.annotation) for each in arguments(function)]
        if not text:
            lacking.append(f"{function.name} has no docstring")
        if is_short(function) or len(types) < 2:
            continue
        if any("DataFrame" in each for each in types):
            lacking += [
                f"{function.name} does not describe {each.arg}"
                for each in arguments(function)
                if f"{each.arg}:" not in text and f"{each.arg}, " not in text
            ]
        if "DataFrame" in annotation(function.returns) and "Returns:" not in text:
            lacking.append(f"{function.name} does not say what it returns")
    assert not lacking


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_public_function_says_which_errors_it_raises_itself(module: Path) -> None:
    lacking = []
    for function in public_functions(module):
        raised = {
            ast.unparse(node.exc.func)
            for node in ast.walk(function)
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)
        }
        if raised and "Raises:" not in (ast.get_docstring(function) or ""):
            lacking.append(f"{function.name} raises {', '.join(sorted(raised))}")
    assert not lacking
