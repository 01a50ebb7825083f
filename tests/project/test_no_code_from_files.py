"""No file's content is ever run or unpickled: the source tree contains no means to do so."""

import ast
from collections.abc import Iterator

import pytest
from source_tree import FOLDERS, ROOT

FILES = [
    path
    for folder in (*FOLDERS.values(), ROOT / "benchmarks", ROOT / "examples")
    for path in sorted(folder.rglob("*.py"))
]
UNPICKLING = {"cloudpickle", "copyreg", "dbm", "dill", "joblib", "marshal", "pickle", "shelve"}
# Some of these unpickle only in another version or for an old file.
PICKLES_BY_DEFAULT = {"np.load", "numpy.load", "torch.load", "cupy.load"}
RUNNING = {"__import__", "compile", "eval", "exec", "execfile"}


def dangers(tree: ast.AST) -> Iterator[str]:
    """Yield everything that could turn bytes into code: imports, builtins and options of calls."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name.partition(".")[0] for alias in node.names]
            yield from UNPICKLING.intersection(names)
        elif isinstance(node, ast.ImportFrom):
            yield from UNPICKLING & {(node.module or "").partition(".")[0]}
        elif isinstance(node, ast.Name):
            yield from RUNNING & {node.id}
        elif isinstance(node, ast.Call):
            options = {option.arg: ast.unparse(option.value) for option in node.keywords}
            called = ast.unparse(node.func)
            pickles = options.get("allow_pickle", str(called in PICKLES_BY_DEFAULT))
            yield from () if pickles == "False" else (called,)


def test_no_file_of_the_source_unpickles_or_runs_what_it_reads() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {danger}"
        for path in FILES
        for danger in dangers(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not found


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "import os, marshal",
        "from joblib.numpy_pickle import load",
        "def f(x): return eval(x)",
        "run = exec",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "np.lib.format.read_array(file, allow_pickle=True)",
        "torch.load(path)",
    ],
)
def test_each_way_to_do_it_is_known(line: str) -> None:
    assert list(dangers(ast.parse(line)))


@pytest.mark.parametrize(
    "line",
    ["model.eval()", "re.compile('a')", "ag.load(path)", "np.load(path, allow_pickle=False)"],
)
def test_what_only_looks_like_it_is_allowed(line: str) -> None:
    assert not list(dangers(ast.parse(line)))
