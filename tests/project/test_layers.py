"""Each layer imports only from the layers above it, and no module from itself through others."""

import ast
import graphlib
import re
from functools import cache

import pytest
from source_tree import MODULES, ROOT

# From the bottom of the architecture to its top: each layer imports only earlier ones. The empty
# name is the package itself, agrad/__init__.py, which collects the public names.
LAYERS = [
    "errors", "arguments", "extras", "locking", "kernels", "random", "gpu.cuda", "gpu.deferred",
    "backend", "ops", "core", "functions", "linalg", "tracing", "nn", "attribution", "distributed",
    "optim", "serialization", "data", "gpu.graph", "gpu.step", "checkpoint", "train", "", "sklearn",
    "onnx", "testing", "study", "cli", "__main__",
]  # fmt: skip


def layer(module: str) -> str:
    """Return the entry of LAYERS that a module belongs to; a package without one is its own."""
    name = module.removeprefix("agrad").removeprefix(".")
    while name and name not in LAYERS:
        name = name.rpartition(".")[0]
    return name


@cache
def imported_modules(module: str) -> list[str]:
    """Return the modules of agrad that `module` imports, even if only for annotations."""
    file, found = MODULES[module], list[str]()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                # A package's own name counts as the first level.
                climbs = node.level - (file.name == "__init__.py")
                parents = module.split(".")[: -climbs or None]
                base = ".".join([*parents, base]).rstrip(".")
            names = [f"{base}.{alias.name}" for alias in node.names]
            # Of `from package import name`, the name may be a module or something in the package.
            names = [name if name in MODULES else base for name in names]
        else:
            continue
        found += [name for name in names if name.partition(".")[0] == "agrad"]
    return found


def test_every_module_has_a_layer() -> None:
    """A new module: place it in LAYERS."""
    assert [name for name in MODULES if not layer(name)] == ["agrad", "agrad.gpu"]


def test_imports_only_from_layers_above() -> None:
    height = {module: LAYERS.index(layer(module)) for module in MODULES}
    wrong = [
        f"{module} imports {name}"
        for module in MODULES
        for name in imported_modules(module)
        if height[name] > height[module]
    ]
    assert not wrong


def test_no_import_circles() -> None:
    graph = {module: set(imported_modules(module)) - {module} for module in MODULES}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail("import circle: " + " <- ".join(error.args[1]))


def test_contributing_lists_the_layers_in_order() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = page.partition("| layer | contents |\n| --- | --- |\n")[2].partition("\n\n")[0]
    names = re.findall(r"^\| `(\w[\w.]*)` \|", table, flags=re.MULTILINE)
    assert names == [name or "agrad" for name in LAYERS]


# These apply the rules, and compute or defer the rules' numbers.
APPLYING_RULES = {
    f"agrad.optim.{name}" for name in ("optimizer", "rule_optimizer", "average_gradient", "clip")
}
MATHEMATICS = ("agrad.ops", "agrad.functions", "agrad.nn", "agrad.optim")


def test_no_operation_layer_or_rule_defers() -> None:
    """Operations state their requirements; the engine checks them at once or defers the check."""
    modules = [name for name in MODULES if name.startswith(MATHEMATICS)]
    deferring = {name for name in modules if "agrad.gpu.deferred" in imported_modules(name)}
    assert deferring <= APPLYING_RULES
