"""Gradients as Tensors, which may have a graph of their own, and what follows from them.

The sweep of `grad` visits only the nodes between the outputs and the inputs. With `create_graph` it
calls each operation's `recorded_backward` on Tensors in place of `backward` on arrays. So the graph
of a gradient consists of ordinary operations, and has gradients and average gradients like any
other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from agrad.backend import Array, as_array, beside
from agrad.core.anomaly import check_gradients, recorded_at
from agrad.core.context import enable_grad, recorder, remembering_choices
from agrad.core.program import Node, topological_order
from agrad.core.tensor import Tensor, apply, as_tensor, plain, recorded
from agrad.errors import CaptureError
from agrad.gpu import cuda
from agrad.ops.sums import unbroadcast

__all__ = ["grad", "hessian", "hvp", "jacobian", "jvp"]

Tensors = Tensor | Sequence[Tensor]


def grad(
    outputs: Tensors,
    inputs: Tensors,
    grad_outputs: Any = None,
    *,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Any, ...]:
    """Return the gradients of `outputs` with respect to `inputs`, as torch.autograd.grad does.

    No `.grad` changes. With `create_graph`, the gradients are recorded, so that a function of them
    can be differentiated again: for a penalty on the gradient, a differential equation, or
    derivatives of any order. They have average gradients as well.

    Args:
        outputs: A Tensor or several, whose gradients are added.
        inputs: A Tensor or several in their graph, leaves or results.
        grad_outputs: The gradient with respect to each output, of its shape; or None, for all
            outputs or for one of them, which means 1 and requires an output of a single element.
            With `create_graph`, the result can be differentiated with respect to them, too.
        retain_graph: Whether to keep the graph's buffers for another sweep; by default, the value
            of `create_graph`.
        create_graph: Whether to record the gradients, even inside `no_grad`.
        allow_unused: Whether the outputs may be independent of an input; its gradient is None.

    Returns:
        A tuple with a Tensor for each input, of its shape and dtype.

    Raises:
        ValueError: There are no inputs; an output or an input requires no gradient; an output has
            several elements and no gradient, or one of another shape; the outputs are independent
            of an input; an earlier sweep freed the graph (`FreedGraphError`).
        TypeError: An output or an input is not a Tensor.
        HigherDerivativeError: With `create_graph`, the backward pass of an operation cannot be
            recorded.
        CaptureError: In a function being captured.

    Example:
        >>> import agrad as ag
        >>> x = ag.tensor(2.0, requires_grad=True)
        >>> (slope,) = ag.grad(x**3, x, create_graph=True)
        >>> slope
        tensor(12., requires_grad=True)
        >>> ag.grad(slope, x)
        (tensor(12.),)
    """
    return _gradients(
        "grad",
        _several("grad", "outputs", outputs),
        _several("grad", "inputs", inputs),
        grad_outputs,
        create_graph if retain_graph is None else retain_graph,
        create_graph,
        allow_unused,
    )


def hvp(
    loss: Tensor,
    params: Tensors,
    vectors: Any,
    *,
    retain_graph: bool = False,
    create_graph: bool = False,
) -> tuple[Tensor, ...]:
    """Return the product of the Hessian of a loss with a vector, without forming the Hessian.

    It is the gradient of ⟨∇L, v⟩, by two sweeps (Pearlmutter, "Fast exact multiplication by the
    Hessian", 1994).

    Args:
        loss: A Tensor of a single element, as `backward` takes it.
        params: A Tensor or several in its graph.
        vectors: v: for each of `params` an array or a Tensor of its shape.
        retain_graph: Whether to keep the graph's buffers, for another product or for `backward`.
        create_graph: Whether to record the product, so that it can be differentiated.

    Returns:
        A tuple with a Tensor for each of `params`, of its shape and dtype.

    Raises:
        ValueError, TypeError, HigherDerivativeError, CaptureError: As for `grad`.

    Example:
        >>> import agrad as ag
        >>> x = ag.tensor([1.0, 2.0], requires_grad=True)
        >>> ag.hvp((x**3).sum(), x, [1.0, -1.0])
        (tensor([  6., -12.]),)
    """
    params = _several("hvp", "params", params)
    vectors = _matching("hvp", "vectors", vectors, "params", params)
    _require_shapes("hvp", "vectors", vectors, "params", params)
    found = _gradients("hvp", _several("hvp", "loss", loss), params, None, True, True, False)
    return _pulled("hvp", found, params, vectors, retain_graph or create_graph, create_graph)


def jvp(function: Callable[..., Tensor], primals: Any, tangents: Any) -> tuple[Tensor, Tensor]:
    """Return a function's value, and the product of its Jacobian with a vector, as jax.jvp does.

    It sweeps back twice, the second time through the first sweep, which is linear in the gradient
    that it pulls back.

    Args:
        function: Takes a Tensor for each of `primals`, and returns a Tensor.
        primals: Where to evaluate the function: a tuple with an array or a Tensor for each of its
            arguments. Anything but a tuple is taken as the only argument.
        tangents: The vector, of the same form: for each of `primals` an array or a Tensor of its
            shape.

    Returns:
        The value, and the derivative of the function along the tangents: two Tensors of one shape,
        outside any graph.

    Raises:
        ValueError: A tangent and its primal differ in shape, or tangents and primals in number.
        TypeError: The function does not return a Tensor; a primal is neither float32 nor float64.
        HigherDerivativeError: The backward pass of an operation cannot be recorded.

    Example:
        >>> import agrad as ag
        >>> ag.jvp(lambda x, y: x * y, ([1.0, 2.0], [3.0, 4.0]), ([1.0, 0.0], [0.0, 1.0]))
        (tensor([3., 8.]), tensor([3., 2.]))
    """
    if not isinstance(primals, tuple):
        primals, tangents = (primals,), (tangents,)
    leaves = [_leaf("jvp", f"primals[{i}]", primal) for i, primal in enumerate(primals)]
    tangents = _matching("jvp", "tangents", tangents, "primals", leaves)
    _require_shapes("jvp", "tangents", tangents, "primals", leaves)
    out = _value("jvp", function, leaves)
    value = Tensor(out.data)
    if not out.requires_grad:
        return value, Tensor(np.zeros_like(out.data))
    # The first sweep is a linear function of this gradient, at any value of it.
    dummy = Tensor(np.zeros_like(out.data), requires_grad=True)
    found = _gradients("jvp", [out], leaves, [dummy], True, True, True)
    return value, _pulled("jvp", found, [dummy], tangents, False, False)[0]


def jacobian(function: Callable[[Tensor], Tensor], x: ArrayLike | Tensor) -> Tensor:
    """Return the derivatives of a function's elements with respect to those of its argument.

    It takes a sweep for each element of the result, so it is for small problems.

    Args:
        function: Takes a Tensor and returns one.
        x: Where to evaluate it, float32 or float64.

    Returns:
        A Tensor of the shape of the result followed by that of x, outside any graph.

    Raises:
        TypeError: The function does not return a Tensor; x is neither float32 nor float64.

    Example:
        >>> import agrad as ag
        >>> ag.jacobian(lambda x: x[:1] * x, [1.0, 2.0])
        tensor([[2., 0.],
                [2., 1.]])
    """
    return _jacobian("jacobian", function, x)


def hessian(function: Callable[[Tensor], Tensor], x: ArrayLike | Tensor) -> Tensor:
    """Return all second derivatives of a function that returns a single element.

    It takes a sweep for each element of x, so it is for small problems; `hvp` multiplies by the
    Hessian without forming it.

    Args:
        function: Takes a Tensor and returns one of a single element.
        x: Where to evaluate it, float32 or float64.

    Returns:
        A Tensor of the shape of x twice, outside any graph.

    Raises:
        ValueError: The function returns several elements, or does not depend on its argument.
        TypeError: The function does not return a Tensor; x is neither float32 nor float64.
        HigherDerivativeError: The backward pass of an operation cannot be recorded.

    Example:
        >>> import agrad as ag
        >>> ag.hessian(lambda x: x[0] ** 2 * x[1], [1.0, 2.0])
        tensor([[4., 2.],
                [2., 0.]])
    """

    def slope(x: Tensor) -> Tensor:
        value = _value("hessian", function, [x])
        (found,) = _gradients("hessian", [value], [x], None, True, True, False)
        gradient: Tensor = found
        return gradient

    return _jacobian("hessian", slope, x)


def _jacobian(name: str, function: Callable[[Tensor], Tensor], x: Any) -> Tensor:
    leaf = _leaf(name, "x", x)
    out = _value(name, function, [leaf])
    rows = np.zeros((out.size, *leaf.shape), leaf.dtype, like=leaf.data)
    if out.requires_grad:
        for i in range(out.size):
            one = np.zeros_like(out.data, order="C")
            one.reshape(-1)[i] = 1
            (found,) = _gradients(name, [out], [leaf], [one], True, False, True)
            if found is not None:
                rows[i] = found.data
    return Tensor(rows.reshape((*out.shape, *leaf.shape)))


def _pulled(
    name: str,
    gradients: Sequence[Any],
    inputs: Sequence[Tensor],
    vectors: Sequence[Any],
    retain_graph: bool,
    create_graph: bool,
) -> tuple[Tensor, ...]:
    """Return the gradients of Σ⟨gradient, vector⟩, zeros for inputs that do not affect it."""
    pairs = [
        (gradient, vector)
        for gradient, vector in zip(gradients, vectors)
        if gradient is not None and gradient.requires_grad
    ]
    found: tuple[Any, ...] = (None,) * len(inputs)
    if pairs:
        outputs, seeds = zip(*pairs)
        found = _gradients(name, outputs, inputs, seeds, retain_graph, create_graph, True)
    return tuple(
        Tensor(np.zeros_like(x.data)) if product is None else product
        for x, product in zip(inputs, found)
    )


def _gradients(
    name: str,
    outputs: Sequence[Tensor],
    inputs: Sequence[Tensor],
    grad_outputs: Any,
    retain_graph: bool,
    create_graph: bool,
    allow_unused: bool,
) -> tuple[Any, ...]:
    """Return what `grad` does; errors name `name` instead."""
    if recorder.get() is not None:
        raise CaptureError(
            f"capture: the function calls {name}, whose sweep its replays would not repeat; leave "
            "this part uncaptured"
        )
    for argument, tensors in (("outputs", outputs), ("inputs", inputs)):
        for i, tensor in enumerate(tensors):
            if not tensor.requires_grad:
                raise ValueError(
                    f"{name}: {argument}[{i}], of shape {tensor.shape}, requires no gradient; set "
                    "requires_grad=True on a leaf, and compute outside no_grad()"
                )
    if grad_outputs is None:
        grad_outputs = [None] * len(outputs)
    grad_outputs = _matching(name, "grad_outputs", grad_outputs, "outputs", outputs)
    seeds = [
        _seed(name, i, out, value, create_graph)
        for i, (out, value) in enumerate(zip(outputs, grad_outputs))
    ]
    paths = _Paths(outputs, inputs)
    for i, x in enumerate(inputs):
        if not allow_unused and _source(x) not in paths.reached:
            raise ValueError(
                f"{name}: the outputs do not depend on inputs[{i}], of shape {x.shape}; leave it "
                "out, or pass allow_unused=True for None as its gradient"
            )
    try:
        if create_graph:
            with enable_grad(), remembering_choices():
                found = paths.sweep(outputs, seeds, _pull_tensors)
        else:
            arrays = paths.sweep(outputs, [seed.data for seed in seeds], _pull_arrays)
            found = {source: Tensor(array) for source, array in arrays.items()}
    except Exception as error:
        cuda.explain(error)
        raise
    if not retain_graph:
        paths.free()
    return tuple(
        found.get(_source(x), Tensor(np.zeros_like(x.data)))
        if _source(x) in paths.reached
        else None
        for x in inputs
    )


class _Paths:
    """The part of a graph between outputs and inputs.

    Attributes:
        reached: The nodes and leaves that gradients of the outputs reach.
    """

    def __init__(self, outputs: Sequence[Tensor], inputs: Sequence[Tensor]) -> None:
        order: dict[Node, bool] = {}
        for out in outputs:
            if out.node is not None:
                for node, swept in topological_order(out.node).items():
                    order[node] = swept or order.get(node, False)
        self.nodes = sorted((node for node in order if order[node]), key=lambda node: node.depth)
        self.inputs = {_source(x) for x in inputs}
        self.reached = {_source(out) for out in outputs}
        self.needs: dict[Node, tuple[bool, ...]] = {}
        for node in self.nodes:
            self.reached.update(p for p, need in zip(node.parents, node.needs) if need)
            self.needs[node] = tuple(
                need and (parent in self.inputs or True in self.needs.get(parent, ()))
                for parent, need in zip(node.parents, node.needs)
            )

    def sweep(
        self,
        outputs: Sequence[Tensor],
        seeds: Sequence[Any],
        pull: Callable[[Node, Any, tuple[bool, ...]], Iterator[tuple[Any, Any]]],
    ) -> dict[Any, Any]:
        """Return the gradient of each input reached, all as arrays or all as Tensors."""
        grads: dict[Any, Any] = {}

        def add(source: Any, gradient: Any) -> None:
            grads[source] = as_array(grads[source] + gradient) if source in grads else gradient

        for out, seed in zip(outputs, seeds):
            add(_source(out), seed)
        for node in reversed(self.nodes):
            gradient = grads.get(node) if node in self.inputs else grads.pop(node, None)
            if gradient is not None and True in self.needs[node]:
                for source, pulled in pull(node, gradient, self.needs[node]):
                    add(source, pulled)
        return {source: grads[source] for source in self.inputs if source in grads}

    def free(self) -> None:
        """Free all nodes, including those that lead to no input."""
        for node in self.nodes:
            node.free()


def _pull_arrays(node: Node, grad: Array, needs: tuple[bool, ...]) -> Iterator[tuple[Any, Array]]:
    """Yield each input of a node that needs a gradient, with its gradient."""
    found = node.operation.backward(grad, needs, node.out, *node.inputs)
    if recorded_at.get() is not None:
        check_gradients(node.operation, node, needs, node.inputs, grad, found)
    for source, need, x, gradient in zip(node.parents, needs, node.inputs, found, strict=True):
        if need and gradient is not None:
            yield source, unbroadcast(gradient, x)


def _pull_tensors(
    node: Node, grad: Tensor, needs: tuple[bool, ...]
) -> Iterator[tuple[Any, Tensor]]:
    """Like `_pull_arrays`, with a recorded backward pass."""
    arrays = zip(node.parents, node.inputs)
    inputs = [recorded(source, array, node.pins) for source, array in arrays]
    out = recorded(node, node.out, node.pins)
    found = node.operation.recorded_backward(apply, grad, needs, out, *inputs)
    for source, need, x, gradient in zip(node.parents, needs, inputs, found, strict=True):
        if need and gradient is not None:
            fitting: Any = unbroadcast(gradient, x)  # type: ignore[arg-type]
            yield source, fitting


def _source(tensor: Tensor) -> Any:
    return tensor.node or tensor


def _seed(name: str, i: int, out: Tensor, value: Any, create_graph: bool) -> Tensor:
    """Return the gradient of an output, in the output's dtype and in its own memory."""
    if value is None:
        out.require_scalar(name, "pass grad_outputs, or reduce it with sum() or mean()")
        return Tensor(np.ones_like(out.data))
    argument = f"grad_outputs[{i}]"
    if np.shape(value) != out.shape:
        raise ValueError(
            f"{name}: {argument} has shape {np.shape(value)}, its output has shape {out.shape}"
        )
    array = beside(name, argument, plain(value), out.data, out.dtype)
    if create_graph and isinstance(value, Tensor) and value.requires_grad:
        return value.astype(out.dtype)
    return Tensor(array)


def _leaf(name: str, argument: str, value: Any) -> Tensor:
    """Return a new leaf with a copy of the values."""
    leaf = Tensor(as_tensor(value))
    if leaf.dtype not in (np.float32, np.float64):
        raise TypeError(f"{name}: {argument} has dtype {leaf.dtype}, not float32 or float64")
    leaf.requires_grad = True
    return leaf


def _value(name: str, function: Callable[..., Tensor], leaves: Sequence[Tensor]) -> Tensor:
    with enable_grad():
        out = function(*leaves)
    if not isinstance(out, Tensor):
        raise TypeError(f"{name}: function returned a {type(out).__name__}, not a Tensor")
    return out


def _several(name: str, argument: str, value: Any) -> list[Tensor]:
    """Return a Tensor or a sequence of Tensors as a list."""
    alone = isinstance(value, Tensor) or not isinstance(value, Iterable)
    tensors = [value] if alone else list(value)
    if not tensors:
        raise ValueError(f"{name}: {argument} is empty")
    for i, tensor in enumerate(tensors):
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name}: {argument}[{i}] is a {type(tensor).__name__}, not a Tensor")
    return tensors


def _matching(
    name: str, argument: str, values: Any, others: str, tensors: Sequence[Tensor]
) -> list[Any]:
    """Return one value for each Tensor; for a single Tensor, `values` may be the value itself."""
    several = isinstance(values, list | tuple)
    if len(tensors) == 1 and not (several and _is_wrapped(values, tensors[0])):
        return [values]
    if not several or len(values) != len(tensors):
        raise ValueError(
            f"{name}: {argument} must be a sequence with one part for each of the {len(tensors)} "
            f"{others}, got {len(values) if several else 'a ' + type(values).__name__}"
        )
    return list(values)


def _is_wrapped(values: Sequence[Any], tensor: Tensor) -> bool:
    """Return whether a sequence holds a value for a Tensor, rather than the value's elements."""
    if any(value is None or isinstance(value, Tensor) for value in values):
        return True
    return len(values) == 1 and np.ndim(values[0]) == tensor.ndim


def _require_shapes(
    name: str, argument: str, values: Sequence[Any], others: str, tensors: Sequence[Tensor]
) -> None:
    for i, (value, tensor) in enumerate(zip(values, tensors)):
        if np.shape(value) != tensor.shape:
            raise ValueError(
                f"{name}: {argument}[{i}] has shape {np.shape(value)}, {others}[{i}] has shape "
                f"{tensor.shape}"
            )
