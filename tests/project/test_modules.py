"""What modules may see of one another."""

import ast
import importlib.util
from collections.abc import Iterator

import pytest
from source_tree import MODULES

TREES = {name: ast.parse(file.read_text(encoding="utf-8")) for name, file in MODULES.items()}
OWN = {"self", "cls", "super()"}
LIBRARY = "cupy._core"  # only there does CuPy say whether it computes in TF32


NAMED_TUPLE = {"_asdict", "_fields", "_make", "_replace"}  # public, in spite of their names


def is_private(name: str) -> bool:
    special = name.startswith("__") and name.endswith("__")
    return name.startswith("_") and not special and name not in NAMED_TUPLE


def can_be_imported(name: str) -> bool:
    """Whether a test may import it: `__main__` runs the command, and kernels take CuPy for good."""
    return name != "agrad.__main__" and not name.startswith("agrad.kernels.gpu")


def defined_names(tree: ast.Module) -> Iterator[str]:
    """Yield the underscored names that a module defines: functions, attributes and slots."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if ast.unparse(node.value) in OWN:
                yield node.attr
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__slots__":
            values = (leaf.value for leaf in ast.walk(node.value) if isinstance(leaf, ast.Constant))
            yield from (value for value in values if isinstance(value, str))


@pytest.mark.parametrize("module", MODULES)
def test_reads_no_other_modules_underscored_attributes(module: str) -> None:
    own = set(defined_names(TREES[module]))
    foreign = [
        f"line {node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(TREES[module])
        if isinstance(node, ast.Attribute)
        and is_private(node.attr)
        and ast.unparse(node.value) not in OWN
        and node.attr not in own
        and ast.unparse(node) != LIBRARY
    ]
    assert not foreign


@pytest.mark.parametrize("module", MODULES)
def test_imports_no_other_modules_underscored_names(module: str) -> None:
    foreign = [
        f"line {node.lineno}: {alias.name}"
        for node in ast.walk(TREES[module])
        if isinstance(node, ast.ImportFrom) and (node.level or "agrad" in str(node.module))
        for alias in node.names
        if is_private(alias.name)
    ]
    assert not foreign


@pytest.mark.parametrize("module", MODULES)
def test_imports_no_star(module: str) -> None:
    imports = (node for node in ast.walk(TREES[module]) if isinstance(node, ast.ImportFrom))
    assert not any(alias.name == "*" for node in imports for alias in node.names)


@pytest.mark.parametrize("name", [name for name in MODULES if can_be_imported(name)])
def test_nothing_shadows_a_module(name: str) -> None:
    """An attribute of a package with a module's name is that module, not a function."""
    module = importlib.import_module(name)
    package, _, last = name.rpartition(".")
    assert not package or getattr(importlib.import_module(package), last) is module
