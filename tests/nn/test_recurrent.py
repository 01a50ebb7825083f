"""Recurrent layers against PyTorch's, and their averages."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import readers
from hypothesis import given, settings
from hypothesis import strategies as st

import agrad as ag
import agrad.nn.functional as F
from agrad import nn
from agrad.testing.strategies import seeds

torch = pytest.importorskip("torch")

KINDS = pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
both_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


def pair(kind: str, dtype: str, *sizes: int, **options: Any) -> tuple[Any, Any]:
    """Return a layer and PyTorch's with the same parameters, by name."""
    ours = getattr(nn, kind)(*sizes, **options).to(dtype)
    theirs = getattr(torch.nn, kind)(*sizes, **options).to(getattr(torch, dtype))
    theirs.load_state_dict({k: torch.tensor(v) for k, v in ours.state_dict().items()})
    return ours, theirs


def compare(pairs: list[tuple[Any, Any]], tolerance: float) -> None:
    for array, known in pairs:
        expected = known.detach().numpy()
        assert (array.shape, array.dtype) == (expected.shape, expected.dtype)
        # Terms of size one may cancel, but their rounding errors do not.
        atol = tolerance * np.abs(expected).max(initial=0.01)
        np.testing.assert_allclose(array, expected, rtol=0, atol=atol)


def listed(states: Any) -> list[Any]:
    return list(states) if isinstance(states, tuple) else [states]


@both_dtypes
@KINDS
@settings(max_examples=15)
@given(data=st.data(), seed=seeds)
def test_a_layer_is_pytorchs(kind: str, dtype: str, data: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    options: dict[str, Any] = {
        "num_layers": data.draw(st.integers(1, 3)),
        "bias": data.draw(st.booleans()),
        "batch_first": data.draw(st.booleans()),
        "bidirectional": data.draw(st.booleans()),
    }
    if kind == "RNN":
        options["nonlinearity"] = data.draw(st.sampled_from(["tanh", "relu"]))
    width, size, steps, batch = (data.draw(st.integers(1, 4)) for _ in range(4))
    ours, theirs = pair(kind, dtype, width, size, **options)
    single, started = data.draw(st.booleans()), data.draw(st.booleans())
    lengths = None
    if not single and data.draw(st.booleans()):
        lengths = rng.integers(1, steps + 1, batch)
        lengths[0] = steps  # PyTorch cuts its output to the longest
    shape: tuple[int, ...] = (
        (batch, steps, width) if options["batch_first"] else (steps, batch, width)
    )
    layers = options["num_layers"] * (1 + options["bidirectional"])
    state = (layers, size) if single else (layers, batch, size)
    shapes: list[tuple[int, ...]] = [(steps, width) if single else shape]
    shapes += [state] * ((1 + (kind == "LSTM")) * started)
    arrays = [rng.normal(size=drawn).astype(dtype) for drawn in shapes]
    leaves = [ag.tensor(x, requires_grad=True) for x in arrays]
    others = [torch.tensor(x, requires_grad=True) for x in arrays]

    def first(given: list[Any]) -> Any:
        return None if not started else tuple(given[1:]) if kind == "LSTM" else given[1]

    out, last = ours(leaves[0], first(leaves), lengths)
    if lengths is None:
        known, known_last = theirs(others[0], first(others))
    else:
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            others[0], torch.tensor(lengths), options["batch_first"], enforce_sorted=False
        )
        known, known_last = theirs(packed, first(others))
        known, _ = torch.nn.utils.rnn.pad_packed_sequence(known, options["batch_first"])
    results, expected = [out, *listed(last)], [known, *listed(known_last)]
    cotangents = [rng.normal(size=result.shape).astype(dtype) for result in results]
    sum((x * c).sum() for x, c in zip(results, cotangents)).backward()
    sum((x * torch.tensor(c)).sum() for x, c in zip(expected, cotangents)).backward()
    pairs = [(x.data, y) for x, y in zip(results, expected)]
    pairs += [(x.grad, y.grad) for x, y in zip(leaves, others)]
    grads = {name: p.grad for name, p in ours.named_parameters()}
    pairs += [(grads[name], p.grad) for name, p in theirs.named_parameters()]
    compare(pairs, 1e-10 if dtype == "float64" else 1e-5)


@pytest.mark.parametrize("lengths", [None, [5, 2, 3]])
@KINDS
def test_second_derivatives_are_pytorchs(kind: str, lengths: list[int] | None) -> None:
    ours, theirs = pair(kind, "float64", 3, 4, num_layers=2, bidirectional=True)
    x = np.random.default_rng(0).normal(size=(5, 3, 3))
    leaf, other = ag.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)

    def penalize(grad: Any, out: Any, input: Any, weight: Any) -> None:
        grads = grad((out**3).sum(), [input, weight], create_graph=True)
        sum((g**2).sum() for g in grads).backward()

    penalize(ag.grad, ours(leaf, lengths=lengths)[0], leaf, ours.weight_hh_l0)
    packed = other
    if lengths is not None:
        packed = torch.nn.utils.rnn.pack_padded_sequence(other, lengths, enforce_sorted=False)
    out, _ = theirs(packed)
    if lengths is not None:
        out, _ = torch.nn.utils.rnn.pad_packed_sequence(out)
    penalize(torch.autograd.grad, out, other, theirs.weight_hh_l0)
    grads = {name: p.grad for name, p in ours.named_parameters()}
    pairs = [(grads[name], p.grad) for name, p in theirs.named_parameters()]
    compare([(leaf.grad, other.grad), *pairs], 1e-10)


@KINDS
def test_an_empty_batch_has_no_states_and_no_gradients(kind: str) -> None:
    layer = getattr(nn, kind)(3, 4, bidirectional=True)
    for lengths in None, np.zeros(0, int):
        layer.zero_grad()
        out, last = layer(np.zeros((5, 0, 3), np.float32), lengths=lengths)
        assert out.shape == (5, 0, 8)
        assert [state.shape for state in listed(last)] == [(2, 0, 4)] * len(listed(last))
        out.sum().backward()
        assert all((p.grad == 0).all() for p in layer.parameters())


@KINDS
def test_a_long_sequence_is_pytorchs(kind: str) -> None:
    ag.seed(0)
    ours, theirs = pair(kind, "float32", 8, 16, batch_first=True, bidirectional=True)
    x = np.random.default_rng(0).normal(size=(4, 200, 8)).astype(np.float32)
    out, _ = ours(x)
    known, _ = theirs(torch.tensor(x))
    F.mse_loss(out, x.repeat(4, axis=2)).backward()
    torch.nn.functional.mse_loss(known, torch.tensor(x).repeat_interleave(4, 2)).backward()
    grads = {name: p.grad for name, p in ours.named_parameters()}
    pairs = [(out.data, known), *((grads[k], p.grad) for k, p in theirs.named_parameters())]
    compare(pairs, 1e-4)


@KINDS
def test_a_layer_starts_and_reads_as_pytorchs(kind: str) -> None:
    ag.seed(0)
    module, theirs = getattr(nn, kind)(30, 40, 2), getattr(torch.nn, kind)(30, 40, 2)
    state = module.state_dict()
    assert list(state) == list(theirs.state_dict())
    for name, p in theirs.named_parameters():
        assert state[name].shape == tuple(p.shape)
        assert np.abs(state[name]).max() == pytest.approx(40**-0.5, rel=0.1)
    for options in ({}, {"num_layers": 2, "dropout": 0.5, "bidirectional": True}, {"bias": False}):
        assert repr(getattr(nn, kind)(3, 4, **options)) == repr(
            getattr(torch.nn, kind)(3, 4, **options)
        )


def composed(module: Any, x: Any, kind: str) -> Any:
    """Return the output, computed by operations step by step."""
    size = module.hidden_size
    h = c = ag.tensor(np.zeros((x.shape[1], size)))
    outs = []
    for t in range(len(x)):
        own = F.linear(x[t], module.weight_ih_l0, module.bias_ih_l0)
        other = F.linear(h, module.weight_hh_l0, module.bias_hh_l0)
        if kind == "RNN":
            h = F.tanh(own + other)
        elif kind == "GRU":
            a, b = ag.split(own, 3, axis=1), ag.split(other, 3, axis=1)
            r, z = F.sigmoid(a[0] + b[0]), F.sigmoid(a[1] + b[1])
            n = F.tanh(a[2] + r * b[2])
            h = n + z * (h - n)
        else:
            i, f, g, o = ag.split(own + other, 4, axis=1)
            c = F.sigmoid(f) * c + F.sigmoid(i) * F.tanh(g)
            h = F.sigmoid(o) * F.tanh(c)
        outs.append(h)
    return ag.stack(outs)


@KINDS
def test_gradients_and_averages_are_those_of_the_composed_operations(kind: str) -> None:
    ag.seed(0)
    rng = np.random.default_rng(0)
    module = getattr(nn, kind)(3, 4).to("float64")
    x = ag.tensor(rng.normal(size=(6, 2, 3)), requires_grad=True)
    leaves = [x, *module.parameters()]
    updates = {leaf: rng.normal(size=leaf.shape) for leaf in leaves}
    cotangent = rng.normal(size=(6, 2, 4))
    found = []
    for out in (module(x)[0], composed(module, x, kind)):
        for leaf in leaves:
            leaf.zero_grad()
        loss = (out * cotangent).sum()
        loss.average_backward(updates, retain_graph=True)
        loss.backward()
        found.append([out.data, *(a for leaf in leaves for a in (leaf.grad, leaf.average_grad))])
    for array, known in zip(*found, strict=True):
        np.testing.assert_allclose(array, known, rtol=0, atol=1e-12 * np.abs(known).max())


class Reader(nn.Module):
    """A classifier of sequences of ids, whose padding is id 0."""

    def __init__(self, kind: str, dropout: float = 0.0) -> None:
        self.embedding = nn.Embedding(9, 5)
        self.recurrent = getattr(nn, kind)(
            5, 6, 2, batch_first=True, bidirectional=True, dropout=dropout
        )
        self.head = nn.Linear(12, 3)

    def forward(self, ids: Any) -> ag.Tensor:
        lengths = (ids != 0).sum(axis=1)
        out, last = self.recurrent(self.embedding(ids), lengths=lengths)
        h = last[0] if isinstance(last, tuple) else last
        result: ag.Tensor = (
            self.head(ag.concatenate([h[-1], h[-2]], axis=1)) + out.sum(axis=1)[:, :3]
        )
        return result


@KINDS
@pytest.mark.parametrize("captured", [False, True])
def test_the_average_is_complete(kind: str, captured: bool) -> None:
    readers.require_complete_averages(partial(Reader, kind), captured)


@KINDS
def test_a_captured_layer_is_the_same_bit_for_bit(kind: str) -> None:
    readers.require_the_same_bits_captured(partial(Reader, kind))


@KINDS
def test_the_first_rows_of_a_batch_are_what_they_are_in_it(kind: str) -> None:
    readers.require_rows_as_in_their_batch(partial(Reader, kind))


@KINDS
def test_an_average_gradient_trains_it(kind: str) -> None:
    readers.require_training(partial(Reader, kind), lr=0.02)


@KINDS
def test_a_sequence_of_no_elements_keeps_the_first_states(kind: str) -> None:
    module = getattr(nn, kind)(3, 4, bidirectional=True)
    h = np.random.default_rng(0).normal(size=(2, 2, 4)).astype(np.float32)
    x = np.ones((5, 2, 3), np.float32)
    out, last = module(x, (h, h) if kind == "LSTM" else h, lengths=[0, 5])
    np.testing.assert_array_equal(out.data[:, 0], 0)
    for state in listed(last):
        np.testing.assert_array_equal(state.data[:, 0], h[:, 0])


def test_dropout_is_only_between_layers() -> None:
    ag.seed(0)
    x = np.ones((5, 2, 3), np.float32)
    one, two = nn.LSTM(3, 4, dropout=0.5), nn.LSTM(3, 4, 2, dropout=0.5)
    np.testing.assert_array_equal(one(x)[0].data, one(x)[0].data)
    assert (two(x)[0].data != two(x)[0].data).any()
    two.eval()
    np.testing.assert_array_equal(two(x)[0].data, two(x)[0].data)


X = np.ones((5, 2, 3), np.float32)
H = np.ones((1, 2, 4), np.float32)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.LSTM(0, 3), ValueError, "LSTM: .*input_size=0"),
        (lambda: nn.GRU(3, 3, dropout=2.0), ValueError, "GRU: dropout .*got 2.0"),
        (lambda: nn.RNN(3, 3, nonlinearity="sin"), ValueError, "RNN: nonlinearity .*'sin'"),
        (lambda: nn.GRU(4, 3)(X), ValueError, r"GRU: input .*E = 4 .*\(5, 2, 3\)"),
        (lambda: nn.GRU(3, 4)(X[:0]), ValueError, r"GRU: input .*L at least 1, got \(0, 2, 3\)"),
        (lambda: nn.GRU(3, 4)(X.astype(np.float64)), TypeError, "GRU: input must be float32"),
        (lambda: nn.GRU(3, 4)(X, H[:, :1]), ValueError, r"GRU: hx .*\(1, 2, 4\), .*\(1, 1, 4\)"),
        (lambda: nn.LSTM(3, 4)(X, (H,)), ValueError, r"LSTM: hx must be a pair .*got 1"),
        (lambda: nn.LSTM(3, 4)(X, lengths=[1, 2, 3]), ValueError, "LSTM: lengths .*2 integers"),
        (lambda: nn.LSTM(3, 4)(X, lengths=[1.0, 2.0]), ValueError, "LSTM: lengths .*float32"),
        (lambda: nn.LSTM(3, 4)(X, lengths=[1, 6]), ValueError, "LSTM: lengths has 6, outside 0 to"),
    ],
)
def test_a_layer_refuses(make: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        make()


@both_dtypes
@pytest.mark.parametrize("kind", ["RNNCell", "GRUCell", "LSTMCell"])
@settings(max_examples=8)
@given(data=st.data(), seed=seeds)
def test_a_cell_is_pytorchs(kind: str, dtype: str, data: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    options: dict[str, Any] = {"bias": data.draw(st.booleans())}
    if kind == "RNNCell":
        options["nonlinearity"] = data.draw(st.sampled_from(["tanh", "relu"]))
    width, size = (data.draw(st.integers(1, 4)) for _ in range(2))
    batch = data.draw(st.sampled_from([(), (1,), (3,)]))
    ours, theirs = pair(kind, dtype, width, size, **options)
    states = 2 if kind == "LSTMCell" else 1
    arrays = [rng.normal(size=(*batch, width)) for _ in range(2)]
    arrays += [
        rng.normal(size=(*batch, size)) for _ in range(states * data.draw(st.integers(0, 1)))
    ]
    arrays = [array.astype(dtype) for array in arrays]
    leaves = [ag.tensor(x, requires_grad=True) for x in arrays]
    others = [torch.tensor(x, requires_grad=True) for x in arrays]

    def twice(cell: Any, first: Any, second: Any, *hx: Any) -> list[Any]:
        state = cell(first, *([hx if states == 2 else hx[0]] if hx else []))
        return listed(cell(second, state))

    outs, known = twice(ours, *leaves), twice(theirs, *others)
    cotangents = [rng.normal(size=out.shape).astype(dtype) for out in outs]
    loss = sum((out * grad).sum() for out, grad in zip(outs, cotangents))
    loss.backward(retain_graph=True)
    sum((out * torch.tensor(grad)).sum() for out, grad in zip(known, cotangents)).backward()
    pairs = [(out.data, other) for out, other in zip(outs, known)]
    pairs += [(leaf.grad, other.grad) for leaf, other in zip(leaves, others)]
    grads = {name: p.grad for name, p in ours.named_parameters()}
    pairs += [(grads[name], p.grad) for name, p in theirs.named_parameters()]
    compare(pairs, 1e-5 if dtype == "float32" else 1e-10)
    if dtype == "float64":
        updates = {x: rng.normal(size=x.shape) for x in [*leaves, *ours.parameters()]}
        change = float(loss.average_backward(updates)) - loss.item()
        found = sum(float((x.average_grad * update).sum()) for x, update in updates.items())
        assert abs(found - change) <= 1e-10 * max(1, abs(change))


@pytest.mark.parametrize("kind", ["RNNCell", "GRUCell", "LSTMCell"])
def test_a_captured_cell_is_the_same_bit_for_bit(kind: str) -> None:
    ag.seed(0)
    cell, x = getattr(nn, kind)(3, 4), ag.randn(2, 3)

    def joined(x: Any) -> ag.Tensor:
        return ag.concatenate(listed(cell(x, cell(x))))

    captured = ag.capture(joined)
    for _ in range(2):
        np.testing.assert_array_equal(captured(x).data, joined(x).data)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.RNNCell(3, 0), "RNNCell: input_size, .* hidden_size=0"),
        (lambda: nn.RNNCell(3, 2, nonlinearity="elu"), "RNNCell: nonlinearity .* 'elu'"),
        (
            lambda: nn.GRUCell(3, 2)(np.ones((2, 4), "f")),
            r"GRUCell: input must .* E = 3, got .2, 4",
        ),
        (
            lambda: nn.LSTMCell(3, 2)(np.ones((2, 3), "f"), np.ones((1, 2, 2), "f")),
            r"LSTMCell: hx must be a pair of states of shape \(2, 2\), got \[\(2, 2\)\]",
        ),
        (
            lambda: nn.GRUCell(3, 2)(np.ones(3, "f"), np.ones((1, 2), "f")),
            r"GRUCell: hx must be one state of shape \(2,\), got \[\(1, 2\)\]",
        ),
    ],
)
def test_wrong_arguments_of_a_cell_are_named(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
