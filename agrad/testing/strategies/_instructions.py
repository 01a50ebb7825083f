"""Instructions of random programs: functions of small matrices, with bounds of their results."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import agrad.nn.functional as F
from agrad import functions as f
from agrad.core.tensor import Tensor

__all__ = ["INSTRUCTIONS", "Instruction", "N"]


@dataclass(frozen=True)
class Instruction:
    """A function that programs apply to earlier values; it may call an operation of your own.

    Values have the shapes (3, 3), (3, 1), (1, 3) and (1, 1).

    Attributes:
        name: The name in a program's text.
        function: Takes one or two Tensors of any of those shapes, and returns one of such a shape.
        bound: Returns a bound of the result's magnitude from bounds of the operands' magnitudes.
        operands: The number of operands, 1 or 2.
        smooth: Whether the function has no kinks.

    Example:
        >>> from agrad.testing.strategies import Instruction
        >>> cube = Instruction("cube", lambda x: x * x * x, bound=lambda x: x**3)
        >>> cube.operands, cube.bound(2.0)
        (1, 8.0)
    """

    name: str
    function: Callable[..., Tensor]
    bound: Callable[..., float]
    operands: int = 1
    smooth: bool = True


def _product(x: float, y: float) -> float:
    return x * y


N = 3

INSTRUCTIONS: tuple[Instruction, ...] = (
    Instruction("add", lambda x, y: x + y, lambda x, y: x + y, 2),
    Instruction("subtract", lambda x, y: x - y, lambda x, y: x + y, 2),
    Instruction("multiply", lambda x, y: x * y, _product, 2),
    Instruction("divide", lambda x, y: x / (1 + y * y), lambda x, y: x, 2),
    Instruction("matmul", lambda x, y: _wide(x) @ _tall(y), lambda x, y: N * x * y, 2),
    Instruction("linear", lambda x, y: F.linear(_wide(x), _wide(y)), lambda x, y: N * x * y, 2),
    Instruction("power", lambda x, y: (1 + x * x) ** f.tanh(y), lambda x, y: 1 + x * x, 2),
    Instruction("maximum", f.maximum, max, 2, smooth=False),
    Instruction("minimum", f.minimum, max, 2, smooth=False),
    Instruction(
        "concatenate",
        lambda x, y: f.concatenate([_wide(x), _wide(y)])[1:].mean(0, keepdims=True),
        max,
        2,
    ),
    Instruction("stack", lambda x, y: f.stack([_full(x), _full(y)]).prod(0), _product, 2),
    Instruction(
        "einsum", lambda x, y: f.einsum("ij,kj->ki", _wide(x), _wide(y)), lambda x, y: N * x * y, 2
    ),
    Instruction("negative", lambda x: -x, lambda x: x),
    Instruction("scale", lambda x: 0.5 * x - 1.5, lambda x: x + 2),
    Instruction("tanh", f.tanh, lambda x: 1),
    Instruction("sin", f.sin, lambda x: 1),
    Instruction("relu", F.relu, lambda x: x, smooth=False),
    Instruction("absolute", abs, lambda x: x, smooth=False),
    Instruction("clip", lambda x: x.clip(-1, 1), lambda x: 1, smooth=False),
    Instruction("gelu", F.gelu, lambda x: x),
    Instruction("sigmoid", F.sigmoid, lambda x: 1),
    Instruction("softplus", F.softplus, lambda x: x + 1),
    Instruction("exp", f.exp, np.exp),
    Instruction("log", lambda x: f.log(1 + x * x), lambda x: x),
    Instruction("sqrt", lambda x: f.sqrt(0.5 + f.square(x)), lambda x: x + 1),
    Instruction("reciprocal", lambda x: f.reciprocal(1.5 + f.sin(x)), lambda x: 2),
    Instruction("sum", lambda x: x.sum(0, keepdims=True), lambda x: N * x),
    Instruction("mean", lambda x: x.mean(1, keepdims=True), lambda x: x),
    Instruction("var", lambda x: x.var(0, keepdims=True), lambda x: x * x),
    Instruction("max", lambda x: x.max(1, keepdims=True), lambda x: x, smooth=False),
    Instruction("min", lambda x: x.min(0, keepdims=True), lambda x: x, smooth=False),
    Instruction("logsumexp", lambda x: f.logsumexp(x, 1, keepdims=True), lambda x: x + 2),
    Instruction("softmax", lambda x: F.softmax(x, -1), lambda x: 1),
    Instruction("log_softmax", lambda x: F.log_softmax(x, 0), lambda x: 2 * x + 2),
    Instruction("layer_norm", lambda x: F.layer_norm(x, x.shape[-1], eps=0.1), lambda x: 2),
    Instruction("transpose", lambda x: x.T, lambda x: x),
    Instruction("reshape", lambda x: x.reshape(-1).reshape(x.T.shape), lambda x: x),
    Instruction("flip", lambda x: x[::-1], lambda x: x),
    Instruction("repeat", lambda x: x[[0, -1, 0]], lambda x: x),
    Instruction("pad", lambda x: f.pad(x, 1)[:-2, 1:-1], lambda x: x),
)


def _wide(x: Tensor) -> Tensor:
    return f.broadcast_to(x, (x.shape[0], N))


def _tall(x: Tensor) -> Tensor:
    return f.broadcast_to(x, (N, x.shape[1]))


def _full(x: Tensor) -> Tensor:
    return f.broadcast_to(x, (N, N))
