"""Stacks of dense layers: exact where float32 is exact, otherwise within rounding."""

import os
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from agrad.kernels.cpu import activation, threads
from agrad.kernels.cpu.stack import ACTIVATIONS, LANES, TILES, Stack
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

Arrays = list[NDArray[Any]]

EPS = float(np.finfo(np.float32).eps)


class Results(NamedTuple):
    out: NDArray[Any]
    x_grad: NDArray[Any]
    gradients: Arrays


def stacked(
    names: Sequence[str | None], grad: NDArray[Any], start: Arrays, end: Arrays, moved: int
) -> Results:
    """Compute the results at the start, and the gradients between start and end.

    `start` and `end` are the inputs, and weight and bias of each layer.
    """
    widths = [start[0].shape[1], *map(len, start[1::2])]
    stack = Stack(widths, names)
    passes = [stack.forward(*split(arrays), keep=True) for arrays in (start, end)]
    (out, here), (_, there) = passes
    # The parameters' gradients lie behind other numbers, and so are aligned to single ones only.
    whole = np.full(1 + stack.size, np.nan, np.float32)
    x_grad = np.full(start[0].shape, np.nan, np.float32)
    stack.backward(grad, here, there, moved, whole[1:], x_grad)
    assert np.isnan(whole[0])
    ends = np.cumsum([array.size for array in start[1:-1]])
    gradients = [
        part.reshape(array.shape) for part, array in zip(np.split(whole[1:], ends), start[1:])
    ]
    return Results(out, x_grad, gradients)


def split(arrays: Arrays) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the inputs, and the parameters in one array."""
    return arrays[0], np.concatenate([array.ravel() for array in arrays[1:]])


def reference(
    names: Sequence[str | None], grad: NDArray[Any], start: Arrays, end: Arrays, moved: int
) -> Results:
    """Compute the same results layer by layer, in double precision."""
    start, end = ([array.astype(np.float64) for array in arrays] for arrays in (start, end))
    passes = []
    for x, *parameters in start, end:
        after, before = [x], []
        for name, weight, bias in zip(names, parameters[::2], parameters[1::2]):
            before.append(after[-1] @ weight.T + bias)
            loops = getattr(activation, name) if name else None
            after.append(loops.forward(before[-1]) if loops else before[-1])
        passes.append((before, after))
    (a, f_a), (b, f_b) = passes
    grad, gradients = grad.astype(np.float64), []
    for i in reversed(range(len(names))):
        x, weight = f_a[i], start[1 + 2 * i]
        if i >= moved:
            x, weight = (x + f_b[i]) / 2, (weight + end[1 + 2 * i]) / 2
        if names[i] is not None:
            loops = getattr(activation, names[i])
            ends = a[i], f_a[i + 1], b[i], f_b[i + 1]
            grad = (
                loops.average_backward(grad, *ends)
                if i >= moved
                else loops.backward(grad, f_a[i + 1])
            )
        gradients = [grad.T @ x, grad.sum(0), *gradients]
        grad = grad @ weight
    return Results(f_a[-1], grad, gradients)


def made(rng: Any, rows: int, widths: Sequence[int], integers: bool = False) -> Arrays:
    """Return inputs and parameters: small integers, or numbers that keep the size of values."""
    shapes = [(rows, widths[0])]
    for n, m in pairwise(widths):
        shapes += [(m, n), (m,)]
    if integers:
        return [rng.integers(-1, 2, size=shape).astype(np.float32) for shape in shapes]
    return [(rng.normal(size=shape) / np.sqrt(shape[-1])).astype(np.float32) for shape in shapes]


widths = st.lists(st.sampled_from([1, 2, 5, 6, 7, 15, 16, 17, 33, 64]), min_size=2, max_size=4)
rows = st.sampled_from([1, 3, LANES - 1, LANES, LANES + 1, TILES * LANES, TILES * LANES + 5, 300])
seeds = st.integers(0, 2**32 - 1)


@given(widths, rows, st.booleans(), seeds)
@example([64, 64, 64, 64], 300, True, 0)
@example([33, 7, 17], 300, True, 0)
def test_sums_of_integers_are_exact(widths: list[int], rows: int, average: bool, seed: int) -> None:
    """This holds for all widths and numbers of rows; midpoints of integers are exact too."""
    rng = np.random.default_rng(seed)
    names = [None if average else ("relu", None)[i % 2] for i in range(len(widths) - 1)]
    start, end = (made(rng, rows, widths, integers=True) for _ in range(2))
    grad = rng.integers(-1, 2, size=(rows, widths[-1])).astype(np.float32)
    moved = int(rng.integers(len(names))) if average else len(names)
    end[: 1 + 2 * moved] = start[: 1 + 2 * moved] if moved else end[:1]
    arguments = names, grad, start, end, moved
    ours, exact = stacked(*arguments), reference(*arguments)
    np.testing.assert_array_equal(ours.out, exact.out)
    np.testing.assert_array_equal(ours.x_grad, exact.x_grad)
    for gradient, expected in zip(ours.gradients, exact.gradients):
        np.testing.assert_array_equal(gradient, expected)


@given(widths, rows, st.sampled_from(ACTIVATIONS), st.sampled_from([0.0, 1e-3, 1.0]), seeds)
def test_results_are_as_near_as_rounding_allows(
    widths: list[int], rows: int, name: str | None, step: float, seed: int
) -> None:
    """Results agree within a few roundings of the sums of absolute values.

    A sum of n terms is off by √n ulps or so of the sum of their absolute values, at most by n / 2.
    Slopes are at most 1, so the same stack of absolute values without activations bounds it.
    """
    rng = np.random.default_rng(seed)
    names = [name] * (len(widths) - 1)
    # ReLU gets integers: otherwise rounding would decide on which side of the kink a value lies.
    start, moves = (made(rng, rows, widths, integers=name == "relu") for _ in range(2))
    end = [
        a + np.float32(np.ceil(step) if name == "relu" else step) * b for a, b in zip(start, moves)
    ]
    grad = rng.normal(size=(rows, widths[-1])).astype(np.float32)
    largest = [np.maximum(abs(a), abs(b)) for a, b in zip(start, end)]
    bounds = reference([None] * len(names), abs(grad), largest, largest, len(names))
    for moved in 0, len(names):
        arguments = names, grad, start, end, moved
        assert_near(stacked(*arguments), reference(*arguments), bounds)


def assert_near(ours: Results, exact: Results, bounds: Results) -> None:
    pairs = zip(*([x.out, x.x_grad, *x.gradients] for x in (ours, exact, bounds)))
    for array, expected, bound in pairs:
        assert (abs(array - expected) <= 32 * EPS * bound).all()


def test_extreme_values_stay_in_their_rows() -> None:
    """Padding rows of a tile repeat its last row, so they overflow only if that row does."""
    rng = np.random.default_rng(0)
    start = made(rng, 5, [6, 7, 3])
    stack = Stack([6, 7, 3], ["relu", "tanh"])
    alone, _ = stack.forward(*split(start))
    start[0][1], start[0][2, 0] = np.inf, np.nan
    out, _ = stack.forward(*split(start))
    np.testing.assert_array_equal(out[[0, 3, 4]], alone[[0, 3, 4]])
    assert np.isnan(out[2]).all()


def test_memory_of_an_earlier_pass_is_used_again() -> None:
    rng = np.random.default_rng(0)
    stack = Stack([6, 7, 3], ["tanh", "tanh"])
    first, second = (split(made(rng, 20, [6, 7, 3])) for _ in range(2))
    expected, _ = stack.forward(*second, keep=True)
    _, earlier = stack.forward(*first, keep=True)
    for keep in True, False:
        out, later = stack.forward(*second, keep=keep, spare=earlier.values)
        np.testing.assert_array_equal(out, expected)
        assert later.values.after is earlier.values.after
        assert later.values.before.size == (earlier.values.before.size if keep else 0)


def flat(results: Results) -> Arrays:
    return [results.out, results.x_grad, *results.gradients]


def test_threads_take_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outputs are identical bit for bit; sums over the batch differ only by rounding."""
    rng = np.random.default_rng(0)
    widths, names = [20, 17, 9], ["tanh", "relu"]
    start, end = (made(rng, 100, widths) for _ in range(2))
    grad = rng.normal(size=(100, 9)).astype(np.float32)
    arguments = names, grad, start, end, 1
    alone = stacked(*arguments)
    monkeypatch.setattr(threads, "blas_threads", lambda: 3)
    monkeypatch.setattr(threads, "_LEAST_PRODUCTS", 1)
    together, again = stacked(*arguments), stacked(*arguments)
    for one, other in zip(flat(together), flat(again)):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(flat(alone)[:2], flat(together)):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(alone.gradients, together.gradients):
        np.testing.assert_allclose(one, other, rtol=0, atol=100 * EPS * np.abs(one).max())
    assert (alone.gradients[0] != together.gradients[0]).any()  # it was divided


OTHER_MACHINE = """
import sys
sys.path.insert(0, sys.argv[1])
from agrad.kernels.cpu import microkernel, stack
tallest = microkernel.tallest
microkernel.tallest = stack.tallest = lambda: 18 - tallest()
import test_stack
test_stack.test_sums_of_integers_are_exact()
"""


@pytest.mark.slow
def test_blocks_as_tall_as_on_another_machine(tmp_path: Path) -> None:
    """12 rows with AVX-512, 6 elsewhere: this processor can compute both, one of them slowly."""
    folder = str(Path(__file__).parent)
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", OTHER_MACHINE, folder], env=environment, check=True)
