"""All operations of agrad, with strategies for functions that record them: a file per family."""

from dataclasses import replace
from functools import cache

from hypothesis import strategies as st

from agrad.testing.strategies._operations import (
    elements,
    losses,
    matrices,
    normalizations,
    products,
    reductions,
    sequences,
    shapes,
    windows,
)
from agrad.testing.strategies._operations.case import Case, Entry, elementwise

__all__ = ["OPERATIONS", "Case", "Entry", "elementwise", "operations"]

OPERATIONS: dict[str, Entry] = {
    **elements.ENTRIES,
    **reductions.ENTRIES,
    **shapes.ENTRIES,
    **products.ENTRIES,
    **matrices.ENTRIES,
    **normalizations.ENTRIES,
    **windows.ENTRIES,
    **sequences.ENTRIES,
    **losses.ENTRIES,
}
"""Entries by name; a function may record more operations than the one of its entry."""


@cache  # Hypothesis validates a strategy at its first draw
def operations(*names: str) -> st.SearchStrategy[Case]:
    """Draw functions that record agrad's operations, with valid arguments.

    Inputs are float64 and away from kinks. A failing example shows the function and its arguments.

    Args:
        names: Keys of `OPERATIONS` to choose from; all of them by default.

    Raises:
        ValueError: A name is not a key.

    Example:
        >>> from hypothesis import find
        >>> from agrad.testing import strategies as ags
        >>> find(ags.operations("transpose"), lambda case: case.name == "mT")
        mT(x0) at
        x0 = array([], shape=(0, 0), dtype=float64)
    """
    unknown = set(names) - OPERATIONS.keys()
    if unknown:
        raise ValueError(
            f"operations: names must be in {sorted(OPERATIONS)}, got {sorted(unknown)}"
        )
    return st.sampled_from(names or [*OPERATIONS]).flatmap(_named_cases)


@cache
def _named_cases(name: str) -> st.SearchStrategy[Case]:
    def named(case: Case) -> Case:
        return case if case.name else replace(case, name=name)

    return OPERATIONS[name].cases.map(named)
