"""Averages of activations with one formula below zero and another above.

`agrad.kernels.cpu.piecewise` explains the formulas.

    >>> elu_divided_difference(cupy.array([-1.0]), cupy.array([1.0]), 1.0)
    array([0.81606028])
"""

import cupy

from .launch import divided_difference, of_pairs

__all__ = [
    "elu_divided_difference",
    "leaky_relu_divided_difference",
    "selu_divided_difference",
    "softsign_divided_difference",
]

_elu_divided_difference = divided_difference("elu", "piecewise.cu", 1)
_leaky_relu_divided_difference = divided_difference("leaky_relu", "piecewise.cu", 1)
_selu_divided_difference = divided_difference("selu", "piecewise.cu")
_softsign_divided_difference = divided_difference("softsign", "piecewise.cu")


def leaky_relu_divided_difference(
    a: cupy.ndarray, b: cupy.ndarray, negative_slope: float
) -> cupy.ndarray:
    """Divided difference of x above zero and s x below, s being `negative_slope`."""
    return of_pairs(_leaky_relu_divided_difference, a, b, negative_slope)


def elu_divided_difference(a: cupy.ndarray, b: cupy.ndarray, alpha: float) -> cupy.ndarray:
    """Divided difference of x above zero and alpha (e^x - 1) below."""
    return of_pairs(_elu_divided_difference, a, b, alpha)


def selu_divided_difference(a: cupy.ndarray, b: cupy.ndarray) -> cupy.ndarray:
    """Divided difference of SELU (Klambauer et al., 2017)."""
    return of_pairs(_selu_divided_difference, a, b)


def softsign_divided_difference(a: cupy.ndarray, b: cupy.ndarray) -> cupy.ndarray:
    """Divided difference of x / (1 + |x|)."""
    return of_pairs(_softsign_divided_difference, a, b)
