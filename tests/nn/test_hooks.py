"""Backward hooks of Tensors and modules, beside those of PyTorch."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import agrad as ag
from agrad import nn, optim
from agrad.errors import AverageUndefinedError, CaptureError
from agrad.train import capture_step, fit, train_step

RANDOM = np.random.default_rng(0)
X, Z = RANDOM.standard_normal((2, 4, 3))


def both(program: Callable[[Any, Any], list[Any]]) -> None:
    """Compare what a program's hooks see and what it returns, in agrad and in PyTorch."""
    found, expected = program(ag, ag.tensor), program(torch, torch.tensor)
    assert len(found) == len(expected)
    for one, other in zip(found, expected):
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=1e-12)


def test_a_hook_sees_the_whole_gradient_and_replaces_it() -> None:
    def program(lib: Any, tensor: Any) -> list[Any]:
        seen = []
        x = tensor(X, requires_grad=True)
        y = x * 3
        early = (y * y).sum()  # used before the hook is registered
        y.register_hook(lambda grad: seen.append(grad * 1))
        y.register_hook(lambda grad: grad * 2)
        with y.register_hook(lambda grad: grad * 0):
            pass
        y.register_hook(lambda grad: seen.append(grad * 1))
        (early + y.sum()).backward()
        return [*seen, x.grad]

    both(program)


def test_hooks_act_in_grad_and_in_higher_derivatives() -> None:
    def program(lib: Any, tensor: Any) -> list[Any]:
        grad = ag.grad if lib is ag else torch.autograd.grad
        x = tensor(X, requires_grad=True)
        y = x * x
        y.register_hook(lambda grad: grad * 3)
        loss = (y * y).sum()
        of_y, of_x = grad(loss, [y, x], create_graph=True)
        (second,) = grad((of_x * of_x).sum(), x)
        return [tensor.detach() for tensor in (of_y, of_x, second)]

    both(program)
    x = ag.tensor(X, requires_grad=True)
    y = x * x
    y.register_hook(lambda grad: grad.data if isinstance(grad, ag.Tensor) else None)
    with pytest.raises(TypeError, match="with create_graph the hook must return None or a Tensor"):
        ag.grad((y * y).sum(), x, create_graph=True)
    (plain,) = ag.grad((y * y).sum(), x)
    np.testing.assert_allclose(plain.data, 4 * X**3)


def test_a_gradient_of_another_dtype_or_shape() -> None:
    x = ag.tensor(X, requires_grad=True, dtype=np.float32)
    kept = np.ones((4, 3), np.float32)
    y = x.reshape(4, 3)
    handle = y.register_hook(lambda grad: kept)
    y.sum().backward()
    kept[:] = 7
    np.testing.assert_array_equal(x.grad, np.ones((4, 3)))
    x.zero_grad()
    y = x.reshape(4, 3)
    y.register_hook(lambda grad: np.full((4, 3), 2.0))
    y.sum().backward()
    assert x.grad.dtype == np.float32
    np.testing.assert_array_equal(x.grad, np.full((4, 3), 2))
    y = x.reshape(4, 3)
    handle = y.register_hook(lambda grad: grad[0])
    with pytest.raises(ValueError, match=r"of shape \(3,\) for one of shape \(4, 3\)"):
        y.sum().backward()
    handle.remove()
    x.zero_grad()
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, np.ones((4, 3)))


def test_tensors_that_take_no_hook_are_named() -> None:
    x = ag.tensor(X, requires_grad=True)
    with pytest.raises(ValueError, match=r"of shape \(4, 3\), is a leaf; change its .grad"):
        x.register_hook(print)
    with pytest.raises(ValueError, match="register_hook: the tensor depends on no tensor"):
        (ag.tensor(X) * 2).register_hook(print)
    with pytest.raises(TypeError, match="register_hook: hook must be callable, got a int"):
        (x * 2).register_hook(3)  # type: ignore[arg-type]
    y = x * 2
    y.sum().backward()
    with pytest.raises(ValueError, match="register_hook: the graph was freed"):
        y.register_hook(print)

    def function(x: ag.Tensor) -> ag.Tensor:
        y = x * 2
        y.register_hook(print)
        return y

    with pytest.raises(CaptureError, match="register_hook: replays would not call the hook"):
        ag.capture(function)(x)


def test_the_result_of_a_captured_function_takes_a_hook() -> None:
    weight = ag.tensor(X, requires_grad=True)
    function = ag.capture(lambda x: (weight * x).tanh())
    for factor in (2, 3):
        weight.zero_grad()
        y = function(Z)
        y.register_hook(lambda grad, factor=factor: grad * factor)
        y.sum().backward()
        np.testing.assert_allclose(weight.grad, factor * Z / np.cosh(X * Z) ** 2, rtol=1e-12)


def test_averages_refuse_hooks_until_they_are_removed() -> None:
    w = ag.tensor(X, requires_grad=True)
    y = w.tanh()
    loss = (y * y).sum()
    handle = y.register_hook(lambda grad: None)
    with pytest.raises(AverageUndefinedError, match="Tanh: a hook is registered on its result"):
        loss.average_backward({w: Z}, retain_graph=True)
    assert w.average_grad is None
    handle.remove()
    start, end = loss.item(), loss.average_backward({w: Z})
    np.testing.assert_allclose((w.average_grad * Z).sum(), end - start, rtol=1e-10)


class Twice(nn.Module):
    """Two inputs and two outputs, one of which is an input."""

    def forward(self, x: Any, z: Any) -> Any:
        return x * z + z * z, z


class TorchTwice(torch.nn.Module):
    def forward(self, x: Any, z: Any) -> Any:
        return x * z + z * z, z


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("unused", [False, True])
@pytest.mark.parametrize("wanted", [(True, True), (True, False), (False, True)])
def test_a_module_of_two_inputs_and_outputs(
    replace: bool, unused: bool, wanted: tuple[bool, bool]
) -> None:
    def program(lib: Any, tensor: Any) -> list[Any]:
        seen: list[Any] = []

        def hook(module: Any, grad_input: Any, grad_output: Any) -> Any:
            assert module is layer
            needed = [grad for grad, need in zip(grad_input, wanted) if need]
            seen.extend(grad * 1 for grad in (*needed, *grad_output) if grad is not None)
            if lib is ag:  # PyTorch computes the gradients of all inputs, if one requires its own
                assert [grad is not None for grad in grad_input] == list(wanted)
            return tuple(g if g is None else 2 * g for g in grad_input) if replace else None

        layer = Twice() if lib is ag else TorchTwice()
        layer.register_full_backward_hook(hook)
        x, z = (tensor(a, requires_grad=need) for a, need in zip((X, Z), wanted))
        first, second = layer(x, z)
        loss = (first * first).sum() + (x * z).sum()
        if not unused:
            loss = loss + (second * 5).sum()
        loss.backward()
        return seen + [leaf.grad for leaf, need in zip((x, z), wanted) if need]

    if wanted[1] or unused:  # otherwise the second output requires no gradient
        both(program)


# PyTorch warns that the first layer's hook has no gradients of inputs to see.
@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
def test_layers_of_a_network_and_an_input_without_gradient() -> None:
    weights = RANDOM.standard_normal((5, 3))

    def program(lib: Any, tensor: Any) -> list[Any]:
        seen: list[Any] = []
        model = lib.nn.Sequential(lib.nn.Linear(3, 5, bias=False), lib.nn.Tanh())
        model = model.to("float64") if lib is ag else model.double()
        with torch.no_grad(), ag.no_grad():
            model[0].weight.data[...] = tensor(weights).data

        def hook(module: Any, grad_input: Any, grad_output: Any) -> None:
            assert (grad_input[0] is None) == (module is model[0])
            seen.extend(g * 1 for g in (*grad_input, *grad_output) if g is not None)

        handles = [layer.register_full_backward_hook(hook) for layer in (model[0], model[1])]
        for _ in range(2):
            (model(tensor(X)) ** 2).sum().backward()
            handles[0].remove()
        return [*seen, model[0].weight.grad]

    both(program)


def test_what_a_module_hook_cannot_do_is_named() -> None:
    x = ag.tensor(X, requires_grad=True)
    layer = nn.Linear(3, 2).to("float64")
    with pytest.raises(TypeError, match="full_backward_hook: hook must be callable, got a int"):
        layer.register_full_backward_hook(3)  # type: ignore[arg-type]
    handle = layer.register_full_backward_hook(lambda module, grads, _: grads[0][:1])
    with pytest.raises(ValueError, match=r"shapes \[\(1, 3\)\], the inputs have \[\(4, 3\)\]"):
        layer(x).sum().backward()
    handle.remove()
    layer.register_full_backward_hook(lambda module, grads, _: X)
    with pytest.raises(ValueError, match=r"shapes \[\(4, 3\)\], the inputs have \[None\]"):
        layer(X).sum().backward()
    layer(x).sum().backward()
    np.testing.assert_array_equal(x.grad, X)
    with pytest.raises(AverageUndefinedError, match="a hook is registered on its result"):
        layer(x).sum().average_backward({layer.weight: layer.weight.data})
    with ag.no_grad():
        assert layer(x).requires_grad is False
    lstm = nn.LSTM(3, 2)
    lstm.register_full_backward_hook(lambda *_: None)
    with pytest.raises(
        TypeError, match=r"LSTM: .* needs a Tensor or a tuple of Tensors, got Tensor, tu"
    ):
        lstm(np.ones((2, 1, 3), np.float32))
    twice = Twice()
    twice.register_full_backward_hook(lambda *_: None)
    with pytest.raises(TypeError, match="needs an input that requires a gradient"):
        twice(X, ag.tensor(Z))
    with pytest.raises(TypeError, match="needs inputs of one dtype"):
        twice(x, ag.tensor(Z, requires_grad=True, dtype=np.float32))


def test_a_hook_registered_after_a_captured_step_is_not_ignored() -> None:
    ag.seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    batch = X.astype(np.float32), np.arange(4) % 2
    step = capture_step(model, optimizer)
    step(*batch)
    seen: list[Any] = []
    handle = model[1].register_full_backward_hook(lambda *given: seen.append(given))
    for run in (lambda: step(*batch), lambda: fit(model, optimizer, batch, epochs=1)):
        with pytest.raises(CaptureError, match="Tanh: a backward hook is registered"):
            run()
    assert seen == []
    train_step(model, optimizer, *batch)
    assert len(seen) == 1
    handle.remove()
    step(*batch)
    assert len(seen) == 1


def test_a_second_sweep_shows_its_own_gradients() -> None:
    layer = Twice()
    seen: list[Any] = []
    layer.register_full_backward_hook(lambda module, _, grads: seen.append(grads))
    first, second = layer(ag.tensor(X, requires_grad=True), ag.tensor(Z, requires_grad=True))
    second.sum().backward(retain_graph=True)
    first.sum().backward()
    assert [[grad is None for grad in grads] for grads in seen] == [[True, False], [False, True]]
