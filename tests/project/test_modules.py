"""What modules may use of one another, and the form of their docstrings."""

import ast
import importlib.util
import re
from collections.abc import Iterator
from functools import cache

from source_tree import MODULES

OWN = {"self", "cls", "super()"}
LIBRARY = "cupy._core"  # CuPy's only place that tells whether it computes in TF32


NAMED_TUPLE = {"_asdict", "_fields", "_make", "_replace"}  # public, in spite of their names


@cache
def trees() -> dict[str, ast.Module]:
    return {name: ast.parse(file.read_text(encoding="utf-8")) for name, file in MODULES.items()}


def is_private(name: str) -> bool:
    special = name.startswith("__") and name.endswith("__")
    return name.startswith("_") and not special and name not in NAMED_TUPLE


def can_be_imported(name: str) -> bool:
    """Whether a test may import it: `__main__` runs the command, and GPU kernels need CuPy."""
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


def test_no_module_reads_underscored_attributes_of_another() -> None:
    foreign = []
    for module, tree in trees().items():
        own = set(defined_names(tree))
        foreign += [
            f"{module}, line {node.lineno}: {ast.unparse(node)}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and is_private(node.attr)
            and node.attr not in own
            and ast.unparse(node.value) not in OWN
            and ast.unparse(node) != LIBRARY
        ]
    assert not foreign


def imports_from() -> Iterator[tuple[str, ast.ImportFrom, str]]:
    """Yield the module, the statement and the name of each `from ... import name`."""
    for module, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                yield from ((module, node, alias.name) for alias in node.names)


def test_no_module_imports_underscored_names_of_another() -> None:
    foreign = [
        f"{module}, line {node.lineno}: {name}"
        for module, node, name in imports_from()
        if (node.level or "agrad" in str(node.module)) and is_private(name)
    ]
    assert not foreign


def test_no_module_imports_a_star() -> None:
    assert not [module for module, _, name in imports_from() if name == "*"]


def test_nothing_shadows_a_module() -> None:
    """An attribute of a package with a module's name is that module, not a function."""
    shadowed = []
    for name in filter(can_be_imported, MODULES):
        module = importlib.import_module(name)
        package, _, last = name.rpartition(".")
        if package and getattr(importlib.import_module(package), last) is not module:
            shadowed.append(name)
    assert not shadowed


def entries(docstring: str) -> list[tuple[str, str]]:
    """Return the names in the sections of a docstring, and the first word about each."""
    sections = re.findall(
        r"^(?:Args|Attributes|Raises|Warns):\n((?:(?: {4}.*)?(?:\n|$))+)", docstring, re.MULTILINE
    )
    return [
        entry
        for section in sections
        for entry in re.findall(r"^ {4}(\S[^:\n]*): +([\w-]+)", section, re.MULTILINE)
    ]


def test_what_docstrings_say_of_a_name_begins_with_a_capital() -> None:
    """Words alone: names and symbols such as float32, x or pandas are written as they are."""
    names = {"agrad", "grad", "pandas", "pooch", "scikit-learn"}
    wrong = [
        f"{module}, {name}: {word}"
        for module, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        for name, word in entries(ast.get_docstring(node) or "")
        if re.fullmatch(r"[a-z]{2,}(-[a-z]+)*", word) and word not in names
    ]
    assert not wrong
