"""Time convolutions, forward and backward: agrad's beside PyTorch's (oneDNN) and the bare GEMMs.

    python benchmarks/conv.py --threads 1 --out results/conv/threads-1.json

All contestants share one process, the same float32 arrays and the same number of threads, and take
turns: each round times a few calls of each, in an order that rotates. Reported are the medians over
the rounds of each round's median and of the ratios within a round, with the quartiles beside them.
"GEMM" is the time of agrad's three products alone, an image at a time, their operands ready in the
cache: what is left for a convolution that packs windows into columns to gain on this BLAS. Needs
the extras `demo` and `bench`.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from dense_step import race
from threadpoolctl import threadpool_limits

import agrad
import agrad.nn.functional as F
from agrad.study.runs import machine


class Shape(NamedTuple):
    """A convolution: its input, its weight and its padding."""

    input: tuple[int, ...]
    weight: tuple[int, ...]
    padding: int


SHAPES = {
    "conv2d N32 C32 32x32 F64 3x3": Shape((32, 32, 32, 32), (64, 32, 3, 3), 1),
    "conv2d N16 C64 16x16 F128 3x3": Shape((16, 64, 16, 16), (128, 64, 3, 3), 1),
    "conv1d N64 C32 L200 F32 k3": Shape((64, 32, 200), (32, 32, 3), 1),
}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=5, help="calls of each contestant in a round")
    parser.add_argument("--out", type=Path, help="write the figures to this file as JSON")
    return parser.parse_args()


def contestants(shape: Shape) -> dict[str, Callable[[], object]]:
    """Return forward plus backward by each, from the same values."""
    rng = np.random.default_rng(0)
    arrays = [
        rng.normal(size=size).astype(np.float32)
        for size in (shape.input, shape.weight, shape.weight[:1])
    ]
    name = f"conv{len(shape.input) - 2}d"
    leaves = [agrad.tensor(array, requires_grad=True) for array in arrays]
    tensors = [torch.tensor(array, requires_grad=True) for array in arrays]

    def agrad_call() -> agrad.Tensor:
        return getattr(F, name)(*leaves, padding=shape.padding)

    def torch_call() -> torch.Tensor:
        return getattr(torch.nn.functional, name)(*tensors, padding=shape.padding)

    cotangent = rng.normal(size=agrad_call().shape).astype(np.float32)
    torch_cotangent = torch.from_numpy(cotangent)

    def agrad_step() -> None:
        for leaf in leaves:
            leaf.zero_grad()
        agrad_call().backward(cotangent)

    def torch_step() -> None:
        for tensor in tensors:
            tensor.grad = None
        torch_call().backward(torch_cotangent)

    agrad_step()
    torch_step()
    for leaf, tensor in zip(leaves, tensors):
        known = tensor.grad.numpy()
        error = np.abs(leaf.grad - known).max() / np.abs(known).max()
        if error > 1e-4:
            raise SystemExit(f"{name}: gradients differ by {error:.1e} of the largest")
    return {"agrad": agrad_step, "PyTorch": torch_step, "GEMM": gemm_step(shape, rng)}


def gemm_step(shape: Shape, rng: np.random.Generator) -> Callable[[], object]:
    """Return the products of a convolution that keeps the size, an image at a time."""
    filters, window = shape.weight[0], int(np.prod(shape.weight[1:]))
    pixels = int(np.prod(shape.input[2:]))
    weight, columns, grad = (
        rng.normal(size=size).astype(np.float32)
        for size in ((filters, window), (window, pixels), (filters, pixels))
    )
    out, x_grad, weight_grad = np.empty_like(grad), np.empty_like(columns), np.empty_like(weight.T)

    def step() -> None:
        for _ in range(shape.input[0]):
            np.matmul(weight, columns, out=out)
            np.matmul(weight.T, grad, out=x_grad)
            np.matmul(columns, grad.T, out=weight_grad)

    return step


def main() -> None:
    """Race the contestants, print and write what came out."""
    options = parse()
    torch.set_num_threads(options.threads)
    results = {}
    with threadpool_limits(options.threads):
        for name, shape in SHAPES.items():
            seconds = race(contestants(shape), options.rounds, options.steps)
            products = 3 * 2 * np.prod(shape.weight) * shape.input[0] * np.prod(shape.input[2:])
            print(f"{name}, {options.threads} thread(s), {products / 1e9:.2f} GFLOP")
            for contestant, times in seconds.items():
                low, middle, high = 1e3 * np.quantile(times, (0.25, 0.5, 0.75))
                rate = products / middle / 1e6
                print(
                    f"  {contestant:<8} {middle:7.2f} ms   ({low:.2f} to {high:.2f})"
                    f"   {rate:5.0f} GFLOP/s"
                )
            results[name] = {"seconds_by_round": seconds}
            for other in ("PyTorch", "GEMM"):
                ratio = np.array(seconds["agrad"]) / np.array(seconds[other])
                low, middle, high = np.quantile(ratio, (0.25, 0.5, 0.75))
                results[name][f"agrad / {other}"] = [middle, low, high]
                print(f"  agrad / {other}: {middle:.2f}   ({low:.2f} to {high:.2f})")
    if options.out is not None:
        content = {
            "machine": machine() | {"torch": torch.__version__},
            "options": {k: v for k, v in vars(options).items() if k != "out"},
            "convolutions": results,
        }
        options.out.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
