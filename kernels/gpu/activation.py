"""ReLU and tanh: value, derivative and average, alone and with a dense layer's bias.

`agrad.kernels.cpu.activation` explains the formulas. Float32 is computed in single precision, by
CUDA's own `tanhf`, `expf` and `expm1f`.

Other activations are in `piecewise` (leaky ReLU, ELU, SELU, softsign), `logistic` (sigmoid, SiLU,
softplus) and `gelu`.
"""

import cupy

from .dense import over_places, summed
from .launch import Kernel, over

__all__ = ["relu", "tanh"]

_READ = "const real*"


class Activation:
    """The kernels of an activation f, alone and with a dense layer's bias.

    All arrays of a call have one dtype, float32 or float64. One that is only read may have any
    strides; `z` is C-contiguous.
    """

    def __init__(self, name: str) -> None:
        def kernel(does: str, parameters: str) -> Kernel:
            return Kernel("activation.cu", f"{name}_{does}", parameters)

        ends = ", ".join([_READ] * 5)
        sums = "real*, real*, int64, int64, int64"
        self._forward = kernel("forward", "const real*, real*, int64")
        self._backward = kernel("backward", "const real*, const real*, real*, int64")
        self._average_backward = kernel("average_backward", f"{ends}, real*, int64")
        self._forward_biased = kernel("forward_biased", "real*, const real*, real*, int64, int64")
        self._forward_in_place = kernel("forward_in_place", "real*, const real*, int64, int64")
        self._backward_biased = kernel("backward_biased", f"const real*, const real*, {sums}")
        self._average_backward_biased = kernel("average_backward_biased", f"{ends}, {sums}")

    def forward(self, x: cupy.ndarray) -> cupy.ndarray:
        """Return f(x).

        Example:
            >>> relu.forward(cupy.array([-1.0, 2.0]))
            array([0., 2.])
        """
        out = cupy.empty(x.shape, x.dtype)
        self._forward(over(out.size), cupy.ascontiguousarray(x), out, out.size)
        return out

    def backward(self, grad: cupy.ndarray, out: cupy.ndarray) -> cupy.ndarray:
        """Return grad · f'(x), given out = f(x).

        Example:
            >>> tanh.backward(cupy.array([8.0, 8.0]), cupy.array([0.0, 0.5]))
            array([8., 6.])
        """
        x_grad = cupy.empty(out.shape, out.dtype)
        arrays = map(cupy.ascontiguousarray, (grad, out))
        self._backward(over(x_grad.size), *arrays, x_grad, x_grad.size)
        return x_grad

    def average_backward(
        self,
        grad: cupy.ndarray,
        a: cupy.ndarray,
        f_a: cupy.ndarray,
        b: cupy.ndarray,
        f_b: cupy.ndarray,
    ) -> cupy.ndarray:
        """Return grad times the divided difference (f(b) - f(a)) / (b - a), f'(a) where a = b.

        Example:
            >>> a, b = cupy.array([-1.0]), cupy.array([3.0])
            >>> relu.average_backward(cupy.array([8.0]), a, relu.forward(a), b, relu.forward(b))
            array([6.])
        """
        x_grad = cupy.empty(a.shape, a.dtype)
        arrays = map(cupy.ascontiguousarray, (grad, a, f_a, b, f_b))
        self._average_backward(over(x_grad.size), *arrays, x_grad, x_grad.size)
        return x_grad

    def forward_biased(
        self, z: cupy.ndarray, bias: cupy.ndarray, in_place: bool = False
    ) -> cupy.ndarray:
        """Add `bias` (n,) to each row of `z` (m, n), in place, and return f of the sum.

        With `in_place`, the result overwrites `z`.

        Example:
            >>> z = cupy.zeros((1, 2))
            >>> relu.forward_biased(z, cupy.array([-1.0, 2.0])), z
            (array([[0., 2.]]), array([[-1.,  2.]]))
        """
        bias = cupy.ascontiguousarray(bias)
        if in_place:
            self._forward_in_place(over_places(z), z, bias, *z.shape)
            return z
        out = cupy.empty(z.shape, z.dtype)
        self._forward_biased(over_places(z), z, bias, out, *z.shape)
        return out

    def backward_biased(
        self, grad: cupy.ndarray, out: cupy.ndarray, sum_out: cupy.ndarray | None = None
    ) -> tuple[cupy.ndarray, cupy.ndarray]:
        """Return grad · f'(z) (m, n) and the sum (n,) of its rows, given out = f(z).

        The sum is written to `sum_out`, if given.

        Example:
            >>> relu.backward_biased(cupy.array([[8.0], [8.0]]), cupy.array([[1.0], [0.0]]))
            (array([[8.],
                   [0.]]), array([8.]))
        """
        return summed(self._backward_biased, sum_out, grad, out)

    def average_backward_biased(
        self,
        grad: cupy.ndarray,
        a: cupy.ndarray,
        f_a: cupy.ndarray,
        b: cupy.ndarray,
        f_b: cupy.ndarray,
        sum_out: cupy.ndarray | None = None,
    ) -> tuple[cupy.ndarray, cupy.ndarray]:
        """Return the result of `average_backward` (m, n) and the sum (n,) of its rows.

        The sum is written to `sum_out`, if given.

        Example:
            >>> a, b = cupy.array([[-1.0]]), cupy.array([[3.0]])
            >>> f_a, f_b = relu.forward(a), relu.forward(b)
            >>> relu.average_backward_biased(cupy.array([[8.0]]), a, f_a, b, f_b)
            (array([[6.]]), array([6.]))
        """
        return summed(self._average_backward_biased, sum_out, grad, a, f_a, b, f_b)


relu = Activation("relu")
tanh = Activation("tanh")
