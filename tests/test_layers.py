"""Each layer imports only from the layers above it, and no module from itself through others."""

import ast
import graphlib
from collections.abc import Iterator

import pytest
from source_tree import MODULES

# From the bottom of the architecture to its top; what stands on one line may import each other.
# "" is the package itself, agrad/__init__.py, which gathers the names that users see.
LAYERS = [
    {"cuda", "deferred", "errors", "kernels", "quadrature", "random", "serialization"},
    {"backend"},
    {"ops"},
    {
        *("graph", "mode", "anomaly", "sweep", "array_methods", "tensor", "functions", "average"),
        *("flat", "capture", "cuda_graph", "plan", "steps", "tape"),
    },
    {"nn"},
    {"optim"},
    {"data"},
    {""},
    {"checkpoint", "train", "training_step"},
    {"study", "testing"},
    {"cli"},
    {"__main__"},
]
HEIGHT = {name: height for height, layer in enumerate(LAYERS) for name in layer}


def layer(module: str) -> str:
    return module.removeprefix("agrad").removeprefix(".").partition(".")[0]


def nodes_that_run(node: ast.AST) -> Iterator[ast.AST]:
    """Yield `node` and all below it but what is there for annotations alone."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield from nodes_that_run(child)


def imported_modules(module: str) -> Iterator[str]:
    """Yield the modules of agrad that `module` imports, at its top or inside its functions."""
    file = MODULES[module]
    for node in nodes_that_run(ast.parse(file.read_text(encoding="utf-8"))):
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
        yield from (name for name in names if name.partition(".")[0] == "agrad")


@pytest.mark.parametrize("module", MODULES)
def test_imports_only_from_layers_above(module: str) -> None:
    assert layer(module) in HEIGHT, "a new module: give it a place in LAYERS"
    height = HEIGHT[layer(module)]
    wrong = [name for name in imported_modules(module) if HEIGHT[layer(name)] > height]
    assert not wrong


def test_no_import_circles() -> None:
    graph = {module: set(imported_modules(module)) - {module} for module in MODULES}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail("import circle: " + " <- ".join(error.args[1]))
