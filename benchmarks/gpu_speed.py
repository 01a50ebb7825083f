"""The parts of gpu.py that measure time: of training steps, convolutions and single kernels.

Steps are timed by the clock, with the GPU synchronized before and after; kernels by CUDA events.
"""

import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from race import quartiles, race, ratios, show

import agrad
import agrad.nn.functional as F
from agrad import nn, optim
from agrad.backend import kernels, move
from agrad.study.networks import dense_network
from agrad.train import capture_step, train_step

Note = Callable[[str, Any], None]
"""Stores a figure of a part of the measurements under a name."""


class Missing(Exception):
    """A part of the measurements lacks a package, a tool or a data set."""


def require(*packages: str) -> None:
    """Raise Missing unless the packages are installed, torch as a build for CUDA."""
    lacking = [name for name in packages if find_spec(name) is None]
    if lacking:
        raise Missing(f"pip install {' '.join(lacking)}")
    if "torch" in packages:
        import torch

        if not torch.cuda.is_available():
            raise Missing(f"a build of PyTorch for CUDA (this is {torch.__version__})")


def make_batch(examples: int, features: int, classes: int) -> tuple[Any, Any]:
    """Return inputs and labels on the GPU."""
    rng = np.random.default_rng(0)
    inputs = rng.random((examples, features), dtype=np.float32)
    return move(inputs, "cuda"), move(rng.integers(classes, size=examples), "cuda")


def step(deadline: float, out: Path, note: Note) -> None:
    """Race a step of the dense network, 30 hidden layers, with PyTorch's: eager and as a graph."""
    require("torch")
    for width, batch_size in ((64, 128), (64, 1024), (256, 128), (1024, 128), (1024, 1024)):
        seconds = race(_steps(width, batch_size), rounds=6, steps=5)
        title = f"30 x {width}, tanh, batch {batch_size}"
        of_ratios = ratios(seconds, _PAIRS)
        show(title, seconds, of_ratios)
        note(title, {"seconds_by_round": seconds, "ratios": of_ratios})
        if time.monotonic() > deadline - 200:
            note("failed", f"out of time after {title}")
            return


_PAIRS = [
    ("agrad RMSprop", "PyTorch RMSprop"),
    ("agrad RMSprop, graph", "PyTorch RMSprop"),
    ("agrad RMSprop, graph", "PyTorch RMSprop, graph"),
    ("agrad average gradient", "PyTorch RMSprop"),
    ("agrad average gradient, graph", "PyTorch RMSprop"),
    ("agrad average gradient, graph", "agrad RMSprop, graph"),
]


def _steps(width: int, batch_size: int) -> dict[str, Callable[[], object]]:
    import torch

    inputs, labels = make_batch(batch_size, 784, 10)
    parameters = [parameter.cpu().numpy() for parameter in _network(width).parameters()]
    batch = [torch.from_dlpack(array) for array in (inputs, labels)]
    return {
        **_own_steps(width, inputs, labels),
        "PyTorch RMSprop": _torch_step(parameters, batch),
        "PyTorch RMSprop, graph": _torch_graph(parameters, batch),
    }


def _own_steps(width: int, inputs: Any, labels: Any) -> dict[str, Callable[[], object]]:
    """Return agrad's steps, eager and as graphs, each with its own network."""

    def rmsprop(params: Any) -> optim.RMSprop:
        return optim.RMSprop(params, lr=1e-4, alpha=0.9)

    def average(params: Any) -> optim.AverageGradient:
        return optim.AverageGradient(rmsprop(params))

    steps: dict[str, Callable[[], object]] = {}
    for name, make_optimizer in (("RMSprop", rmsprop), ("average gradient", average)):
        for graph in (False, True):
            model = _network(width)
            optimizer: Any = make_optimizer(model.parameters())
            step: Any = partial(train_step, model, optimizer)
            if graph:
                step = capture_step(model, optimizer)
                with warnings.catch_warnings():
                    warnings.simplefilter("error")  # a step without a graph is a failure here
                    for _ in range(3):
                        step(inputs, labels)
            title = f"agrad {name}{', graph' if graph else ''}"
            steps[title] = lambda step=step: (step(inputs, labels), _wait())
    return steps


def _network(width: int) -> nn.Module:
    agrad.seed(0)
    return dense_network(784, 10, width=width).to("cuda")


def _torch_step(parameters: list[Any], batch: list[Any]) -> Callable[[], object]:
    """Return PyTorch's eager step of the same network, from the same weights."""
    launch = _torch_launches(parameters, batch, capturable=False)
    return lambda: (launch().item(), _wait())


def _torch_graph(parameters: list[Any], batch: list[Any]) -> Callable[[], object]:
    """Return the same step as PyTorch's CUDA graph."""
    import torch

    own = [tensor.clone() for tensor in batch]
    launch = _torch_launches(parameters, own, capturable=True)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            launch()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = launch()

    def step() -> None:
        for tensor, values in zip(own, batch):
            tensor.copy_(values)
        graph.replay()
        loss.item()
        _wait()

    return step


def _torch_launches(parameters: list[Any], batch: list[Any], capturable: bool) -> Callable[[], Any]:
    """Return a function that launches a step in PyTorch and returns its loss."""
    import torch

    layers: list[torch.nn.Module] = []
    for weight in parameters[::2]:
        layers += [torch.nn.Linear(weight.shape[1], weight.shape[0]), torch.nn.Tanh()]
    model = torch.nn.Sequential(*layers[:-1]).cuda()
    with torch.no_grad():
        for parameter, values in zip(model.parameters(), parameters):
            parameter.copy_(torch.from_numpy(values))
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-4, alpha=0.9, capturable=capturable)

    def launch() -> Any:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(batch[0]), batch[1])
        loss.backward()
        optimizer.step()
        return loss

    return launch


def _wait() -> None:
    import cupy

    cupy.cuda.runtime.deviceSynchronize()


def convolution(deadline: float, out: Path, note: Note) -> None:
    """Race convolutions with cuDNN's, forward plus backward, at the shapes of the CPU's race."""
    require("torch")
    import torch
    from conv import SHAPES

    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    for title, shape in SHAPES.items():
        seconds = race(_convolutions(shape), rounds=10, steps=10)
        of_ratios = ratios(seconds, [("agrad", "cuDNN")])
        show(title, seconds, of_ratios)
        note(title, {"seconds_by_round": seconds, "ratios": of_ratios})


def _convolutions(shape: Any) -> dict[str, Callable[[], object]]:
    import cupy
    import torch

    rng = np.random.default_rng(0)
    arrays = [
        rng.normal(size=size).astype(np.float32)
        for size in (shape.input, shape.weight, shape.weight[:1])
    ]
    leaves = [agrad.tensor(move(array, "cuda"), requires_grad=True) for array in arrays]
    peers = [torch.tensor(array, device="cuda", requires_grad=True) for array in arrays]
    name = f"conv{len(shape.input) - 2}d"
    convolve, peer_convolve = getattr(F, name), getattr(torch.nn.functional, name)
    wait = cupy.cuda.runtime.deviceSynchronize

    def agrad_step() -> None:
        for leaf in leaves:
            leaf.zero_grad()
        result = convolve(*leaves, padding=shape.padding)
        result.backward(np.ones_like(result.data))
        wait()

    def torch_step() -> None:
        for peer in peers:
            peer.grad = None
        result = peer_convolve(*peers, padding=shape.padding)
        result.backward(torch.ones_like(result))
        wait()

    agrad_step()
    torch_step()
    for leaf, peer in zip(leaves, peers):
        known = peer.grad.cpu().numpy()
        error = np.abs(leaf.grad.get() - known).max() / np.abs(known).max()
        if error > 1e-4:
            raise ArithmeticError(f"{name}: gradients differ by {error:.1e} of the largest")
    return {"agrad": agrad_step, "cuDNN": torch_step}


def roofline(deadline: float, out: Path, note: Note) -> None:
    """Time kernels, and relate their bandwidth to that of a copy."""
    import cupy
    from cupyx.profiler import benchmark

    x = _normal(2**26)
    out_array = cupy.empty_like(x)

    def seconds(function: Callable[[], object]) -> float:
        times = benchmark(function, n_repeat=20, n_warmup=3).gpu_times[0]
        return quartiles(times)[0]

    copying = 2 * x.nbytes / seconds(lambda: cupy.copyto(out_array, x))
    print(f"  copy: {copying / 1e9:.0f} GB/s")
    note("copy_bytes_per_second", copying)
    for name, arrays, function in _hot_kernels(x):
        median = seconds(function)
        rate = arrays * x.nbytes / median
        note(name, {"seconds": median, "bytes_per_second": rate, "of_copy": rate / copying})
        print(f"  {name:<36} {rate / 1e9:6.0f} GB/s, {rate / copying:.2f} of a copy", flush=True)
    # At the size of a step's layers, launch time and the small number of blocks dominate.
    for shape in ((128, 64), (1024, 64), (1024, 1024)):
        for name, _, function in _dense_kernels(*(_normal(prod(shape)).reshape(shape),) * 5):
            median = seconds(function)
            note(f"{name}, {shape[0]} x {shape[1]}", {"seconds": median})
            print(f"  {name:<36} {shape!s:<13} {1e6 * median:7.1f} us", flush=True)
    side = 8192
    square = _normal(side * side).reshape(side, side)
    rate = 2 * side**3 / seconds(lambda: square @ square)
    print(f"  matmul {side}: {rate / 1e12:.1f} TFLOP/s")
    note(f"matmul {side}", {"flops_per_second": rate})


def _hot_kernels(x: Any) -> Iterator[tuple[str, float, Callable[[], object]]]:
    """Yield each kernel's name, the least number of arrays like `x` it moves, and its call."""
    own = kernels(x)
    y, z, u, v = (_normal(x.size) for _ in range(4))
    square, delta = y * y, np.empty_like(x)
    yield "np.add", 3, lambda: np.add(x, y, out=delta)
    yield "erf", 2, lambda: own.gelu.erf(x)
    yield "erf_divided_difference", 3, lambda: own.gelu.erf_divided_difference(x, y)
    yield "gelu", 2, lambda: own.gelu.gelu(x)
    yield "gelu_derivative", 2, lambda: own.gelu.gelu_derivative(x)
    yield "gelu_divided_difference", 3, lambda: own.gelu.gelu_divided_difference(x, y)
    for name in ("sigmoid", "silu"):
        f, pull = getattr(own.logistic, name), getattr(own.logistic, f"{name}_backward")
        yield name, 2, lambda f=f: f(x)
        yield f"{name}_backward", 3, lambda f=pull: f(x, y)
    for name in ("sigmoid", "silu", "softplus"):
        mean_slope = getattr(own.logistic, f"{name}_divided_difference")
        yield f"{name}_divided_difference", 3, lambda f=mean_slope: f(x, y)
    yield "midpoint", 3, lambda: own.dense.midpoint(x, y)
    rule = own.optimizer
    yield "heavy_ball", 4, lambda: rule.heavy_ball(delta, x, y, 1e-3, 0.9, 1.0, False, False)
    yield "rmsprop", 4, lambda: rule.rmsprop(delta, x, square, 1e-3, 0.9, 1e-8)
    yield "adam", 6, lambda: rule.adam(delta, x, y, square, 1e-3, 0.9, 0.999, 1e-8, 1.0, False)
    yield "search_elements", 6, lambda: rule.search_elements(x, u, y, z)
    planes = x.reshape(-1, 64, 64)
    window = own.pooling.Window((2, 2), (2, 2), (0, 0), (1, 1))
    yield "max_pool", 1.25, lambda: own.pooling.max_pool(planes, (32, 32), window)
    yield from _dense_kernels(*(array.reshape(-1, 1024) for array in (x, y, z, u, v)))


def _dense_kernels(
    x: Any, y: Any, z: Any, u: Any, v: Any
) -> Iterator[tuple[str, float, Callable[[], object]]]:
    """Yield the same as `_hot_kernels`, for matrix kernels."""
    own = kernels(x)
    bias, classes = x[0].copy(), np.zeros_like(x, np.int64, shape=len(x))
    yield "add_bias", 2, lambda: own.dense.add_bias(z, bias)
    yield "sum_rows", 1, lambda: own.dense.sum_rows(x)
    for name in ("relu", "tanh"):
        loops = getattr(own.activation, name)
        calls = {
            "forward": (2, lambda f=loops: f.forward(x)),
            "backward": (3, lambda f=loops: f.backward(x, y)),
            "average_backward": (6, lambda f=loops: f.average_backward(x, y, z, u, v)),
            "forward_biased": (3, lambda f=loops: f.forward_biased(z, bias)),
            "forward_biased in place": (2, lambda f=loops: f.forward_biased(z, bias, True)),
            "backward_biased": (3, lambda f=loops: f.backward_biased(x, y)),
            "average_backward_biased": (
                6,
                lambda f=loops: f.average_backward_biased(x, y, z, u, v),
            ),
        }
        yield from ((f"{name} {does}", *call) for does, call in calls.items())
    norm, ends = own.normalization, (bias, bias)
    yield "layer_norm", 2, lambda: norm.layer_norm(x, bias, bias, 1e-5)
    yield "layer_norm_backward", 3, lambda: norm.layer_norm_backward(x, y, bias, 1e-5)
    yield (
        "layer_norm_average_backward",
        4,
        lambda: norm.layer_norm_average_backward(x, y, z, *ends, 1e-5),
    )
    loss, targets = own.softmax, (classes, None, -100, "mean")
    seed = np.ones_like(x, shape=())
    yield "softmax", 2, lambda: loss.softmax(x, False)
    yield "softmax_backward", 3, lambda: loss.softmax_backward(x, y)
    yield "average_softmax", 3, lambda: loss.average_softmax(x, y)
    yield "cross_entropy", 1, lambda: loss.cross_entropy(x, *targets)
    yield "cross_entropy_backward", 2, lambda: loss.cross_entropy_backward(seed, x, *targets)
    yield (
        "cross_entropy_average_backward",
        3,
        lambda: loss.cross_entropy_average_backward(seed, x, y, *targets),
    )


def _normal(size: int) -> Any:
    import cupy

    return cupy.random.default_rng(0).standard_normal(size, dtype=np.float32)
