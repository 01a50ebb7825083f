"""Wrong input: each error names the operation, the argument and the fault.

An error changes nothing: gradients stay as they were, and graphs can still be swept.
"""

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import agrad as ag
import agrad.nn.functional as F

rng = np.random.default_rng(0)
x23 = ag.tensor(rng.normal(size=(2, 3)), requires_grad=True)
x34 = ag.tensor(rng.normal(size=(3, 4)), requires_grad=True)
x4 = ag.tensor(rng.normal(size=4), requires_grad=True)
x45 = ag.tensor(rng.normal(size=(2, 4, 5, 5)))
w45 = ag.tensor(rng.normal(size=(6, 4, 3, 3)))
integers = ag.tensor([1, 2])
half = ag.tensor([1.0, 2.0], dtype=np.float16)

# The call, the error, and parts of its message in any order.
OPERATIONS: dict[str, tuple[Callable[[], Any], type[Exception], list[str]]] = {
    "add": (lambda: x23 + x34, ValueError, ["(2,3)", "(3,4)"]),
    "power": (lambda: x23 ** ag.tensor(np.ones((3, 3))), ValueError, ["(2,3)", "(3,3)"]),
    "maximum": (lambda: ag.maximum(x23, x34), ValueError, ["(2,3)", "(3,4)"]),
    "where": (lambda: ag.where(np.ones(5, bool), x23, x23), ValueError, ["(5,)", "(2,3)"]),
    "matmul": (lambda: x23 @ x23, ValueError, ["matmul", "(2,3)"]),
    "matmul 0-d": (lambda: ag.matmul(x23, 2.0), ValueError, ["matmul", "()"]),
    "einsum": (lambda: ag.einsum("ij,jk->ik", x23, x23), ValueError, ["einsum"]),
    "einsum operands": (lambda: ag.einsum("ij,jk->ik", x23), ValueError, ["einsum"]),
    "linear features": (lambda: F.linear(x23, x34), ValueError, ["linear", "(2,3)", "(3,4)"]),
    "linear bias": (lambda: F.linear(x23, x23, x4), ValueError, ["linear", "bias", "(4,)", "(2,)"]),
    "linear weight": (lambda: F.linear(x23, x4), ValueError, ["linear", "weight", "(4,)"]),
    "sum axis": (lambda: x23.sum(2), ValueError, ["2"]),
    "mean axis": (lambda: x23.mean((0, 5)), ValueError, ["5"]),
    "max of nothing": (lambda: x23[:0].max(), ValueError, ["Max", "(0,3)"]),
    "var ddof": (lambda: x23.var(0, ddof=2), ValueError, ["Var", "ddof=2"]),
    "reshape": (lambda: x23.reshape(4, 2), ValueError, ["(2,3)", "(4,2)"]),
    "transpose": (lambda: x23.transpose(0, 0), ValueError, ["ranspose"]),
    "broadcast_to": (lambda: ag.broadcast_to(x23, (2, 4)), ValueError, ["(2,3)", "(2,4)"]),
    "concatenate": (lambda: ag.concatenate([x23, x34], 0), ValueError, ["oncat", "3", "4"]),
    "stack": (lambda: ag.stack([x23, x34]), ValueError, ["tack", "shape"]),
    "index": (lambda: x23[5], IndexError, ["5"]),
    "index axes": (lambda: x23[0, 0, 0], IndexError, ["indices"]),
    "softmax dim": (lambda: F.softmax(x23, 2), ValueError, ["Softmax", "2"]),
    "softmax dtype": (lambda: F.softmax(integers, 0), TypeError, ["softmax", "int64"]),
    "softmax of half precision": (lambda: F.softmax(half, 0), TypeError, ["softmax", "float16"]),
    "log_softmax of half precision": (
        lambda: F.log_softmax(half, 0),
        TypeError,
        ["log_softmax", "float16", "astype"],
    ),
    "nll_loss of half precision": (
        lambda: F.nll_loss(half, 0),
        TypeError,
        ["nll_loss", "input", "float16"],
    ),
    "embedding of half precision": (
        lambda: F.embedding([0], half.reshape(1, 2)),
        TypeError,
        ["embedding", "weight", "float16"],
    ),
    "label too large": (lambda: F.cross_entropy(x23, [0, 3]), ValueError, ["cross_entropy", "3"]),
    "label negative": (lambda: F.cross_entropy(x23, [0, -1]), ValueError, ["cross_entropy", "-1"]),
    "label count": (
        lambda: F.cross_entropy(x23, [0]),
        ValueError,
        ["cross_entropy", "target", "(1,)", "(2,)"],
    ),
    "label dtype": (
        lambda: F.cross_entropy(x23, np.array([0.0, 1.0])),
        TypeError,
        ["cross_entropy", "target", "float64"],
    ),
    "label smoothing": (
        lambda: F.cross_entropy(x23, [0, 1], label_smoothing=1.5),
        ValueError,
        ["label_smoothing", "1.5"],
    ),
    "reduction": (
        lambda: F.cross_entropy(x23, [0, 1], reduction="avg"),
        ValueError,
        ["reduction", "avg"],
    ),
    "class weight": (
        lambda: F.cross_entropy(x23, [0, 1], weight=[1.0, 2.0]),
        ValueError,
        ["weight", "(2,)", "(3,)"],
    ),
    "target with gradient": (
        lambda: F.cross_entropy(x23, x23),
        ValueError,
        ["cross_entropy", "target", "detach"],
    ),
    "nll label": (lambda: F.nll_loss(x23, [0, 3]), ValueError, ["nll_loss", "3"]),
    "nll weight": (
        lambda: F.nll_loss(x23, [0, 1], weight=ag.tensor([1.0, 1.0, 1.0], requires_grad=True)),
        ValueError,
        ["nll_loss", "weight", "detach"],
    ),
    "mse shapes": (lambda: F.mse_loss(x23, x23[0]), ValueError, ["mse_loss", "(3,)", "(2,3)"]),
    "bce shapes": (
        lambda: F.binary_cross_entropy_with_logits(x23, np.ones(3)),
        ValueError,
        ["binary_cross_entropy_with_logits", "target", "(3,)", "(2,3)"],
    ),
    "layer_norm": (lambda: F.layer_norm(x23, 4), ValueError, ["layer_norm", "4"]),
    "layer_norm weight": (
        lambda: F.layer_norm(x23, 3, np.ones(4)),
        ValueError,
        ["layer_norm", "weight", "(4,)", "(3,)"],
    ),
    "embedding id": (
        lambda: F.embedding([0, 2], x23),
        ValueError,
        ["embedding", "input", "2", "0 to 1"],
    ),
    "embedding negative id": (
        lambda: F.embedding([[-1]], x23),
        ValueError,
        ["embedding", "input", "-1"],
    ),
    "embedding dtype": (
        lambda: F.embedding([0.0, 1.0], x23),
        TypeError,
        ["embedding", "input", "integer", "float64", "(2,)"],
    ),
    "embedding of booleans": (
        lambda: F.embedding([True], x23),
        TypeError,
        ["embedding", "input", "bool"],
    ),
    "embedding weight": (lambda: F.embedding([0], x4), ValueError, ["embedding", "weight", "(4,)"]),
    "embedding weight dtype": (
        lambda: F.embedding([0], [[1, 2]]),
        TypeError,
        ["embedding", "weight", "int64"],
    ),
    "embedding padding": (
        lambda: F.embedding([0], x23, padding_idx=2),
        ValueError,
        ["embedding", "padding_idx", "2", "0 to 1"],
    ),
    "pool axes": (
        lambda: F.global_max_pool1d(x4),
        ValueError,
        ["global_max_pool1d", "input", "(4,)"],
    ),
    "pool of no position": (
        lambda: F.global_avg_pool1d(x23[:, :0]),
        ValueError,
        ["global_avg_pool1d", "input", "(2,0)"],
    ),
    "pool dtype": (
        lambda: F.global_max_pool1d([[1, 2]]),
        TypeError,
        ["global_max_pool1d", "input", "int64"],
    ),
    "pool mask shape": (
        lambda: F.global_avg_pool1d(x23, np.ones((2, 3), bool)),
        ValueError,
        ["global_avg_pool1d", "mask", "(3,)", "(2,3)"],
    ),
    "pool mask dtype": (
        lambda: F.global_max_pool1d(x23, [1, 1, 0]),
        TypeError,
        ["global_max_pool1d", "mask", "int64"],
    ),
    "pool mask of nothing": (
        lambda: F.global_max_pool1d(
            ag.tensor(np.ones((2, 1, 2))), np.array([[True, False], [False, False]])
        ),
        ValueError,
        ["global_max_pool1d", "mask", "sequence 1"],
    ),
    "conv2d axes": (lambda: F.conv2d(x23, w45), ValueError, ["conv2d", "input", "(2,3)"]),
    "conv2d weight": (lambda: F.conv2d(x45, x23), ValueError, ["conv2d", "weight", "(2,3)"]),
    "conv2d channels": (
        lambda: F.conv2d(x45[:, :3], w45),
        ValueError,
        ["conv2d", "(2,3,5,5)", "(6,4,3,3)"],
    ),
    "conv2d groups": (lambda: F.conv2d(x45, w45, groups=4), ValueError, ["groups=4", "(6,4,3,3)"]),
    "conv2d groups 0": (lambda: F.conv2d(x45, w45, groups=0), ValueError, ["groups", "0"]),
    "conv2d bias": (lambda: F.conv2d(x45, w45, x4), ValueError, ["conv2d", "bias", "(4,)", "(6,)"]),
    "conv2d stride": (lambda: F.conv2d(x45, w45, stride=0), ValueError, ["conv2d", "stride", "0"]),
    "conv2d strides": (
        lambda: F.conv2d(x45, w45, stride=(1, 1, 1)),
        ValueError,
        ["conv2d", "stride", "(1,1,1)"],
    ),
    "conv2d padding": (lambda: F.conv2d(x45, w45, padding=-1), ValueError, ["padding", "-1"]),
    "conv2d padding's name": (
        lambda: F.conv2d(x45, w45, padding="full"),
        ValueError,
        ["conv2d", "padding", "full"],
    ),
    "conv2d same": (
        lambda: F.conv2d(x45, w45, padding="same", stride=2),
        ValueError,
        ["conv2d", "same", "stride=(2,2)"],
    ),
    "conv2d dilation": (
        lambda: F.conv2d(x45, w45, dilation=3),
        ValueError,
        ["conv2d", "kernel", "(2,4,5,5)", "dilation=(3,3)"],
    ),
    "conv2d dtype": (lambda: F.conv2d(np.ones((1, 4, 5, 5), int), w45), TypeError, ["int64"]),
    "conv3d axes": (
        lambda: F.conv3d(x23, np.ones((2, 2, 1, 1, 1))),
        ValueError,
        ["conv3d", "input", "(N,C,D,H,W)", "(2,3)"],
    ),
    "conv3d kernel": (
        lambda: F.conv3d(x45[:, :, np.newaxis], np.ones((6, 4, 2, 3, 3))),
        ValueError,
        ["conv3d", "(2,3,3)", "(2,4,1,5,5)"],
    ),
    "conv3d strides": (
        lambda: F.conv3d(x45[:, :, np.newaxis], np.ones((6, 4, 1, 3, 3)), stride=(1, 1)),
        ValueError,
        ["conv3d", "stride", "3 of them", "(1,1)"],
    ),
    "conv_transpose2d channels": (
        lambda: F.conv_transpose2d(x45, w45),
        ValueError,
        ["conv_transpose2d", "(2,4,5,5)", "(6,4,3,3)"],
    ),
    "conv_transpose2d output_padding": (
        lambda: F.conv_transpose2d(x45, w45.transpose(1, 0, 2, 3), output_padding=1),
        ValueError,
        ["conv_transpose2d", "output_padding=1", "stride"],
    ),
    "conv_transpose1d padding": (
        lambda: F.conv_transpose1d(x45[:, :, 0], w45[:4, :, 0], padding=4),
        ValueError,
        ["conv_transpose1d", "padding=(4,)", "(2,4,5)"],
    ),
    "max_pool2d window": (
        lambda: F.max_pool2d(x45, 6),
        ValueError,
        ["max_pool2d", "kernel_size=(6,6)", "(2,4,5,5)"],
    ),
    "max_pool1d padding": (
        lambda: F.max_pool1d(x45[0], 3, padding=2),
        ValueError,
        ["max_pool1d", "padding=2", "half"],
    ),
    "max_pool3d window": (
        lambda: F.max_pool3d(x45, (5, 1, 2)),
        ValueError,
        ["max_pool3d", "kernel_size=(5,1,2)", "(1,2,4,5,5)"],
    ),
    "adaptive_avg_pool3d size": (
        lambda: F.adaptive_avg_pool3d(x45, (1, 2)),
        ValueError,
        ["adaptive_avg_pool3d", "output_size", "(1,2)"],
    ),
    "max_pool2d axes": (lambda: F.max_pool2d(x4, 2), ValueError, ["max_pool2d", "(4,)"]),
    "avg_pool2d divisor": (
        lambda: F.avg_pool2d(x45, 2, divisor_override=0),
        ValueError,
        ["avg_pool2d", "divisor_override", "0"],
    ),
    "adaptive_avg_pool1d size": (
        lambda: F.adaptive_avg_pool1d(x45[0], 0),
        ValueError,
        ["adaptive_avg_pool1d", "output_size", "0"],
    ),
    "batch_norm channels": (
        lambda: F.batch_norm(x23, None, None, np.ones(2), training=True),
        ValueError,
        ["batch_norm", "weight", "(2,)", "(3,)"],
    ),
    "batch_norm in use": (
        lambda: F.batch_norm(x23, None, None),
        ValueError,
        ["batch_norm", "running_mean"],
    ),
    "batch_norm without a running mean": (
        lambda: F.batch_norm(x23, None, ag.tensor(np.ones(3))),
        ValueError,
        ["batch_norm", "running_mean"],
    ),
    "batch_norm without a running variance": (
        lambda: F.batch_norm(x23, ag.tensor(np.ones(3)), None),
        ValueError,
        ["batch_norm", "running_var"],
    ),
    "dropout": (lambda: F.dropout(x23, 1.5), ValueError, ["dropout", "1.5"]),
    "clip bound": (lambda: x23.clip(x23, None), TypeError, ["clip"]),
    "strings": (lambda: ag.tensor(["a"]), TypeError, ["tensor", "<U1"]),
    "complex": (lambda: ag.tensor([1j]), TypeError, ["tensor", "complex128"]),
    "ragged": (lambda: ag.tensor([[1.0], [1.0, 2.0]]), ValueError, ["inhomogeneous"]),
    "integer gradient": (
        lambda: ag.tensor([1, 2], requires_grad=True),
        TypeError,
        ["requires_grad", "int64"],
    ),
    "half gradient": (
        lambda: ag.tensor([1.0], dtype=np.float16, requires_grad=True),
        TypeError,
        ["requires_grad", "float16"],
    ),
    "item": (lambda: x23.item(), ValueError, ["1"]),
    "data shape": (
        lambda: setattr(x23, "data", np.zeros(3)),
        ValueError,
        ["data", "(3,)", "(2,3)"],
    ),
    "data of a result": (lambda: setattr(x23 + 1, "data", np.zeros((2, 3))), ValueError, ["leaf"]),
    "result off": (lambda: setattr(x23 + 1, "requires_grad", False), ValueError, ["detach"]),
}


def refusal(call: Callable[[], Any], expected: type[Exception]) -> str:
    """Return the message of the error that `call` raises, and drop the error.

    Its traceback would keep the frames of the failed call, and the pins on its inputs, alive.
    """
    try:
        call()
    except expected as error:
        return squeezed("\n".join([str(error), *getattr(error, "__notes__", [])]))
    pytest.fail(f"no {expected.__name__} was raised")


def squeezed(text: str) -> str:
    return re.sub(r"\s", "", text).lower()


@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_refuses(name: str) -> None:
    call, error, parts = OPERATIONS[name]
    before = [(t.data.copy(), t.requires_grad) for t in (x23, x34, x4)]
    message = refusal(call, error)
    for part in parts:
        spelled = part, part.replace("(", "[").replace(",)", "]").replace(")", "]")
        assert any(squeezed(p) in message for p in spelled), message
    for tensor, (data, requires_grad) in zip((x23, x34, x4), before, strict=True):
        np.testing.assert_array_equal(tensor.data, data)
        assert tensor.requires_grad == requires_grad
        assert tensor.data.flags.writeable  # no pin of a failed recording is left
        assert tensor.grad is None


# -- sweeps --------------------------------------------------------------------------------------


class Graph:
    """A loss that can still be swept after each refusal."""

    def __init__(self) -> None:
        self.x = ag.tensor(np.array([1.0, 2.0]), requires_grad=True)
        self.values = self.x * self.x
        self.loss = self.values.sum()
        self.constant = ag.tensor([1.0, 2.0])
        self.stranger = ag.tensor(np.array([1.0, 2.0]), requires_grad=True)


SWEEPS: dict[str, tuple[Callable[[Graph], Any], type[Exception], list[str]]] = {
    "several elements": (lambda g: g.values.backward(), ValueError, ["backward", "(2,)", "sum()"]),
    "cotangent shape": (
        lambda g: g.values.backward(np.ones(3)),
        ValueError,
        ["backward", "grad", "(3,)", "(2,)"],
    ),
    "no gradient": (
        lambda g: g.constant.sum().backward(),
        ValueError,
        ["backward", "requires_grad=True"],
    ),
    "average of several": (
        lambda g: g.values.average_backward({g.x: [1.0, 1.0]}),
        ValueError,
        ["average_backward", "(2,)"],
    ),
    "average of a constant": (
        lambda g: g.constant.sum().average_backward({}),
        ValueError,
        ["average_backward", "requires_grad=True"],
    ),
    "average of a leaf": (
        lambda g: ag.tensor(1.0, requires_grad=True).average_backward({}),
        ValueError,
        ["average_backward", "leaf"],
    ),
    "update for a stranger": (
        lambda g: g.loss.average_backward({g.x: [1.0, 1.0], g.stranger: [1.0, 1.0]}),
        ValueError,
        ["average_backward", "update 1", "(2,)", "not in the graph"],
    ),
    "update for a result": (
        lambda g: g.loss.average_backward({g.values: [1.0, 1.0]}),
        ValueError,
        ["average_backward", "update 0", "leaf"],
    ),
    "update shape": (
        lambda g: g.loss.average_backward({g.x: [1.0, 1.0, 1.0]}),
        ValueError,
        ["average_backward", "update 0", "(3,)", "(2,)"],
    ),
    "update that would broadcast": (
        lambda g: g.loss.average_backward({g.x: 1.0}),
        ValueError,
        ["average_backward", "update 0", "()", "(2,)"],
    ),
    "update dtype": (
        lambda g: g.loss.average_backward({g.x: ["a", "b"]}),
        TypeError,
        ["average_backward", "update 0", "<U1"],
    ),
    "update for no tensor": (
        lambda g: g.loss.average_backward({"w": [1.0, 1.0]}),
        TypeError,
        ["average_backward", "update 0", "str"],
    ),
    "segments 0": (
        lambda g: g.loss.average_backward({g.x: [1.0, 1.0]}, segments=0),
        ValueError,
        ["average_backward", "segments", "0"],
    ),
    "segments -1": (
        lambda g: g.loss.average_backward({g.x: [1.0, 1.0]}, segments=-1),
        ValueError,
        ["segments", "-1"],
    ),
    "segments 1.5": (
        lambda g: g.loss.average_backward({g.x: [1.0, 1.0]}, segments=1.5),
        ValueError,
        ["average_backward", "segments", "1.5"],
    ),
    "quadrature nodes": (
        lambda g: ag.average_gradient(lambda: (g.x * g.x).sum(), [g.x], {}, nodes=0),
        ValueError,
        ["nodes", "0"],
    ),
    "quadrature loss": (
        lambda g: ag.average_gradient(lambda: g.x * g.x, [g.x], {}),
        ValueError,
        ["average_gradient", "(2,)"],
    ),
    "quadrature of a number": (
        lambda g: ag.average_gradient(lambda: 1.0, [g.x], {}),
        TypeError,
        ["average_gradient", "float"],
    ),
    "quadrature of another loss": (
        lambda g: ag.average_gradient(lambda: (g.stranger * 2.0).sum(), [g.x], {}),
        ValueError,
        ["average_gradient", "params[0]", "(2,)"],
    ),
    "quadrature by a constant": (
        lambda g: ag.average_gradient(lambda: g.loss, [g.constant], {}),
        ValueError,
        ["average_gradient", "params[0]", "requires no gradient"],
    ),
    "quadrature by a result": (
        lambda g: ag.average_gradient(lambda: g.loss, [g.values], {}),
        ValueError,
        ["average_gradient", "params[0]", "leaf"],
    ),
    "quadrature by an array": (
        lambda g: ag.average_gradient(lambda: g.loss, [np.ones(2)], {}),
        TypeError,
        ["average_gradient", "params[0]", "ndarray"],
    ),
    "quadrature update": (
        lambda g: ag.average_gradient(lambda: g.loss, [g.x], {g.stranger: [1.0, 1.0]}),
        ValueError,
        ["average_gradient", "update 0", "params"],
    ),
    "quadrature update shape": (
        lambda g: ag.average_gradient(lambda: g.loss, [g.x], {g.x: [1.0]}),
        ValueError,
        ["average_gradient", "update 0", "(1,)", "(2,)"],
    ),
    "quadrature update dtype": (
        lambda g: ag.average_gradient(lambda: g.loss, [g.x], {g.x: [1j, 1j]}),
        TypeError,
        ["average_gradient", "update 0", "complex128"],
    ),
}


@pytest.mark.parametrize("name", SWEEPS)
def test_sweep_refuses(name: str) -> None:
    call, error, parts = SWEEPS[name]
    g = Graph()
    g.loss.backward(retain_graph=True)
    g.loss.average_backward({g.x: [1.0, 1.0]}, retain_graph=True)
    grads = g.x.grad, g.x.average_grad
    copies = [grad.copy() for grad in grads]
    message = refusal(lambda: call(g), error)
    for part in parts:
        assert squeezed(part) in message, message
    assert g.x.grad is grads[0]
    assert g.x.average_grad is grads[1]
    for grad, copy in zip(grads, copies, strict=True):
        np.testing.assert_array_equal(grad, copy)
    np.testing.assert_array_equal(g.x.data, [1, 2])
    assert g.stranger.grad is g.stranger.average_grad is None
    g.loss.average_backward({g.x: [1.0, 1.0]}, retain_graph=True)
    g.loss.backward()
    np.testing.assert_array_equal(g.x.grad, 2 * copies[0])
    np.testing.assert_array_equal(g.x.average_grad, 2 * copies[1])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_passes_through(value: float) -> None:
    """Sweeps are arithmetic: a NaN reaches the elements that it depends on, and no others."""
    x = ag.tensor(np.array([1.0, value]), requires_grad=True)
    y = ag.tensor(np.array([1.0, 2.0]), requires_grad=True)
    (x * y).sum().backward()
    np.testing.assert_array_equal(x.grad, [1, 2])
    np.testing.assert_array_equal(y.grad, [1, value])
