"""A lower bound on the cost of a training step of the deep dense network: products and memory.

Two contestants of the race measure it. *GEMMs alone* runs the matrix products of a plain step
through NumPy; no framework on the same BLAS can be faster. *Bytes alone* is one copy in memory that
reads and writes as many bytes as a plain step must move, as counted below. Its arrays have the
total size of a step's arrays, so that caches help the copy as much as the step. A step that
computes and then moves takes the sum of the two times; a step that overlaps them perfectly takes
the larger. A step with the average gradient has twice the products of a plain step; with every=2,
it has one and a half times as many on average.
"""

from collections.abc import Sequence

import numpy as np
from race import Contestants

Shape = tuple[int, ...]


def gemm_steps(weights: Sequence[np.ndarray], images: np.ndarray) -> Contestants:
    """Return the step's matrix products alone, through NumPy and into arrays allocated beforehand.

    Each layer has three, except the first, whose input needs no gradient.
    """
    examples = len(images)
    products = []
    for i, weight in enumerate(weights[::2]):
        x = images if i == 0 else np.ones((examples, weight.shape[1]), np.float32)
        y = np.empty((examples, weight.shape[0]), np.float32)
        products += [(x, weight.T, y), (y.T, x, np.empty_like(weight))]
        if i:
            products.append((y, weight, np.empty_like(x)))
    for *_, out in products:
        out[...] = 1e-3  # uninitialized memory may hold denormal numbers, which are slow

    def gemms() -> None:
        for a, b, out in products:
            np.matmul(a, b, out=out)

    return {"GEMMs alone": gemms}


def copy_steps(size: int) -> Contestants:
    """Return a copy that moves `size` bytes, half of them read and half written.

    PyTorch makes the copy, with as many threads as the contestants have.
    """
    import torch

    source, target = torch.ones((2, size // 8))
    return {"Bytes alone": lambda: target.copy_(source)}


def step_bytes(weights: Sequence[Shape], examples: int) -> dict[str, int]:
    """Return the bytes that a step must read and write, by method, in float32.

    The count assumes a step that makes one pass per layer forward and one back, and that leaves the
    gradients in memory for the user. Each pass reads or writes every array that outlives it once.
    Bias, activation and derivative then cost nothing beside the product, and a layer's derivative
    is taken in the pass of the layer above, which reads that layer's output anyway.

    - Forward reads the input, weight and bias, and writes the output. Back reads the gradient of
      the output, the input and the weight, and writes the gradients of weight, bias and input. In
      the first layer it reads no weight and writes no gradient of the input. The loss reads the
      logits and writes their gradient.
    - RMSprop reads parameters, gradients and squares, and writes parameters and squares. Adam
      reads and writes one more array.
    - The average gradient around RMSprop reads gradients and squares, and writes squares and the
      update. Forward at the end of the update also reads the update. The loss reads both logits.
      Back reads inputs and weights of both ends, the weights as weight and update. The line search
      reads parameters, both gradients and the update, and writes the parameters.
    - With every=2 the count is the mean of two steps: one that measures and also writes its
      fractions, and a plain one that reads them.

    Args:
        weights: The shapes of the weights, (outputs, inputs), without the biases.
        examples: The size of the batch.
    """
    parameters = sum(m * n + m for m, n in weights)
    logits = examples * weights[-1][0]
    forward = back = ends = back_of_averages = 0
    for i, (m, n) in enumerate(weights):
        x, y, weight = examples * n, examples * m, m * n
        inner = i > 0
        forward += x + weight + m + y
        back += y + x + weight + m + inner * (weight + x)
        ends += x + 2 * (weight + m) + y
        back_of_averages += y + 2 * x + weight + m + inner * (2 * weight + x)
    sweeps = forward + 2 * logits + back
    measured = sweeps + 4 * parameters + ends + 3 * logits + back_of_averages + 5 * parameters
    numbers = {
        "RMSprop": sweeps + 5 * parameters,
        "Adam": sweeps + 7 * parameters,
        "average gradient on RMSprop": measured,
        "average gradient every 2": (measured + parameters + sweeps + 6 * parameters) / 2,
    }
    return {name: int(4 * count) for name, count in numbers.items()}
