"""Arrays kept for leaves, in any layout of the leaves."""

import copy
import pickle

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import agrad as ag
from agrad.core.flat import Flat
from agrad.optim.leaf_arrays import LeafArrays, values_of, zero


def leaves_of(count):
    return [ag.tensor(np.full((i + 1, 2), float(i))) for i in range(count)]


@given(st.lists(st.lists(st.integers(0, 5), min_size=1, unique=True), max_size=8))
def test_each_leaf_keeps_its_array_through_all_layouts(layouts):
    leaves, arrays = leaves_of(6), LeafArrays(values_of)
    expected = {}
    for step, layout in enumerate(layouts):
        flat = Flat([leaves[i] for i in layout])
        whole = arrays.of(flat)
        assert arrays.of(flat) is whole
        for i, part in zip(layout, flat.split(whole)):
            np.testing.assert_array_equal(part, expected.get(i, leaves[i].data))
            part += step + 1
            expected[i] = part.copy()
    found = arrays.by_leaf()
    assert found.keys() == {leaves[i] for i in expected}
    for i, array in expected.items():
        np.testing.assert_array_equal(found[leaves[i]], array)
    assert arrays.nbytes == sum(array.nbytes for array in expected.values())
    assert sum(array.size for array in arrays) == sum(array.size for array in expected.values())


def test_an_array_is_that_of_the_flat_and_not_a_copy():
    leaves, arrays = leaves_of(2), LeafArrays(zero)
    flat = Flat(leaves)
    arrays.of(flat)[...] = 7
    assert (arrays.by_leaf()[leaves[1]] == 7).all()


def test_loaded_arrays_replace_all():
    leaves, arrays = leaves_of(3), LeafArrays(zero)
    arrays.of(Flat(leaves))[...] = 1
    arrays.load({leaves[0]: np.full((1, 2), 5.0, np.float32)})
    assert arrays.by_leaf().keys() == {leaves[0]}
    np.testing.assert_array_equal(arrays.of(Flat(leaves[:2])), [5, 5, 0, 0, 0, 0])


def test_copies_and_pickles_are_independent():
    leaves, arrays = leaves_of(2), LeafArrays(zero)
    flat = Flat(leaves)
    arrays.of(flat)[...] = 3
    for twin_flat, twin in (
        copy.deepcopy((flat, arrays)),
        pickle.loads(pickle.dumps((flat, arrays))),
    ):
        twin.of(twin_flat)[...] += 1
        np.testing.assert_array_equal(twin.of(twin_flat), 4)
        np.testing.assert_array_equal(arrays.of(flat), 3)
