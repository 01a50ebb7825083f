"""The examples in docstrings.

pytest's own --doctest-modules would import the folder `kernels` under that name, beside the same
modules already known as `agrad.kernels`.
"""

import doctest
import importlib

import pytest
from source_tree import MODULES

WITH_EXAMPLES = [
    pytest.param(name, marks=[pytest.mark.gpu] if name.startswith("agrad.kernels.gpu") else [])
    for name, file in MODULES.items()
    if ">>> " in file.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples(name: str, doctest_flags: int) -> None:
    results = doctest.testmod(importlib.import_module(name), optionflags=doctest_flags)
    assert results.failed == 0
