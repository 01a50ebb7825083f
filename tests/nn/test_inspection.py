"""Inspection of models: hooks, the printed tree, the summary, tables in notebooks."""

import copy

import numpy as np
import pytest

import agrad as ag
from agrad import nn, optim
from agrad.train import capture_step


class Twice(nn.Module):
    """Applies one layer twice and returns two outputs."""

    def __init__(self) -> None:
        self.scale = nn.Parameter([1.0, 2.0])
        self.layer = nn.Linear(2, 2)

    def forward(self, x):
        return self.layer(x), self.layer(self.layer(x) * self.scale)


def test_hooks_see_and_replace_outputs_in_their_order() -> None:
    layer = nn.Linear(2, 3)
    x = np.ones((4, 2), np.float32)
    plain = layer(x)
    seen = []

    def see(module, inputs, output):
        seen.append((module is layer, inputs[0] is x, output.numpy().copy()))

    first = layer.register_forward_hook(lambda module, inputs, output: output * 2)
    second = layer.register_forward_hook(see)
    np.testing.assert_array_equal(layer(x).numpy(), plain.numpy() * 2)
    assert seen[0][:2] == (True, True)
    np.testing.assert_array_equal(seen[0][2], plain.numpy() * 2)
    first.remove()
    first.remove()
    np.testing.assert_array_equal(layer(x).numpy(), plain.numpy())
    with second:
        pass
    layer(x)
    assert len(seen) == 2
    assert [name for name, _ in layer.named_parameters()] == ["weight", "bias"]
    with pytest.raises(TypeError, match="register_forward_hook: hook must be callable, got a int"):
        layer.register_forward_hook(3)


def test_hooks_belong_to_one_module_and_may_remove_themselves() -> None:
    layer, calls = nn.Linear(2, 2), []

    def once(module, inputs, output):
        calls.append(module)
        handle.remove()

    handle = layer.register_forward_hook(once)
    twin = copy.deepcopy(nn.Sequential(layer))[0]
    x = np.ones((1, 2), np.float32)
    nn.Linear(2, 2)(x)
    assert calls == []
    layer(x)
    layer(x)
    assert calls == [layer]
    twin(x)
    assert calls == [layer, twin]


def test_a_captured_step_runs_a_hook_when_it_records() -> None:
    ag.seed(0)
    model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 2))
    shapes = []
    model[0].register_forward_hook(lambda module, inputs, output: shapes.append(output.shape))
    step = capture_step(model, optim.SGD(model.parameters(), lr=0.1))
    for _ in range(3):
        step(np.ones((5, 2), np.float32), np.zeros(5, np.int64))
    assert shapes == [(5, 4)]


def test_gradients_pass_through_a_hook() -> None:
    layer = nn.Linear(2, 1, bias=False)
    layer.register_forward_hook(lambda module, inputs, output: output * 3)
    layer(np.array([[1.0, 2.0]], np.float32)).sum().backward()
    np.testing.assert_array_equal(layer.weight.grad, [[3, 6]])


def test_the_printed_tree_has_shapes_and_counts() -> None:
    model = Twice()
    assert str(model) == (
        "Twice(\n"
        "  (layer): Linear(in_features=2, out_features=2, bias=True)  # weight (2, 2), bias (2,)\n"
        ")  # scale (2,)  # 8 parameters"
    )
    model.layer.requires_grad_(False)
    assert str(model).endswith("# 8 parameters, 6 of them frozen")
    assert str(nn.Tanh()) == "Tanh()  # 0 parameters"
    assert str(nn.Linear(1, 1, bias=False)).endswith("bias=False)  # weight (1, 1): 1 parameters")
    norm = nn.Sequential(nn.BatchNorm1d(3))
    assert "running_mean (3,)" in str(norm)
    assert "#" not in repr(norm)
    assert "&lt;" not in norm._repr_html_()
    assert norm._repr_html_().startswith("<pre>Sequential(")


def test_the_summary_has_a_row_for_each_call() -> None:
    model = Twice().train()
    found = ag.summary(model, np.ones((3, 2), np.float32))
    assert [layer.name for layer in found.layers] == ["layer", "layer", "layer", ""]
    assert [layer.parameters for layer in found.layers] == [6, 6, 6, 2]
    assert found.layers[-1].output == [(3, 2), (3, 2)]
    assert (found.parameters, found.trainable) == (8, 8)
    assert model.training
    assert model.layer.weight.grad is None
    assert not model._forward_hooks
    assert found._repr_html_().count("<tr>") == 5
    assert "Linear" in repr(found)


def test_the_summary_leaves_statistics_and_draws_alone() -> None:
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(0.5), nn.Linear(2, 2))
    before, state = model.state_dict(), ag.random.get_state()
    ag.summary(model, np.ones((3, 2), np.float32))
    assert ag.random.get_state() == state
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    with pytest.raises(ValueError, match="shape"):
        ag.summary(model, np.ones((3, 5), np.float32))
    assert not any(module._forward_hooks for module in model.modules())
    assert model.training
    with pytest.raises(TypeError, match="summary: model must be a Module, got a function"):
        ag.summary(lambda x: x)


def test_a_tensor_in_a_notebook_tells_its_shape() -> None:
    shown = ag.tensor([[1.0, 2.0]])._repr_html_()
    assert shown == "<pre>tensor([[1., 2.]])</pre><small>shape (1, 2), float32, cpu</small>"
