"""Time single operations, forward and backward, in agrad, PyTorch, JAX and MyGrad.

    python benchmarks/operations.py --threads 1 --out results/speed/operations/threads-1.json

Float32; PyTorch is eager, JAX is jitted with both passes in one function. MyGrad takes part in the
operations that it has. benchmarks/race.py describes how the figures are measured. Needs the extras
`demo` and `bench`.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

from race import Contestants, pin, race, ratios, refuse_other_threads, show, write

PEERS = ("PyTorch", "JAX", "MyGrad")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--steps", type=int, default=20, help="calls of each contestant in a round")
    parser.add_argument("--only", nargs="+", help="operations whose names begin with these words")
    parser.add_argument("--cpu", action="store_true", help="CPU times, for a busy machine")
    parser.add_argument("--out", type=Path, help="write the figures to this file as JSON")
    return parser.parse_args()


def operations() -> dict[str, Contestants]:
    """Return the contestants of each operation, all with the same values."""
    import numpy as np

    random = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return random.standard_normal(shape, np.float32)

    unary = [normal(128, 256)]
    found = {
        f"{name} 128x256": _elementwise(name, unary) for name in ("tanh", "relu", "gelu", "sigmoid")
    }
    found |= {
        "add, broadcast 128x256 + 256": _binary("add", [normal(128, 256), normal(256)]),
        "multiply 128x256": _binary("multiply", [normal(128, 256), normal(128, 256)]),
        "sum over rows 128x256": _sum([normal(128, 256)]),
        "linear 128x64 by 64x64": _linear([normal(128, 64), normal(64, 64), normal(64)]),
        "linear 128x512 by 512x512": _linear([normal(128, 512), normal(512, 512), normal(512)]),
        "layer_norm 128x256": _layer_norm([normal(128, 256), normal(256), normal(256)]),
        "cross_entropy 128x10": _cross_entropy(normal(128, 10), random.integers(10, size=128)),
        "max_pool2d 32x16x28x28": _max_pool(normal(32, 16, 28, 28)),
        "embedding 64x200 of 5000x32": _embedding(
            normal(5000, 32), random.integers(5000, size=(64, 200))
        ),
    }
    return found


def _contestants(
    arrays: list,
    agrad_call: Callable | None,
    torch_call: Callable | None,
    jax_call: Callable | None,
    mygrad_call: Callable | None = None,
) -> Contestants:
    """Return each framework's forward plus backward, given a fixed gradient of the output."""
    import jax
    import mygrad
    import numpy as np
    import torch

    import agrad

    leaves = [agrad.tensor(array, requires_grad=True) for array in arrays]
    shape = agrad_call(*leaves).shape
    cotangent = np.random.default_rng(1).standard_normal(shape, np.float32)

    def with_agrad() -> None:
        for leaf in leaves:
            leaf.zero_grad()
        agrad_call(*leaves).backward(cotangent)

    tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
    torch_cotangent = torch.tensor(cotangent)

    def with_torch() -> None:
        for tensor in tensors:
            tensor.grad = None
        torch_call(*tensors).backward(torch_cotangent)

    values = [jax.numpy.asarray(array) for array in arrays]
    jax_cotangent = jax.numpy.asarray(cotangent)

    @jax.jit
    def both(values: list, cotangent: jax.Array) -> tuple:
        out, pull = jax.vjp(jax_call, *values)
        return out, pull(cotangent)

    def with_jax() -> None:
        jax.block_until_ready(both(values, jax_cotangent))

    found: Contestants = {"agrad": with_agrad, "PyTorch": with_torch, "JAX": with_jax}
    if mygrad_call is not None:
        others = [mygrad.tensor(array) for array in arrays]

        def with_mygrad() -> None:
            mygrad_call(*others).backward(cotangent)

        found["MyGrad"] = with_mygrad
    return found


def _elementwise(name: str, arrays: list) -> Contestants:
    import jax
    import mygrad
    import mygrad.nnet.activations as mygrad_activations
    import torch

    import agrad.nn.functional as F

    def exact_gelu(x: jax.Array) -> jax.Array:
        return jax.nn.gelu(x, approximate=False)

    jax_call = exact_gelu if name == "gelu" else getattr(jax.nn, name)
    found = {"tanh": mygrad.tanh}.get(name) or getattr(mygrad_activations, name, None)
    return _contestants(
        arrays, getattr(F, name), getattr(torch.nn.functional, name), jax_call, found
    )


def _binary(name: str, arrays: list) -> Contestants:
    import jax
    import mygrad
    import torch

    import agrad

    return _contestants(arrays, *(getattr(m, name) for m in (agrad, torch, jax.numpy, mygrad)))


def _sum(arrays: list) -> Contestants:
    import jax
    import mygrad
    import torch

    import agrad

    return _contestants(
        arrays,
        lambda x: agrad.sum(x, axis=1),
        lambda x: torch.sum(x, dim=1),
        lambda x: jax.numpy.sum(x, axis=1),
        lambda x: mygrad.sum(x, axis=1),
    )


def _linear(arrays: list) -> Contestants:
    import mygrad
    import torch

    import agrad.nn.functional as F

    return _contestants(
        arrays,
        F.linear,
        torch.nn.functional.linear,
        lambda x, w, b: x @ w.T + b,
        lambda x, w, b: mygrad.matmul(x, w.T) + b,
    )


def _layer_norm(arrays: list) -> Contestants:
    import jax
    import torch

    import agrad.nn.functional as F

    def jax_call(x: jax.Array, w: jax.Array, b: jax.Array) -> jax.Array:
        centred = x - x.mean(axis=1, keepdims=True)
        return centred * jax.lax.rsqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5) * w + b

    width = arrays[0].shape[1:]
    return _contestants(
        arrays,
        lambda x, w, b: F.layer_norm(x, width, w, b),
        lambda x, w, b: torch.nn.functional.layer_norm(x, width, w, b),
        jax_call,
    )


def _cross_entropy(logits, labels) -> Contestants:
    import jax
    import torch
    from mygrad.nnet.losses import softmax_crossentropy

    import agrad.nn.functional as F

    targets, chosen = torch.from_numpy(labels), jax.numpy.asarray(labels)[:, None]
    return _contestants(
        [logits],
        lambda x: F.cross_entropy(x, labels),
        lambda x: torch.nn.functional.cross_entropy(x, targets),
        lambda x: -jax.numpy.take_along_axis(jax.nn.log_softmax(x), chosen, axis=1).mean(),
        lambda x: softmax_crossentropy(x, labels),
    )


def _max_pool(images) -> Contestants:
    import jax
    import torch
    from mygrad.nnet.layers import max_pool

    import agrad.nn.functional as F

    def jax_call(x: jax.Array) -> jax.Array:
        window = (1, 1, 2, 2)
        return jax.lax.reduce_window(x, -jax.numpy.inf, jax.lax.max, window, window, "VALID")

    return _contestants(
        [images],
        lambda x: F.max_pool2d(x, 2),
        lambda x: torch.nn.functional.max_pool2d(x, 2),
        jax_call,
        lambda x: max_pool(x, (2, 2), 2),
    )


def _embedding(table, ids) -> Contestants:
    import jax
    import torch

    import agrad.nn.functional as F

    torch_ids, jax_ids = torch.from_numpy(ids), jax.numpy.asarray(ids)
    return _contestants(
        [table],
        lambda weight: F.embedding(ids, weight),
        lambda weight: torch.nn.functional.embedding(torch_ids, weight),
        lambda weight: weight[jax_ids],
        lambda weight: weight[ids],
    )


def main() -> None:
    options = parse()
    pin(options.threads)
    import jax
    import mygrad
    import torch

    from agrad.study.runs import machine

    torch.set_num_threads(options.threads)
    refuse_other_threads(options.threads)
    found = {}
    clock = time.process_time if options.cpu else time.perf_counter
    for name, contestants in operations().items():
        if options.only and not name.startswith(tuple(options.only)):
            continue
        seconds = race(contestants, options.rounds, options.steps, clock)
        compared = ratios(seconds, [("agrad", peer) for peer in PEERS])
        show(f"{name}, {options.threads} thread(s)", seconds, compared)
        found[name] = {"seconds_by_round": seconds, "ratios_median_and_quartiles": compared}
    versions = {"torch": torch.__version__, "jax": jax.__version__, "mygrad": mygrad.__version__}
    content = {
        "machine": machine() | versions,
        "options": {k: v for k, v in vars(options).items() if k != "out"},
        "operations": found,
    }
    write(options.out, content)


if __name__ == "__main__":
    main()
