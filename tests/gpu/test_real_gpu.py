"""On a real GPU: run with `pytest -m gpu`. Everything else about devices: see test_device.py."""

import gc
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from devices import Drawn, drawn, results
from hypothesis import given, settings
from hypothesis import strategies as st

import agrad as ag
import agrad.nn.functional as F
from agrad import nn, optim
from agrad.backend import Array, move
from agrad.errors import DeviceError, DeviceMemoryError
from agrad.gpu import cuda
from agrad.testing.strategies import OPERATIONS
from agrad.train import capture_step, train_step

try:
    cuda.number_of("cuda")
except DeviceError as error:
    pytestmark = [pytest.mark.gpu, pytest.mark.skip(reason=str(error))]
else:
    pytestmark = pytest.mark.gpu


def perturbed(drawn: Drawn, rng: np.random.Generator) -> Drawn:
    """Return the case with its inputs perturbed by as much as rounding may change them."""
    eps = np.finfo(drawn.cotangent.dtype).eps
    inputs = [x + x * eps * rng.choice([-1, 1], x.shape).astype(x.dtype) for x in drawn.inputs]
    return drawn._replace(inputs=inputs)


@pytest.mark.parametrize("name", OPERATIONS)
@settings(max_examples=settings.default.max_examples // 10)
@given(data=st.data())
def test_an_operation_agrees_with_the_cpu(name: str, data: Any) -> None:
    """Values and both gradients agree within 32 times the effect of rounding the inputs.

    That is the largest change of an element under four random perturbations of the inputs by an
    eps, and an eps of the largest element.
    """
    case = data.draw(drawn(name))
    expected = results(case, "cpu")
    rng = np.random.default_rng(0)
    others = [results(perturbed(case, rng), "cpu") for _ in range(4)]
    eps = np.finfo(case.cotangent.dtype).eps
    for i, (result, known) in enumerate(zip(results(case, "cuda"), expected, strict=True)):
        assert cuda.is_array(result)
        assert (result.shape, result.dtype) == (known.shape, known.dtype)
        if known.size:
            spread = max(np.abs(other[i] - known).max() for other in others)
            tolerance = 32 * (spread + eps * np.abs(known).max())
            assert np.abs(result.get() - known).max() <= tolerance


def network(dtype: str, seed: int = 0) -> nn.Module:
    ag.seed(seed)
    layers = [nn.Flatten(), nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 32), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(32, 10)).to(dtype).to("cuda")


def batch(dtype: str) -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    images = rng.normal(size=(128, 8, 8)).astype(dtype)
    return move(images, "cuda"), move(rng.integers(10, size=128), "cuda")


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-13), ("float32", 1e-5)])
def test_average_gradients_are_complete(dtype: str, tolerance: float) -> None:
    model, (images, labels) = network(dtype), batch(dtype)
    loss = F.cross_entropy(model(ag.tensor(images)), labels)
    rng = np.random.default_rng(1)
    updates = {
        p: move(rng.normal(scale=0.03, size=p.shape).astype(dtype), "cuda")
        for p in model.parameters()
    }
    start = loss.item()
    end = float(loss.average_backward(updates))
    change = sum(float((p.average_grad * delta).sum()) for p, delta in updates.items())
    assert abs(change - (end - start)) <= tolerance * (abs(start) + abs(end))


@pytest.mark.parametrize("average", [False, True])
def test_a_captured_model_trains_as_one_that_is_not(average: bool) -> None:
    """Its kernels for dense layers give the same bits; cuBLAS computes the products of both."""
    losses = []
    for capture in (False, True):
        model, (images, labels) = network("float32"), batch("float32")
        optimizer: Any = optim.RMSprop(model.parameters(), lr=1e-3)
        optimizer = optim.AverageGradient(optimizer) if average else optimizer
        forward = ag.capture(model) if capture else model
        losses.append([train_step(forward, optimizer, images, labels) for _ in range(20)])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    assert losses[0][-1] < losses[0][0]


OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "SGD": lambda p: optim.SGD(p, lr=1e-2, momentum=0.9),
    "RMSprop": lambda p: optim.RMSprop(p, lr=1e-3),
    "AdamW": lambda p: optim.AdamW(p, lr=1e-3),
    "Muon": lambda p: optim.Muon(p, lr=1e-2),
    "average": lambda p: optim.AverageGradient(optim.RMSprop(p, lr=1e-3)),
    "average, every other step": lambda p: optim.AverageGradient(
        optim.Adam(p, lr=1e-3), every=2, lr="auto"
    ),
    "average by rows": lambda p: optim.AverageGradient(optim.Adam(p, lr=1e-3), granularity="row"),
}


@pytest.mark.parametrize("convolutional", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.filterwarnings("error")  # that no graph can have the step
def test_steps_by_a_graph_train_as_others(name: str, convolutional: bool) -> None:
    """They differ only in the rounding of products and of Adam's corrections."""
    losses = []
    for captured in (False, True):
        model, (images, labels) = network("float32"), batch("float32")
        if convolutional:
            ag.seed(0)
            model = nn.Sequential(
                nn.Unflatten(1, (1, 8)),
                nn.Conv2d(1, 4, 3, padding=1),
                nn.BatchNorm2d(4),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Flatten(),
                nn.Linear(64, 32),
                nn.LayerNorm(32),
                nn.Tanh(),
                nn.Dropout(0.1),
                nn.Linear(32, 10),
            ).to("cuda")
        optimizer = OPTIMIZERS[name](model.parameters())
        ag.seed(1)
        step: Any = partial(train_step, model, optimizer)
        if captured:
            step = capture_step(model, optimizer)
        losses.append([step(images, labels) for _ in range(30)])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-3)
    assert losses[0][-1] < losses[0][0]


def test_a_graph_leaves_wrong_labels_to_an_ordinary_step() -> None:
    model, (images, labels) = network("float32"), batch("float32")
    step = capture_step(model, optim.AverageGradient(optim.RMSprop(model.parameters(), lr=1e-3)))
    for _ in range(4):
        step(images, labels)
    before = [p.cpu().numpy() for p in model.parameters()]
    wrong = labels.copy()
    wrong[3] = 10
    with pytest.raises(ValueError, match="class 10, outside 0 to 9"):
        step(images, wrong)
    for parameter, values in zip(model.parameters(), before):
        np.testing.assert_array_equal(parameter.cpu().numpy(), values)
    assert np.isfinite(step(images, labels))


def test_memory_does_not_grow() -> None:
    """The pool holds as much after many steps as after the first; see also benchmarks/gpu.py."""
    import cupy

    model, (images, labels) = network("float32"), batch("float32")
    optimizer = optim.AverageGradient(optim.RMSprop(model.parameters(), lr=1e-4))
    used = []
    for _ in range(100):
        train_step(model, optimizer, images, labels)
        gc.collect()
        used.append(cupy.get_default_memory_pool().used_bytes())
    assert used[-1] == used[10]


def test_a_full_gpu_says_so() -> None:
    (gpu, *_) = cuda.gpus()
    size = gpu.total_bytes // 4
    x = ag.tensor(move(np.ones((1, 1), np.float32), "cuda"))
    with pytest.raises(DeviceMemoryError, match="smaller batches"):
        ag.broadcast_to(x, (2, size)) + 1


def test_the_same_masks_from_the_same_seed() -> None:
    x = ag.tensor(np.ones(1000, np.float32)).to("cuda")
    masks = []
    for seed in (0, 0, 1):
        ag.seed(seed)
        masks.append(F.dropout(x, 0.25).cpu().numpy())
    assert (masks[0] == masks[1]).all()
    assert (masks[0] != masks[2]).any()
    assert 600 < np.count_nonzero(masks[0]) < 900
