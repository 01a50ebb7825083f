"""Which parts of an input made an output differ from that of a baseline."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from agrad.backend import Array, beside
from agrad.core.average import average_gradient
from agrad.core.context import enable_grad
from agrad.core.program import Program
from agrad.core.tensor import Tensor, as_tensor, averages_along, plain, tensor
from agrad.errors import NonFiniteError
from agrad.functions import take_along_axis
from agrad.nn.modes import evaluating
from agrad.nn.module import Module

__all__ = ["attribute"]


def attribute(
    model: Callable[[Tensor], Tensor],
    x: ArrayLike | Tensor,
    baseline: ArrayLike | Tensor = 0.0,
    *,
    method: Literal["factorized", "integrated"] = "factorized",
    target: ArrayLike | Tensor | None = None,
) -> Array:
    """Return how much each element of `x` contributes to the change of an output from a baseline.

    The input moves from the baseline to `x`, while the parameters stay fixed. The attributions are
    the products of the input's average gradient with its change. The factorized average makes them
    sum, for each example, to the change of the output, exactly up to rounding. On dense layers with
    activations, it is DeepLIFT's rescale rule (Shrikumar et al., 2017). The integrated one is
    integrated gradients (Sundararajan et al., 2017), by the quadrature of `average_gradient`, whose
    tolerance holds for all examples together; so their sums are approximate. Both change sign if
    `x` and the baseline are swapped.

    The model must compute the examples of a batch independently of each other. Meanwhile a Module
    is in evaluation mode. No `.grad` or `.average_grad` changes.

    Args:
        model: A Module or any function of a Tensor of shape (N, …) that returns a Tensor of shape
            (N,) or (N, C), computed by agrad's operations.
        x: N examples, of shape (N, …) and a floating dtype.
        baseline: Where the path starts: an array that broadcasts to the shape of `x`.
        method: "factorized", for two forward passes and one sweep; or "integrated", for 15 forward
            and backward passes or more.
        target: Which of the C outputs to explain: an integer, or N of them, one for each example.
            None if there is a single output.

    Returns:
        The attributions, an array of the shape, dtype and device of `x`.

    Raises:
        ValueError: `x` has no axis of examples; the baseline does not broadcast to its shape; the
            method is unknown; the output has another shape, or does not depend on `x`; `target` is
            missing, out of range, or has another shape.
        TypeError: `x` holds no floating-point numbers, the baseline no real numbers, or `target` no
            integers; the model does not return a Tensor.
        DeviceError: The baseline or the target is on another device than `x`.
        AverageUndefinedError: With the factorized method, an operation has no kind.
        ChoiceChangedError: With the factorized method, a comparison in the model has another
            outcome for `x` than for the baseline.
        NonFiniteError: An output or an attribution is NaN or infinite.

    Example:
        >>> import agrad as ag
        >>> def product(x):
        ...     return x[:, 0] * x[:, 1] ** 2
        >>> ag.attribute(product, [[1.0, 2.0]])
        array([[2., 2.]], dtype=float32)
        >>> ag.attribute(product, [[1.0, 2.0]], method="integrated").round(4)
        array([[1.3333, 2.6667]], dtype=float32)
    """
    if method not in ("factorized", "integrated"):
        raise ValueError(f'attribute: method must be "factorized" or "integrated", got {method!r}')
    end = as_tensor(x).data
    if end.dtype.kind != "f":
        raise TypeError(f"attribute: x has dtype {end.dtype}; it must hold floating-point numbers")
    if end.ndim == 0:
        raise ValueError("attribute: x has shape (); its first axis must be that of the examples")
    start = beside("attribute", "baseline", plain(baseline), end)
    try:
        start = np.broadcast_to(start.astype(end.dtype), end.shape)
    except ValueError:
        raise ValueError(
            f"attribute: baseline has shape {start.shape}, which does not broadcast to that of x, "
            f"{end.shape}"
        ) from None
    leaf = tensor(start, requires_grad=True)
    update = end - start

    def output() -> Tensor:
        return _explained(model(leaf), target, len(end))

    with ExitStack() as stack:
        if isinstance(model, Module):
            stack.enter_context(evaluating(model))
        stack.enter_context(enable_grad())
        total = output()
        if total.node is None or leaf not in Program(total.node).leaves:
            raise ValueError(
                f"attribute: the output of the model does not depend on x, of shape {end.shape}; "
                "compute it from the Tensor that the model is given"
            )
        if method == "factorized":
            average = averages_along(total, {leaf: update})[1][leaf]
        else:
            average = average_gradient(output, leaf, {leaf: update})[leaf]
    attributions: Array = average * update
    if not np.isfinite(attributions).all():
        raise NonFiniteError(
            f"attribute: the attributions, of shape {end.shape}, have NaN or infinity"
        )
    return attributions


def _explained(output: Any, target: Any, examples: int) -> Tensor:
    """Return the sum over the examples of the output that `target` selects."""
    if not isinstance(output, Tensor):
        raise TypeError(f"attribute: the model returned a {type(output).__name__}, not a Tensor")
    if output.ndim not in (1, 2) or output.shape[0] != examples:
        raise ValueError(
            f"attribute: the model returned shape {output.shape} for {examples} examples; it must "
            f"be ({examples},) or ({examples}, outputs)"
        )
    outputs = output.shape[1] if output.ndim == 2 else 1
    if target is None:
        if outputs != 1:
            raise ValueError(
                f"attribute: the model returned shape {output.shape}; target must say which of the "
                f"{outputs} outputs to explain"
            )
        return output.sum()
    chosen = beside("attribute", "target", plain(target), output.data)
    if chosen.dtype.kind not in "iu":
        raise TypeError(f"attribute: target has dtype {chosen.dtype}; it must hold integers")
    if chosen.shape not in ((), (examples,)):
        raise ValueError(
            f"attribute: target has shape {chosen.shape}; it must be () or ({examples},)"
        )
    if ((chosen < 0) | (chosen >= outputs)).any():
        raise ValueError(
            f"attribute: target must be from 0 to {outputs - 1} for outputs of shape "
            f"{output.shape}, got {chosen.min()} to {chosen.max()}"
        )
    places = np.broadcast_to(chosen.reshape(-1, 1), (examples, 1))
    return take_along_axis(output.reshape(examples, outputs), places, axis=1).sum()
