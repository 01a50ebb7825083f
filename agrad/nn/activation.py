"""The activation functions as modules; each is explained where the function is."""

from dataclasses import dataclass

from agrad.nn import functional as F
from agrad.nn.function_module import FunctionModule

__all__ = [
    "ELU",
    "GELU",
    "SELU",
    "LeakyReLU",
    "LogSoftmax",
    "ReLU",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Softsign",
    "Tanh",
]


class ReLU(FunctionModule):
    """max(x, 0) of each element; see `agrad.nn.functional.relu`.

    Example:
        >>> from agrad import nn
        >>> nn.ReLU()([-1.0, 2.0])
        tensor([0., 2.])
    """

    function = staticmethod(F.relu)


@dataclass(eq=False, repr=False)
class LeakyReLU(FunctionModule):
    """x where it is positive, negative_slope·x elsewhere; see `agrad.nn.functional.leaky_relu`.

    Example:
        >>> from agrad import nn
        >>> nn.LeakyReLU(0.5)([-1.0, 2.0])
        tensor([-0.5,  2. ])
    """

    negative_slope: float = 0.01
    function = staticmethod(F.leaky_relu)


@dataclass(eq=False, repr=False)
class ELU(FunctionModule):
    """x where it is positive, alpha·(eˣ - 1) elsewhere; see `agrad.nn.functional.elu`.

    Example:
        >>> from agrad import nn
        >>> nn.ELU()([-100.0, 2.0])
        tensor([-1.,  2.])
    """

    alpha: float = 1.0
    function = staticmethod(F.elu)


class SELU(FunctionModule):
    """The self-normalizing ELU, for `init.lecun_normal_`; see `agrad.nn.functional.selu`.

    Example:
        >>> from agrad import nn
        >>> nn.SELU()([0.0, 1.0])
        tensor([0.      , 1.050701])
    """

    function = staticmethod(F.selu)


class Tanh(FunctionModule):
    """The hyperbolic tangent of each element; see `agrad.nn.functional.tanh`.

    Example:
        >>> from agrad import nn
        >>> nn.Tanh()([0.0, 20.0])
        tensor([0., 1.])
    """

    function = staticmethod(F.tanh)


class Sigmoid(FunctionModule):
    """1 / (1 + e⁻ˣ) of each element; see `agrad.nn.functional.sigmoid`.

    Example:
        >>> from agrad import nn
        >>> nn.Sigmoid()([0.0, 100.0])
        tensor([0.5, 1. ])
    """

    function = staticmethod(F.sigmoid)


@dataclass(eq=False, repr=False)
class Softplus(FunctionModule):
    """log(1 + e^(beta·x)) / beta of each element; see `agrad.nn.functional.softplus`.

    Example:
        >>> from agrad import nn
        >>> nn.Softplus()([-200.0, 200.0])
        tensor([  0., 200.])
    """

    beta: float = 1.0
    function = staticmethod(F.softplus)


class Softsign(FunctionModule):
    """x / (1 + |x|) of each element; see `agrad.nn.functional.softsign`.

    Example:
        >>> from agrad import nn
        >>> nn.Softsign()([-1.0, 3.0])
        tensor([-0.5 ,  0.75])
    """

    function = staticmethod(F.softsign)


class SiLU(FunctionModule):
    """x·sigmoid(x) of each element, also known as swish; see `agrad.nn.functional.silu`.

    Example:
        >>> from agrad import nn
        >>> nn.SiLU()([0.0, 100.0])
        tensor([  0., 100.])
    """

    function = staticmethod(F.silu)


class GELU(FunctionModule):
    """x·Φ(x) of each element, Φ the normal distribution's function; see `agrad.nn.functional.gelu`.

    Example:
        >>> from agrad import nn
        >>> nn.GELU()([0.0, 100.0])
        tensor([  0., 100.])
    """

    function = staticmethod(F.gelu)


@dataclass(eq=False, repr=False)
class Softmax(FunctionModule):
    """Exponentials divided by their sum along the axis dim; see `agrad.nn.functional.softmax`.

    Example:
        >>> from agrad import nn
        >>> nn.Softmax(dim=1)([[0.0, 0.0]])
        tensor([[0.5, 0.5]])
    """

    dim: int
    function = staticmethod(F.softmax)


@dataclass(eq=False, repr=False)
class LogSoftmax(FunctionModule):
    """The logarithm of the softmax along the axis dim; see `agrad.nn.functional.log_softmax`.

    Example:
        >>> from agrad import nn
        >>> nn.LogSoftmax(dim=0)([0.0, 1000.0])
        tensor([-1000.,     0.])
    """

    dim: int
    function = staticmethod(F.log_softmax)
