"""Outputs of a model, batch by batch."""

from typing import Any

import numpy as np
import pytest

import agrad as ag
from agrad import nn
from agrad.train import predict

RANDOM = np.random.default_rng(0)
X, Z = RANDOM.standard_normal((2, 7, 3)).astype(np.float32)


class Twice(nn.Module):
    """Two inputs and two outputs; it notes the mode and the size of each call."""

    def __init__(self, by_name: bool = False) -> None:
        super().__init__()
        self.by_name = by_name
        self.calls: list[tuple[bool, bool, int]] = []

    def forward(self, x: Any, z: Any) -> Any:
        self.calls.append((self.training, ag.is_grad_enabled(), len(x)))
        return {"sum": x + z, "product": x * z} if self.by_name else (x + z, x * z)


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_each_batch_is_computed_once_in_evaluation_mode(size: int) -> None:
    model = Twice()
    total, product = predict(model, (X, Z), size)
    np.testing.assert_array_equal(total, X + Z, strict=True)
    np.testing.assert_array_equal(product, X * Z, strict=True)
    sizes = [min(size, 7 - i) for i in range(0, 7, size)]
    assert model.calls == [(False, False, number) for number in sizes]
    assert model.training


def test_inputs_and_outputs_by_name() -> None:
    found = predict(Twice(by_name=True), {"z": Z, "x": X}, 2)
    assert list(found) == ["sum", "product"]
    np.testing.assert_array_equal(found["product"], X * Z, strict=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_outputs_are_those_of_one_call(dtype: Any) -> None:
    ag.seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)).to(dtype)
    found = predict(model, X.astype(dtype), 2)
    model.eval()
    # The products of two rows and of seven are summed in different orders.
    np.testing.assert_allclose(
        found, model(X.astype(dtype)).data, rtol=0, atol=8 * np.finfo(dtype).eps
    )
    assert found.dtype == dtype


def test_lists_and_tables_are_inputs() -> None:
    rows = X.tolist()
    np.testing.assert_array_equal(predict(nn.Identity(), rows, 2), X, strict=True)
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(X, index=range(9, 2, -1))
    np.testing.assert_array_equal(predict(nn.Identity(), table, 2), X, strict=True)


class Mean(nn.Module):
    def forward(self, x: Any) -> Any:
        return x.mean()


@pytest.mark.parametrize(
    ("model", "inputs", "size", "words"),
    [
        (nn.Identity(), X[:0], 2, "predict: there are no inputs"),
        (nn.Identity(), X, 0, "batch_size"),
        (Twice(), (X, Z[:5]), 2, r"predict: the inputs have \[7, 5\] examples"),
        (Mean(), X, 5, r"the model returned shape \(\) for 5 examples"),
        (nn.Flatten(0), X, 5, r"the model returned shape \(15,\) for 5 examples"),
    ],
    ids=["none", "size", "lengths", "scalar", "axis"],
)
def test_bad_input_is_refused(model: Any, inputs: Any, size: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        predict(model, inputs, size)
    assert model.training
