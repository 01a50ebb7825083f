"""`dim` and `keepdim` as names of `axis` and `keepdims`."""

from typing import Any

import numpy as np
import pytest

import agrad as ag

X = ag.tensor(np.array([[0.5, 1.5, 0.25], [2.0, 0.75, 1.0]]))
REDUCTIONS = ["sum", "mean", "var", "std", "max", "min", "prod", "logsumexp"]
PLAIN = ["argmax", "argmin"]


def same(x: Any, y: Any) -> bool:
    x, y = (value.data if isinstance(value, ag.Tensor) else value for value in (x, y))
    return bool(np.array_equal(x, y)) and np.shape(x) == np.shape(y)


@pytest.mark.parametrize("name", [*REDUCTIONS, *PLAIN])
def test_methods_take_both_names(name: str) -> None:
    method = getattr(X, name)
    assert same(method(dim=1, keepdim=True), method(axis=1, keepdims=True))
    assert same(method(dim=0), method(0))
    with pytest.raises(TypeError, match=f"{name}: keepdim is another name of keepdims"):
        method(0, keepdim=True, keepdims=True)


@pytest.mark.parametrize("name", REDUCTIONS)
def test_functions_take_both_names(name: str) -> None:
    function = getattr(ag, name)
    assert same(function(X, dim=1, keepdim=True), function(X, axis=1, keepdims=True))
    with pytest.raises(TypeError, match=f"{name}: dim is another name of axis; pass one"):
        function(X, axis=0, dim=1)


def test_functions_of_the_shape_take_both_names() -> None:
    assert ag.concatenate([X, X], dim=1).shape == (2, 6)
    assert ag.stack([X, X], dim=2).shape == (2, 3, 2)
    assert ag.expand_dims(X, dim=1).squeeze(dim=1).shape == (2, 3)
    assert [part.shape for part in ag.split(X, 3, dim=1)] == [(2, 1)] * 3
    assert same(ag.take(X, [2], dim=1), X[:, 2:])
    assert (X > 1).any(axis=1).tolist() == X.astype(bool).all(dim=1).tolist()


def test_other_wrong_options_are_still_refused() -> None:
    with pytest.raises(TypeError, match="dims"):
        X.sum(dims=0)
