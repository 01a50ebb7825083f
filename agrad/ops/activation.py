"""Activation functions, element by element.

An activation that runs in compiled loops has its value, derivative and average together in a file
of kernels: tanh and ReLU in kernels/cpu/activation.py, sigmoid and SiLU in logistic.py beside it,
GELU in gelu.py. Of the others, value and derivative are here, and the average is in logistic.py
(softplus) or piecewise.py.

The derivatives of Tanh and Sigmoid are computed from their outputs, as in PyTorch. That is cheap,
but where they saturate it is accurate only to the rounding of the output. The averaged Jacobians
are accurate there too.
"""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from agrad.backend import Array, kernels
from agrad.ops.operation import Apply, Elementwise, Gradients, Point, Smooth, owned

if TYPE_CHECKING:
    from agrad.kernels.cpu.activation import Activation

__all__ = [
    "ELU",
    "GELU",
    "SELU",
    "GELUSlope",
    "LeakyReLU",
    "Looped",
    "ReLU",
    "SiLU",
    "Sigmoid",
    "Softplus",
    "Softsign",
    "Tanh",
]


class Looped(Elementwise):
    """An activation whose kernels can add a dense layer's bias; see `agrad.tracing.dense`.

    Attributes:
        name: Its name in the kernels.
        function: Computes it for dtypes that the kernels do not support.
    """

    owns_gradients = True
    name: str
    function: Callable[..., Array]

    def loops(self, x: Array) -> "Activation":
        """Return the kernels' `Activation` for arrays like x."""
        loops: Activation = getattr(kernels(x).activation, self.name)
        return loops

    def forward(self, x: Array) -> Array:
        return self.loops(x).forward(x) if _is_real(x) else self.function(x)

    def backward(self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array) -> Gradients:
        return (self.loops(x).backward(grad, out),)

    def average_backward(
        self, grad: Array, needs: tuple[bool, ...], start: Point, end: Point
    ) -> Gradients:
        (a,), (b,) = start.inputs, end.inputs
        return (self.loops(a).average_backward(grad, a, start.out, b, end.out),)


class ReLU(Looped):
    """max(x, 0); at 0 the slope is 0."""

    name = "relu"
    function = staticmethod(lambda x: np.maximum(x, 0))

    def recorded_backward(
        self, apply: Apply, grad: Any, needs: tuple[bool, ...], out: Any, x: Any
    ) -> Sequence[Any]:
        return (np.where(x > 0, grad, 0),)


class LeakyReLU(Elementwise):
    """x above zero, negative_slope·x elsewhere."""

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = float(owned(negative_slope))

    def forward(self, x: Array) -> Array:
        return x * _one_above_zero(x, self.negative_slope)

    def derivative(self, out: Array, x: Array) -> Array:
        return _one_above_zero(x, self.negative_slope)

    def recorded_backward(
        self, apply: Apply, grad: Any, needs: tuple[bool, ...], out: Any, x: Any
    ) -> Sequence[Any]:
        return (np.where(x > 0, grad, self.negative_slope * grad),)

    def divided_difference(self, a: Array, b: Array) -> Array:
        slope: Array = kernels(a).piecewise.leaky_relu_divided_difference(a, b, self.negative_slope)
        return slope


class ELU(Elementwise):
    """x above zero, alpha·(eˣ - 1) elsewhere."""

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = float(owned(alpha))

    def forward(self, x: Array) -> Array:
        return np.maximum(x, 0) + self.alpha * np.expm1(np.minimum(x, 0))

    def derivative(self, out: Array, x: Array) -> Array:
        return np.exp(np.minimum(x, 0)) * _one_above_zero(x, self.alpha)

    def recorded_backward(
        self, apply: Apply, grad: Any, needs: tuple[bool, ...], out: Any, x: Any
    ) -> Sequence[Any]:
        return (np.where(x > 0, grad, grad * (self.alpha * np.exp(np.minimum(x, 0)))),)

    def divided_difference(self, a: Array, b: Array) -> Array:
        slope: Array = kernels(a).piecewise.elu_divided_difference(a, b, self.alpha)
        return slope


class SELU(Elementwise):
    """1.0507 times the ELU with alpha = 1.6733 (Klambauer et al., 2017)."""

    scale = 1.0507009873554804934193349852946
    elu = ELU(1.6732632423543772848170429916717)

    def forward(self, x: Array) -> Array:
        return self.scale * self.elu.forward(x)

    def derivative(self, out: Array, x: Array) -> Array:
        return self.scale * self.elu.derivative(out, x)

    def recorded_backward(
        self, apply: Apply, grad: Any, needs: tuple[bool, ...], out: Any, x: Any
    ) -> Sequence[Any]:
        return self.elu.recorded_backward(apply, self.scale * grad, needs, out, x)

    def divided_difference(self, a: Array, b: Array) -> Array:
        slope: Array = kernels(a).piecewise.selu_divided_difference(a, b)
        return slope


class Tanh(Looped):
    """The hyperbolic tangent."""

    name = "tanh"
    function: Callable[..., Array] = staticmethod(np.tanh)

    def recorded_backward(
        self, apply: Apply, grad: Any, needs: tuple[bool, ...], out: Any, x: Any
    ) -> Sequence[Any]:
        return (grad * (1 - out * out),)


class Sigmoid(Elementwise):
    """1 / (1 + e⁻ˣ)."""

    def forward(self, x: Array) -> Array:
        return kernels(x).logistic.sigmoid(x) if _is_real(x) else _sigmoid(x)

    def backward(self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array) -> Gradients:
        return (kernels(x).logistic.sigmoid_backward(grad, out),)

    def recorded_backward(
        self, apply: Apply, grad: Any, needs: tuple[bool, ...], out: Any, x: Any
    ) -> Sequence[Any]:
        return (grad * (out * (1 - out)),)

    def divided_difference(self, a: Array, b: Array) -> Array:
        slope: Array = kernels(a).logistic.sigmoid_divided_difference(a, b)
        return slope


class Softplus(Elementwise):
    """log(1 + e^(beta·x)) / beta.

    PyTorch switches to x beyond a threshold of 20. That is left out: it changes nothing in float32,
    and would make the function jump.
    """

    def __init__(self, beta: float = 1.0) -> None:
        self.beta = float(owned(beta))

    def forward(self, x: Array) -> Array:
        scaled = self.beta * x
        return (np.maximum(scaled, 0) + np.log1p(np.exp(-np.abs(scaled)))) / self.beta

    def derivative(self, out: Array, x: Array) -> Array:
        return _sigmoid(self.beta * x)

    def recorded_backward(
        self, apply: Apply, grad: Any, needs: tuple[bool, ...], out: Any, x: Any
    ) -> Sequence[Any]:
        return (grad * apply(Sigmoid(), self.beta * x),)

    def divided_difference(self, a: Array, b: Array) -> Array:
        slope: Array = kernels(a).logistic.softplus_divided_difference(self.beta * a, self.beta * b)
        return slope


class Softsign(Elementwise):
    """x / (1 + |x|)."""

    recordable = True

    def forward(self, x: Array) -> Array:
        out: Array = x / (1 + np.abs(x))
        return out

    def derivative(self, out: Array, x: Array) -> Array:
        return np.square(1 / (1 + np.abs(x)))

    def divided_difference(self, a: Array, b: Array) -> Array:
        slope: Array = kernels(a).piecewise.softsign_divided_difference(a, b)
        return slope


class SiLU(Elementwise):
    """x·sigmoid(x), also known as swish."""

    def forward(self, x: Array) -> Array:
        return kernels(x).logistic.silu(x) if _is_real(x) else x * _sigmoid(x)

    def backward(self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array) -> Gradients:
        return (kernels(x).logistic.silu_backward(grad, x),)

    def recorded_backward(
        self, apply: Apply, grad: Any, needs: tuple[bool, ...], out: Any, x: Any
    ) -> Sequence[Any]:
        share = apply(Sigmoid(), x)
        return (grad * (share + out * (1 - share)),)

    def divided_difference(self, a: Array, b: Array) -> Array:
        slope: Array = kernels(a).logistic.silu_divided_difference(a, b)
        return slope


class GELU(Elementwise):
    """x·Φ(x), Φ the standard normal distribution function."""

    def forward(self, x: Array) -> Array:
        if _is_real(x):
            out: Array = kernels(x).gelu.gelu(x)
            return out
        wide: Array = kernels(x).gelu.gelu(x.astype(np.float64))
        return wide.astype(x.dtype)

    def derivative(self, out: Array, x: Array) -> Array:
        slope: Array = kernels(x).gelu.gelu_derivative(x)
        return slope

    def recorded_backward(
        self, apply: Apply, grad: Any, needs: tuple[bool, ...], out: Any, x: Any
    ) -> Sequence[Any]:
        return (grad * apply(GELUSlope(), x),)

    def divided_difference(self, a: Array, b: Array) -> Array:
        slope: Array = kernels(a).gelu.gelu_divided_difference(a, b)
        return slope


class GELUSlope(Smooth):
    """The derivative of the GELU, Φ(x) + x·φ(x) with the density φ of Φ."""

    recordable = True
    axis = ()  # each element is a problem of its own

    def forward(self, x: Array) -> Array:
        slope: Array = kernels(x).gelu.gelu_derivative(x)
        return slope

    def backward(self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array) -> Gradients:
        density = np.exp(x * x / -2) / math.sqrt(2 * math.pi)
        return (grad * (density * (2 - x * x)),)


def _one_above_zero(x: Array, elsewhere: float) -> Array:
    """Return 1 where x > 0, otherwise `elsewhere`; np.where is slower, as it branches."""
    out: Array = (x > 0) + x.dtype.type(elsewhere) * (x <= 0)
    return out


def _is_real(x: Array) -> bool:
    """Return whether the kernels support the dtype of x; no other dtype has gradients."""
    return x.dtype.char in "fd"


def _sigmoid(x: Array) -> Array:
    with np.errstate(over="ignore"):
        inverse = np.exp(-x)
    inverse += 1
    return 1 / inverse
