"""Activation functions as modules; see `agrad.nn.functional` for details.

The output has the shape of the input, and the dtype that the function documents.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from agrad.core.tensor import Tensor
from agrad.nn import functional as F
from agrad.nn.function_module import FunctionModule
from agrad.nn.module import Module, Parameter

__all__ = [
    "ELU",
    "GELU",
    "GLU",
    "SELU",
    "Hardswish",
    "LeakyReLU",
    "LogSigmoid",
    "LogSoftmax",
    "Mish",
    "PReLU",
    "ReLU",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Softsign",
    "Tanh",
]


class ReLU(FunctionModule):
    """Apply max(x, 0) elementwise; see `agrad.nn.functional.relu`.

    Example:
        >>> from agrad import nn
        >>> nn.ReLU()([-1.0, 2.0])
        tensor([0., 2.])
    """

    function = staticmethod(F.relu)


@dataclass(eq=False, repr=False)
class LeakyReLU(FunctionModule):
    """Scale negative elements by `negative_slope`; see `agrad.nn.functional.leaky_relu`.

    Example:
        >>> from agrad import nn
        >>> nn.LeakyReLU(0.5)([-1.0, 2.0])
        tensor([-0.5,  2. ])
    """

    negative_slope: float = 0.01
    function = staticmethod(F.leaky_relu)


@dataclass(eq=False, repr=False)
class ELU(FunctionModule):
    """Replace negative elements by alpha·(eˣ - 1); see `agrad.nn.functional.elu`.

    Example:
        >>> from agrad import nn
        >>> nn.ELU()([-100.0, 2.0])
        tensor([-1.,  2.])
    """

    alpha: float = 1.0
    function = staticmethod(F.elu)


class SELU(FunctionModule):
    """Apply the self-normalizing ELU; see `agrad.nn.functional.selu`.

    Use it with `init.lecun_normal_`.

    Example:
        >>> from agrad import nn
        >>> nn.SELU()([0.0, 1.0])
        tensor([0.      , 1.050701])
    """

    function = staticmethod(F.selu)


class Tanh(FunctionModule):
    """Apply the hyperbolic tangent elementwise; see `agrad.nn.functional.tanh`.

    Example:
        >>> from agrad import nn
        >>> nn.Tanh()([0.0, 20.0])
        tensor([0., 1.])
    """

    function = staticmethod(F.tanh)


class Sigmoid(FunctionModule):
    """Apply 1 / (1 + e⁻ˣ) elementwise; see `agrad.nn.functional.sigmoid`.

    Example:
        >>> from agrad import nn
        >>> nn.Sigmoid()([0.0, 100.0])
        tensor([0.5, 1. ])
    """

    function = staticmethod(F.sigmoid)


@dataclass(eq=False, repr=False)
class Softplus(FunctionModule):
    """Apply log(1 + e^(beta·x)) / beta elementwise; see `agrad.nn.functional.softplus`.

    Example:
        >>> from agrad import nn
        >>> nn.Softplus()([-200.0, 200.0])
        tensor([  0., 200.])
    """

    beta: float = 1.0
    function = staticmethod(F.softplus)


class LogSigmoid(FunctionModule):
    """Apply log(1 / (1 + e⁻ˣ)) elementwise; see `agrad.nn.functional.logsigmoid`.

    Example:
        >>> from agrad import nn
        >>> nn.LogSigmoid()([-200.0, 0.0])
        tensor([-200.       ,   -0.6931472])
    """

    function = staticmethod(F.logsigmoid)


class Softsign(FunctionModule):
    """Apply x / (1 + |x|) elementwise; see `agrad.nn.functional.softsign`.

    Example:
        >>> from agrad import nn
        >>> nn.Softsign()([-1.0, 3.0])
        tensor([-0.5 ,  0.75])
    """

    function = staticmethod(F.softsign)


class SiLU(FunctionModule):
    """Apply x·sigmoid(x), also called swish, elementwise; see `agrad.nn.functional.silu`.

    Example:
        >>> from agrad import nn
        >>> nn.SiLU()([0.0, 100.0])
        tensor([  0., 100.])
    """

    function = staticmethod(F.silu)


@dataclass(eq=False, repr=False)
class GELU(FunctionModule):
    """Apply x·Φ(x) elementwise, Φ the standard normal CDF; see `agrad.nn.functional.gelu`.

    Example:
        >>> from agrad import nn
        >>> nn.GELU()([0.0, 100.0])
        tensor([  0., 100.])
    """

    approximate: str = "none"
    function = staticmethod(F.gelu)


class Mish(FunctionModule):
    """Apply x·tanh(log(1 + eˣ)) elementwise; see `agrad.nn.functional.mish`.

    Example:
        >>> from agrad import nn
        >>> nn.Mish()([0.0, 100.0])
        tensor([  0., 100.])
    """

    function = staticmethod(F.mish)


class Hardswish(FunctionModule):
    """Apply x·min(max(x + 3, 0), 6)/6 elementwise; see `agrad.nn.functional.hardswish`.

    Example:
        >>> from agrad import nn
        >>> nn.Hardswish()([-4.0, 0.0, 3.0])
        tensor([-0.,  0.,  3.])
    """

    function = staticmethod(F.hardswish)


@dataclass(eq=False, repr=False)
class GLU(FunctionModule):
    """Split axis `dim` into halves a and b, and return a·sigmoid(b); see `agrad.nn.functional.glu`.

    Example:
        >>> from agrad import nn
        >>> nn.GLU()([1.0, 2.0, 0.0, 1000.0])
        tensor([0.5, 2. ])
    """

    dim: int = -1
    function = staticmethod(F.glu)


class PReLU(Module):
    """Scale negative elements by a learned weight; see `agrad.nn.functional.prelu`.

    Args:
        num_parameters: 1, or the number of channels for one weight per channel.
        init: The initial weight.

    Attributes:
        weight: float32 of shape (num_parameters,).

    Raises:
        ValueError: `num_parameters` is below 1.

    Example:
        >>> from agrad import nn
        >>> nn.PReLU()([-1.0, 2.0]).tolist()
        [-0.25, 2.0]
    """

    function = staticmethod(F.prelu)

    def __init__(self, num_parameters: int = 1, init: float = 0.25) -> None:
        if num_parameters < 1:
            raise ValueError(f"PReLU: num_parameters must be at least 1, got {num_parameters}")
        self.num_parameters = num_parameters
        self.weight = Parameter(np.full(num_parameters, init, np.float32))

    def forward(self, input: Any) -> Tensor:
        """Return the output, of the input's shape."""
        return F.prelu(input, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"


@dataclass(eq=False, repr=False)
class Softmax(FunctionModule):
    """Divide exponentials by their sum along axis `dim`; see `agrad.nn.functional.softmax`.

    Example:
        >>> from agrad import nn
        >>> nn.Softmax(dim=1)([[0.0, 0.0]])
        tensor([[0.5, 0.5]])
    """

    dim: int
    function = staticmethod(F.softmax)


@dataclass(eq=False, repr=False)
class LogSoftmax(FunctionModule):
    """Return the logarithm of the softmax along axis `dim`; see `agrad.nn.functional.log_softmax`.

    Example:
        >>> from agrad import nn
        >>> nn.LogSoftmax(dim=0)([0.0, 1000.0])
        tensor([-1000.,     0.])
    """

    dim: int
    function = staticmethod(F.log_softmax)
