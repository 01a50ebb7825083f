"""The planted faults fit the present source, and the suite has found every one."""

import ast
from functools import cache

import pytest
from mutants import MUTANTS, Mutant
from mutation import block, files_named, known_results
from reliability_page import read_block
from source_tree import ROOT


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.fault)
def test_the_fault_can_be_planted(mutant: Mutant) -> None:
    source, code = source_and_code(mutant.file)
    assert code_of(mutant.file, mutant.plant(source)) != code
    assert all(files_named(name) for name in mutant.tests.split())


@cache
def source_and_code(file: str) -> tuple[str, str]:
    """Return the text of a source file and its compiled code."""
    source = (ROOT / file).read_text(encoding="utf-8")
    return source, code_of(file, source)


def code_of(file: str, source: str) -> str:
    """Return what Python makes of a source, or the text of a CUDA file."""
    return ast.dump(ast.parse(source)) if file.endswith(".py") else source


@pytest.mark.parametrize(("source", "count"), [("a = 1", 0), ("b = 2\nb = 2\n", 2)])
def test_a_fault_that_does_not_fit_once_is_refused(source: str, count: int) -> None:
    mutant = Mutant("file.py", "b = 2", "b = 3", "a fault", "gradients")
    with pytest.raises(ValueError, match=rf"file.py has 'b = 2' {count} times.*'a fault'"):
        mutant.plant(source)


def test_every_fault_was_found_and_is_on_the_page() -> None:
    results = known_results()
    tried = [(result.file, result.old, result.new) for result in results]
    new = [m.fault for m in MUTANTS if (m.file, m.old, m.new) not in tried]
    assert not new, "run python tests/tools/mutation.py --new"
    assert not [result.fault for result in results if result.killed_by is None]
    assert read_block("mutation") == block(results)
