"""What a training step of the deep dense network costs at the least: its products and its memory.

Two contestants of the race that are no frameworks. *GEMMs alone*: the matrix products of a plain
step through NumPy, which no framework on the same BLAS can be faster than. *Bytes alone*: one copy
in memory that reads and writes as many bytes as a plain step must move, counted below; their arrays
together are as large as what a step works on, so that caches serve the copy as they serve a step. A
step that computes and moves one after the other takes their sum, one that overlaps them perfectly
the larger of the two. A step with the average gradient has twice the products of a plain one, with
every=2 one and a half times as many in the mean.
"""

from collections.abc import Sequence

import numpy as np
from race import Contestants

Shape = tuple[int, ...]


def gemm_steps(weights: Sequence[np.ndarray], images: np.ndarray) -> Contestants:
    """Return the step's matrix products alone through NumPy, into memory at hand.

    Three a layer, but for the first, whose input needs no gradient.
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
        out[...] = 1e-3  # nothing is left to chance: denormal numbers are slow

    def gemms() -> None:
        for a, b, out in products:
            np.matmul(a, b, out=out)

    return {"GEMMs alone": gemms}


def copy_steps(size: int) -> Contestants:
    """Return a copy that moves `size` bytes, half of them read and half written.

    It is PyTorch's, which has as many threads as the contestants.
    """
    import torch

    source, target = torch.ones((2, size // 8))
    return {"Bytes alone": lambda: target.copy_(source)}


def step_bytes(weights: Sequence[Shape], examples: int) -> dict[str, int]:
    """Return the bytes that a step must read and write in all, by method, in float32.

    What is counted is the least of a step that goes through the network layer by layer, with one
    pass a layer forward and one back, and keeps the gradients for its user to see: in each pass
    every array that outlives it is read once or written once. Bias, activation and derivative then
    cost nothing beside the product, and the derivative of a layer is taken where the layer above
    has that layer's output in hand.

    - Forward: the input, weight and bias are read, the output is written. Back: the gradient of
      the output, the input and the weight are read, and the gradients of weight, bias and input
      written; of the first layer neither the weight nor its input's gradient. The loss reads the
      logits and writes their gradient.
    - RMSprop reads parameters, gradients and squares, and writes parameters and squares. Adam has
      one more array to read and to write.
    - The average gradient around RMSprop: gradients and squares are read, squares and the update
      written. Forward at the end of the update: as before, and the update is read. The loss reads
      both logits. Back: as before, with inputs and weights of both ends, those as weight and
      update. The line search reads parameters, gradients of both kinds and the update, and writes
      the parameters.
    - With every=2, a mean of two steps: the one that measures writes its fractions besides, the
      other is a plain one that reads them.

    Args:
        weights: the shapes of the weights, (outputs, inputs), without the biases.
        examples: the size of the batch.
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
