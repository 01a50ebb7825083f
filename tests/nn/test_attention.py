"""Attention and the layers of transformers, against PyTorch's."""

from typing import Any

import numpy as np
import pytest
import readers
from hypothesis import given, settings
from hypothesis import strategies as st

import agrad as ag
import agrad.nn.functional as F
from agrad import nn
from agrad.backend import Array
from agrad.testing.strategies import seeds

torch = pytest.importorskip("torch")

both_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


def compare(pairs: list[tuple[Any, Any]], dtype: str) -> None:
    """Compare arrays with PyTorch's to 1e-5 or 1e-10 of the largest element."""
    tolerance = 1e-5 if dtype == "float32" else 1e-10
    for array, known in pairs:
        expected = known.detach().numpy()
        assert array.dtype == expected.dtype
        atol = tolerance * np.abs(expected).max(initial=0)
        np.testing.assert_allclose(array, expected, rtol=0, atol=atol)


def tied(module: Any, theirs: Any, dtype: str, rng: np.random.Generator) -> None:
    """Give both modules the same random parameters, by name."""
    module.to(dtype)
    theirs.to(getattr(torch, dtype))
    state = {
        name: (0.5 * rng.normal(size=array.shape)).astype(dtype)
        for name, array in module.state_dict().items()
    }
    module.load_state_dict(state)
    theirs.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})


def both(arrays: list[Array]) -> tuple[list[ag.Tensor], list[Any]]:
    return (
        [ag.tensor(x, requires_grad=True) for x in arrays],
        [torch.tensor(x, requires_grad=True) for x in arrays],
    )


@both_dtypes
@settings(max_examples=20)
@given(data=st.data(), seed=seeds)
def test_scaled_dot_product_attention(dtype: str, data: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    batch = data.draw(st.sampled_from([(), (3,), (2, 3)]))
    queries, keys, width, values = (data.draw(st.integers(1, 5)) for _ in range(4))
    shapes = (*batch, queries, width), (*batch, keys, width), (*batch, keys, values)
    leaves, others = both([rng.normal(size=shape).astype(dtype) for shape in shapes])
    kind = data.draw(st.sampled_from(["none", "causal", "boolean", "floats"]))
    mask_shape = data.draw(st.sampled_from([(queries, keys), (1, keys), (*batch, queries, keys)]))
    mask: Any = None
    if kind == "boolean":
        mask = rng.random(mask_shape) < 0.5
    elif kind == "floats":
        mask = rng.normal(size=mask_shape).astype(dtype)
        mask[rng.random(mask_shape) < 0.3] = -np.inf
        mask[..., 0] = 0  # PyTorch gives NaN where floats exclude all keys
    scale = data.draw(st.none() | st.floats(0.1, 2))
    options = {"is_causal": kind == "causal", "scale": scale}
    out = F.scaled_dot_product_attention(*leaves, mask, **options)
    known_mask = None if mask is None else torch.tensor(mask)
    known = torch.nn.functional.scaled_dot_product_attention(*others, known_mask, **options)
    cotangent = rng.normal(size=out.shape).astype(dtype)
    out.backward(cotangent)
    known.backward(torch.tensor(cotangent))
    compare([(out.data, known), *((x.grad, y.grad) for x, y in zip(leaves, others))], dtype)


def test_a_query_that_may_attend_to_nothing_gets_zeros() -> None:
    for mask in (np.zeros((1, 2), bool), np.full((1, 2), -np.inf, np.float32)):
        x = ag.tensor(np.ones((2, 3), np.float32), requires_grad=True)
        out = F.scaled_dot_product_attention(x[:1], x, x, mask)
        np.testing.assert_array_equal(out.data, np.zeros((1, 3)))
        loss = out.sum()
        loss.average_backward({x: np.ones((2, 3), np.float32)}, retain_graph=True)
        loss.backward()
        np.testing.assert_array_equal(x.grad, np.zeros((2, 3)))
        np.testing.assert_array_equal(x.average_grad, np.zeros((2, 3)))


def test_a_mask_of_floats_learns() -> None:
    rng = np.random.default_rng(0)
    leaves, others = both([rng.normal(size=shape) for shape in [(4, 3), (5, 3), (5, 2), (4, 5)]])
    out = F.scaled_dot_product_attention(*leaves)
    known = torch.nn.functional.scaled_dot_product_attention(*others)
    out.sum().backward()
    known.sum().backward()
    compare([(leaves[-1].grad, others[-1].grad)], "float64")


def test_attention_drops_weights() -> None:
    ag.seed(0)
    x = np.eye(50, dtype=np.float32)
    out = F.scaled_dot_product_attention(x, x, x, dropout_p=0.5, scale=0.0).data
    assert set(np.unique(out)) == {np.float32(0), np.float32(1 / 25)}
    assert 0.4 < (out == 0).mean() < 0.6


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("appended", [{"add_bias_kv": True}, {"add_zero_attn": True}])
def test_causal_attention_sees_appended_keys(appended: dict[str, bool], batch_first: bool) -> None:
    module = nn.MultiheadAttention(6, 2, batch_first=batch_first, **appended)
    if module.bias_k is not None:
        module.bias_k.data[...] = 0.5
    x = np.random.default_rng(0).normal(size=(4, 4, 6)).astype(np.float32)
    mask = ~np.tri(4, dtype=bool)
    out, weights = module(x, x, x, is_causal=True)
    expected_out, expected_weights = module(x, x, x, attn_mask=mask)
    assert weights is not None
    assert expected_weights is not None
    np.testing.assert_array_equal(weights.data, expected_weights.data)
    np.testing.assert_array_equal(out.data, expected_out.data)
    assert (weights.data[..., -1] > 0).all()
    assert not weights.data[:, :, :-1][:, mask].any()


OPTIONS: list[dict[str, Any]] = [
    {},
    {"batch_first": True},
    {"bias": False, "batch_first": True},
    {"add_bias_kv": True},
    {"add_zero_attn": True, "add_bias_kv": True, "batch_first": True},
    {"kdim": 5, "vdim": 3, "batch_first": True},
    {"kdim": 5, "bias": False},
]


@both_dtypes
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@settings(max_examples=6)
@given(data=st.data(), seed=seeds)
def test_multihead_attention(options: dict[str, Any], dtype: str, data: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    module = nn.MultiheadAttention(6, 2, **options)
    theirs = torch.nn.MultiheadAttention(6, 2, **options)
    tied(module, theirs, dtype, rng)
    count, queries = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 4))
    itself = not {"kdim", "vdim"} & options.keys() and data.draw(st.booleans())
    keys = queries if itself else data.draw(st.integers(1, 4))
    batched = data.draw(st.booleans())
    count = count if batched else 1

    def shape(length: int, width: int) -> tuple[int, ...]:
        axes = (count, length, width) if options.get("batch_first") else (length, count, width)
        return axes if batched else (length, width)

    shapes = [shape(queries, 6)]
    if not itself:
        shapes += [shape(keys, options.get("kdim", 6)), shape(keys, options.get("vdim", 6))]
    leaves, others = both([rng.normal(size=drawn).astype(dtype) for drawn in shapes])
    given: dict[str, Any] = {"average_attn_weights": data.draw(st.booleans())}
    if data.draw(st.booleans()):
        drawn = data.draw(st.sampled_from([(queries, keys), (2 * count, queries, keys)]))
        given["attn_mask"] = rng.random(drawn) < 0.3
        given["attn_mask"][..., 0] = False
        if data.draw(st.booleans()):
            given["attn_mask"] = np.where(given["attn_mask"], -1.5, 0.5).astype(dtype)
    if data.draw(st.booleans()) and given.get("attn_mask", np.empty(0, bool)).dtype == bool:
        given["key_padding_mask"] = rng.random((count, keys) if batched else keys) < 0.3
        given["key_padding_mask"][..., 0] = False
    known = {
        name: torch.tensor(value) if isinstance(value, np.ndarray) else value
        for name, value in given.items()
    }
    triple, others_triple = (list(t) * 3 if itself else list(t) for t in (leaves, others))
    out, weights = module(*triple, **given)
    known_out, known_weights = theirs(*others_triple, **known)
    assert weights is not None
    assert (out.shape, weights.shape) == (known_out.shape, known_weights.shape)
    cotangent = rng.normal(size=out.shape).astype(dtype)
    (out * cotangent).sum().backward()
    (known_out * torch.tensor(cotangent)).sum().backward()
    pairs = [(out.data, known_out), (weights.data, known_weights)]
    pairs += [(x.grad, y.grad) for x, y in zip(leaves, others)]
    pairs += [
        (dict(module.named_parameters())[name].grad, p.grad)
        for name, p in theirs.named_parameters()
    ]
    compare(pairs, dtype)
    assert module(*triple, need_weights=False, **given)[1] is None


def test_multihead_attention_starts_as_pytorchs() -> None:
    ag.seed(0)
    module, theirs = nn.MultiheadAttention(64, 4), torch.nn.MultiheadAttention(64, 4)
    for name, p in theirs.named_parameters():
        values, expected = module.state_dict()[name], p.detach().numpy()
        assert values.std() == pytest.approx(expected.std(), rel=0.05, abs=1e-12)
        assert np.abs(values).max() == pytest.approx(np.abs(expected).max(), rel=0.05)


SMALL: dict[str, Any] = {"dim_feedforward": 7, "dropout": 0.0}
LAYERS: dict[str, dict[str, Any]] = {
    "after": {},
    "before": {"norm_first": True, "batch_first": True, "activation": "gelu"},
    "without biases": {"bias": False, "layer_norm_eps": 1e-3},
}


@both_dtypes
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.filterwarnings("ignore:enable_nested_tensor:UserWarning")  # of PyTorch's stack
@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize("kind", ["Encoder", "Decoder"])
def test_transformer_layers(kind: str, stacked: bool, name: str, dtype: str) -> None:
    # With seed 0, one stack is so ill-conditioned that PyTorch's own gradients in single precision
    # use half of the tolerance.
    rng = np.random.default_rng(1)
    options = SMALL | LAYERS[name]
    layers = [getattr(nn, f"Transformer{kind}Layer")(6, 2, **options)]
    layers += [getattr(torch.nn, f"Transformer{kind}Layer")(6, 2, **options)]
    if stacked:
        stacks = [getattr(library, f"Transformer{kind}") for library in (nn, torch.nn)]
        norms = nn.LayerNorm(6), torch.nn.LayerNorm(6)
        layers = [stack(layer, 2, norm) for stack, layer, norm in zip(stacks, layers, norms)]
    module, theirs = layers
    tied(module, theirs, dtype, rng)
    lengths = [4] if kind == "Encoder" else [4, 5]
    first = bool(options.get("batch_first"))
    shapes = [(3, length, 6) if first else (length, 3, 6) for length in lengths]
    leaves, others = both([rng.normal(size=shape).astype(dtype) for shape in shapes])
    causal = np.triu(np.ones((4, 4), bool), 1)
    padding = np.arange(4) >= np.array([4, 2, 3])[:, None]
    if kind == "Encoder":
        masks: list[Any] = [causal, padding]
    else:
        masks = [causal, None, padding, np.arange(5) >= np.array([1, 5, 3])[:, None]]
    out = module(*leaves, *masks)
    known = theirs(*others, *[None if mask is None else torch.tensor(mask) for mask in masks])
    cotangent = rng.normal(size=out.shape).astype(dtype)
    out.backward(cotangent)
    known.backward(torch.tensor(cotangent))
    pairs = [(out.data, known), *((x.grad, y.grad) for x, y in zip(leaves, others))]
    grads = {name: p.grad for name, p in module.named_parameters()}
    pairs += [(grads[name], p.grad) for name, p in theirs.named_parameters()]
    compare(pairs, dtype)
    # The hint alone has the effect of the mask.
    masks[0] = None
    again = module(*leaves, *masks, **{"is_causal" if kind == "Encoder" else "tgt_is_causal": True})
    np.testing.assert_array_equal(again.data, out.data)


class Reader(nn.Module):
    """A causal transformer over ids, whose padding is id 0."""

    def __init__(self, dropout: float = 0.0) -> None:
        self.embedding = nn.Embedding(9, 8)
        self.position = nn.PositionalEncoding(8, dropout, max_len=20, batch_first=True)
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(8, 3)

    def forward(self, ids: Any) -> ag.Tensor:
        x = self.position(self.embedding(ids))
        x = self.encoder(x, src_key_padding_mask=ids == 0, is_causal=True)
        out: ag.Tensor = self.head(x.mean(axis=1))
        return out


@pytest.mark.parametrize("captured", [False, True])
def test_the_average_of_a_transformer_is_complete(captured: bool) -> None:
    readers.require_complete_averages(Reader, captured)


def test_a_captured_transformer_is_the_same_bit_for_bit() -> None:
    readers.require_the_same_bits_captured(Reader)


def test_the_first_rows_of_a_batch_are_what_they_are_in_it() -> None:
    readers.require_rows_as_in_their_batch(Reader)


def test_an_average_gradient_trains_a_transformer() -> None:
    readers.require_training(Reader, lr=0.01)


def test_positional_encoding() -> None:
    encode = nn.PositionalEncoding(5, dropout=0.0, max_len=9, batch_first=True)
    x = np.random.default_rng(0).normal(size=(2, 4, 5)).astype(np.float32)
    angles = np.arange(4)[:, None] / 10000 ** (np.array([0, 0, 2, 2, 4]) / 5)
    expected = np.where([True, False, True, False, True], np.sin(angles), np.cos(angles))
    np.testing.assert_allclose(encode(x).data - x, np.tile(expected, (2, 1, 1)), atol=1e-6)
    np.testing.assert_array_equal(encode(x[0]).data, encode(x).data[0])
    later = nn.PositionalEncoding(5, dropout=0.0)
    np.testing.assert_array_equal(later(x.swapaxes(0, 1)).data, encode(x).data.swapaxes(0, 1))
    assert encode.state_dict() == {}
    assert encode.to("float64").pe.dtype == np.float64


X = np.ones((2, 3, 6), np.float32)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: F.scaled_dot_product_attention(X, X, X, X, is_causal=True),
            ValueError,
            "not both",
        ),
        (lambda: F.scaled_dot_product_attention(X, X[..., 1:], X), ValueError, "equal E"),
        (lambda: F.scaled_dot_product_attention(X, X, X[:, 1:]), ValueError, r"of key, .*2, 3, 6"),
        (lambda: F.scaled_dot_product_attention(X, X, X, X[0]), ValueError, r"mask .*\(3, 6\)"),
        (
            lambda: F.scaled_dot_product_attention(X, X, X, np.ones((3, 3), int)),
            TypeError,
            "boolean or floats, not int64",
        ),
        (lambda: F.scaled_dot_product_attention(X, X, X, dropout_p=2.0), ValueError, "dropout: p"),
        (lambda: nn.MultiheadAttention(6, 4), ValueError, "embed_dim=6, num_heads=4"),
        (lambda: nn.MultiheadAttention(6, 2, dropout=-1.0), ValueError, "dropout .*-1.0"),
        (lambda: nn.MultiheadAttention(5, 1)(X, X, X), ValueError, r"E = 5, .*\(2, 3, 6\)"),
        (lambda: nn.MultiheadAttention(6, 1)(X, X[1:], X), ValueError, r"\(1, 3, 6\)"),
        (
            lambda: nn.MultiheadAttention(6, 1)(X, X, X, key_padding_mask=np.bool_(False)),
            ValueError,
            r"key_padding_mask .*\(3, 2\), got \(\)",
        ),
        (
            lambda: nn.MultiheadAttention(6, 1)(X, X, X, key_padding_mask=np.zeros((2, 3), bool)),
            ValueError,
            r"key_padding_mask .*\(3, 2\), got \(2, 3\)",
        ),
        (
            lambda: nn.MultiheadAttention(6, 2)(X, X, X, attn_mask=np.zeros((3, 2, 2), bool)),
            ValueError,
            r"attn_mask .*\(6, 2, 2\), got \(3, 2, 2\)",
        ),
        (lambda: nn.PositionalEncoding(0), ValueError, "d_model=0"),
        (lambda: nn.PositionalEncoding(6, max_len=1)(X), ValueError, r"L at most 1, got \(2, 3"),
        (
            lambda: nn.TransformerEncoderLayer(6, 2, activation="swish"),
            ValueError,
            "TransformerEncoderLayer: activation .*'swish'",
        ),
        (
            lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(6, 2), 0),
            ValueError,
            "TransformerEncoder: num_layers .*got 0",
        ),
    ],
)
def test_attention_refuses(make: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        make()
