"""Time convolutions, forward and backward, in agrad and PyTorch (oneDNN), against a roofline.

    python benchmarks/conv.py --threads 1 --out results/speed/conv/threads-1.json

The contestants, in float32, take turns (see `race`). Except for volumes, three further contestants
show where agrad's time goes: its kernels for the output, the gradient of the input and the gradient
of the weight. The roofline is the least time that this machine needs. It is the longer of two
times: that of the multiplications and additions, at the rate of the BLAS in a large matrix product;
and that of reading and writing each array once per pass, at the rate of a copy in memory. Both
rates are measured in the same run. The BLAS may not reach the processor's peak. Needs the extras
`demo` and `bench`.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from agrad.kernels.cpu import conv
from race import Contestants, quartiles, race, ratios, show, write
from threadpoolctl import threadpool_limits

import agrad
import agrad.nn.functional as F
from agrad.study.runs import machine


class Shape(NamedTuple):
    """A convolution that keeps the size of its input: shapes of input and weight, padding."""

    input: tuple[int, ...]
    weight: tuple[int, ...]
    padding: int


SHAPES = {
    "conv3d N4 C16 16x32x32 F32 3x3x3": Shape((4, 16, 16, 32, 32), (32, 16, 3, 3, 3), 1),
    "conv2d N32 C32 32x32 F64 3x3": Shape((32, 32, 32, 32), (64, 32, 3, 3), 1),
    "conv2d N16 C64 16x16 F128 3x3": Shape((16, 64, 16, 16), (128, 64, 3, 3), 1),
    "conv1d N64 C32 L200 F32 k3": Shape((64, 32, 200), (32, 32, 3), 1),
}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=5, help="calls of each contestant in a round")
    parser.add_argument("--kinds", nargs="+", default=["conv1d", "conv2d", "conv3d"])
    parser.add_argument("--out", type=Path, help="write the figures to this file as JSON")
    return parser.parse_args()


def contestants(shape: Shape) -> Contestants:
    """Return each framework's forward plus backward on the same values, and agrad's kernels."""
    rng = np.random.default_rng(0)
    output = (shape.input[0], shape.weight[0], *shape.input[2:])
    x, weight, bias, cotangent = (
        rng.normal(size=size).astype(np.float32)
        for size in (shape.input, shape.weight, shape.weight[:1], output)
    )
    name = f"conv{x.ndim - 2}d"
    leaves = [agrad.tensor(array, requires_grad=True) for array in (x, weight, bias)]
    tensors = [torch.tensor(array, requires_grad=True) for array in (x, weight, bias)]
    torch_cotangent = torch.from_numpy(cotangent)

    def agrad_step() -> None:
        for leaf in leaves:
            leaf.zero_grad()
        getattr(F, name)(*leaves, padding=shape.padding).backward(cotangent)

    def torch_step() -> None:
        for tensor in tensors:
            tensor.grad = None
        out = getattr(torch.nn.functional, name)(*tensors, padding=shape.padding)
        out.backward(torch_cotangent)

    agrad_step()
    torch_step()
    for leaf, tensor in zip(leaves, tensors):
        known = tensor.grad.numpy()
        error = np.abs(leaf.grad - known).max() / np.abs(known).max()
        if error > 1e-4:
            raise SystemExit(f"{name}: gradients differ by {error:.1e} of the largest")
    parts = kernels(x, weight, cotangent, shape) if x.ndim < 5 else {}
    return {"agrad": agrad_step, "PyTorch": torch_step} | parts


def kernels(x: np.ndarray, weight: np.ndarray, grad: np.ndarray, shape: Shape) -> Contestants:
    """Return agrad's three kernels, which treat a sequence as an image of one row."""
    before = (shape.padding, shape.padding)
    if x.ndim == 3:
        x, weight, grad = (array[:, :, np.newaxis] for array in (x, weight, grad))
        before = (0, shape.padding)
    size, geometry = x.shape[2:], conv.Geometry((1, 1), before, (1, 1), 1)
    return {
        "agrad, output": lambda: conv.convolve(x, weight, None, size, geometry),
        "agrad, gradient of input": lambda: conv.input_gradient(grad, weight, size, geometry),
        "agrad, gradient of weight": lambda: conv.weight_gradient(
            grad, x, weight.shape[2:], geometry
        ),
    }


def best_seconds(call: Callable[[], object]) -> float:
    return float(np.min(race({"": call}, rounds=50, steps=1)[""]))


def machine_rates() -> dict[str, float]:
    """Return operations per second of a large product, and bytes per second of a copy in memory."""
    rng = np.random.default_rng(0)
    size = 512
    a, b = rng.random((2, size, size), dtype=np.float32)
    product = np.empty_like(a)
    source, target = np.ones((2, 2**23), np.float32)
    computing = best_seconds(lambda: np.matmul(a, b, out=product))
    moving = best_seconds(lambda: np.copyto(target, source))
    return {
        "sgemm_operations_per_second": 2 * size**3 / computing,
        "copy_bytes_per_second": 2 * source.nbytes / moving,
    }


def roofline(shape: Shape, rates: dict[str, float]) -> dict[str, float]:
    """Return the operations and bytes of forward plus backward, and the least time for them."""
    pixels = shape.input[0] * int(np.prod(shape.input[2:]))
    x, weight = int(np.prod(shape.input)), int(np.prod(shape.weight))
    out = pixels * shape.weight[0]
    operations = 3 * 2 * weight * pixels
    # Three passes, each over all three arrays: two are read and one is written.
    moved = 3 * 4 * (x + weight + out)
    computing = operations / rates["sgemm_operations_per_second"]
    moving = moved / rates["copy_bytes_per_second"]
    return {
        "operations": operations,
        "bytes": moved,
        "seconds_computing": computing,
        "seconds_moving": moving,
        "seconds": max(computing, moving),
    }


def main() -> None:
    """Race the contestants, and print and write the figures."""
    options = parse()
    torch.set_num_threads(options.threads)
    results = {}
    with threadpool_limits(options.threads):
        rates = machine_rates()
        for name, shape in SHAPES.items():
            if name.split()[0] not in options.kinds:
                continue
            least = roofline(shape, rates)
            seconds = race(contestants(shape), options.rounds, options.steps)
            seconds["roofline"] = [least["seconds"]] * options.rounds
            compared = ratios(seconds, [("agrad", "PyTorch"), ("agrad", "roofline")])
            show(
                f"{name}, {options.threads} thread(s): {least['operations'] / 1e9:.2f} GFLOP, "
                f"{least['bytes'] / 2**20:.0f} MiB",
                seconds,
                compared,
            )
            parts = [quartiles(seconds[key])[0] for key in seconds if key.startswith("agrad,")]
            results[name] = {
                "seconds_by_round": seconds,
                "ratios_median_and_quartiles": compared,
                "roofline": least,
            }
            if parts:
                rate = least["operations"] / sum(parts)
                print(f"  agrad's kernels: {rate / 1e9:.0f} GFLOP/s")
                least["kernels_operations_per_second"] = rate
        print(", ".join(f"{name} {rate / 1e9:.1f}e9" for name, rate in rates.items()))
    content = {
        "machine": machine() | {"torch": torch.__version__} | rates,
        "options": {k: v for k, v in vars(options).items() if k != "out"},
        "convolutions": results,
    }
    write(options.out, content)


if __name__ == "__main__":
    main()
