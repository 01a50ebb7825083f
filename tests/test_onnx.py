"""ONNX files, run by onnxruntime, against the models from which they were exported."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layer_examples import LAYERS, draw, inputs_of, layers_in, layers_of_nn, make

import agrad as ag
import agrad.nn.functional as F
from agrad import nn
from agrad.errors import ExportError

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
from agrad.onnx import export  # noqa: E402


class Calls(nn.Module):
    """A function of modules and inputs as a module."""

    def __init__(self, function: Callable[..., Any], *parts: nn.Module) -> None:
        self.function = function
        self.parts = nn.ModuleList(parts)

    def forward(self, *inputs: Any) -> Any:
        return self.function(*self.parts, *inputs)


def flat(result: Any) -> list[Any]:
    if isinstance(result, tuple):
        return [array for part in result for array in flat(part)]
    return [] if result is None else [ag.tensor(result).data]


def check(
    folder: Path,
    model: nn.Module,
    args: Any,
    batch_axes: Any = 0,
    batches: tuple[int, ...] = (1, 3),
    tolerance: float = 3e-6,
) -> Any:
    """Export a model, and compare what the file and the model compute for batches of other sizes.

    Values of size 1 pass through a few sums of a few dozen terms. In float32, with an eps of 1e-7,
    3e-6 of the largest element leaves a factor of about ten for another order of the terms.
    """
    args = args if isinstance(args, tuple) else (args,)
    axes = batch_axes if isinstance(batch_axes, tuple) else (batch_axes,) * len(args)
    export(model, args, folder / "model.onnx", batch_axes=batch_axes)
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    names = [value.name for value in session.get_inputs()]
    model.eval()
    for count in batches:
        inputs = [
            x if axis is None else np.take(x, np.arange(count)[::-1] % x.shape[axis], axis)
            for x, axis in zip(args, axes)
        ]
        # Other arguments may also have one value per example.
        inputs = [
            x
            if x is None or x.dtype.kind != "f"
            else x + np.linspace(0, 1, x.size, dtype=x.dtype).reshape(x.shape)
            for x in inputs
        ]
        given = [x for x in inputs if x is not None]
        found = session.run(None, dict(zip(names, given, strict=True)))
        with ag.no_grad():
            expected = flat(model(*(None if x is None else ag.tensor(x) for x in inputs)))
        for array, known in zip(found, expected, strict=True):
            assert (array.shape, array.dtype) == (known.shape, known.dtype)
            largest = np.abs(known).max(initial=0) if known.dtype.kind == "f" else 0
            np.testing.assert_allclose(array, known, rtol=0, atol=tolerance * largest)
    return onnx.load(folder / "model.onnx").graph


def layer(text: str) -> nn.Module:
    ag.seed(0)
    module = make(nn, text).train()  # the file uses evaluation mode anyway
    rng = np.random.default_rng(0)
    state = {  # positive, as running variances are
        name: np.asarray(np.abs(rng.normal(size=array.shape)) / 2, array.dtype)
        for name, array in module.state_dict().items()
    }
    module.load_state_dict(state)
    return module  # type: ignore[no-any-return]


@pytest.mark.parametrize("text", LAYERS)
def test_layers(text: str, tmp_path: Path) -> None:
    batch_axis = LAYERS[text].batch_axis
    own_statistics = "track_running_stats=False" in text
    batches = (3,) if own_statistics or batch_axis is None else (1, 3)
    check(tmp_path, layer(text), inputs_of(text), batch_axis, batches)


def test_all_layers_are_tested() -> None:
    assert layers_in(LAYERS) == layers_of_nn()


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_recurrent_layers_with_lengths_and_first_states(kind: str, tmp_path: Path) -> None:
    def run(recurrent: Any, x: Any, lengths: Any, *first: Any) -> Any:
        return recurrent(x, first if len(first) > 1 else first[0], lengths)

    states = [draw((4, 2, 4))] * (2 if kind == "LSTM" else 1)
    args = draw((5, 2, 3)), np.array([5, 2]), *states
    model = Calls(run, layer(f"{kind}(3, 4, 2, bidirectional=True)"))
    check(tmp_path, model, args, batch_axes=(1, 0, *[1] * len(states)))


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_recurrent_layers_with_lengths(kind: str, tmp_path: Path) -> None:
    model = Calls(lambda part, x, n: part(x, lengths=n), layer(f"{kind}(3, 4, bidirectional=True)"))
    check(tmp_path, model, (draw((5, 2, 3)), np.array([5, 2])), batch_axes=(1, 0))


def test_attention_with_masks(tmp_path: Path) -> None:
    """A query of the second example that may attend to nothing gets zeros."""
    padding = np.array([[False] * 4 + [True], [True] * 5])
    excluded = np.random.default_rng(0).random((5, 5)) < 0.2
    model = Calls(
        lambda part, x, padding, mask: part(x, x, x, padding, attn_mask=mask, is_causal=True),
        layer("MultiheadAttention(8, 2, batch_first=True)"),
    )
    check(tmp_path, model, (draw((2, 5, 8)), padding, excluded), batch_axes=(0, 0, None))


@pytest.mark.parametrize(
    "text",
    [
        "MultiheadAttention(8, 2, add_bias_kv=True, add_zero_attn=True)",
        "MultiheadAttention(8, 2, kdim=3, vdim=4, bias=False)",
    ],
)
def test_attention_to_others_with_weights_added(text: str, tmp_path: Path) -> None:
    module: Any = layer(text)
    model = Calls(
        lambda part, q, k, v, mask: part(q, k, v, attn_mask=mask, average_attn_weights=False),
        module,
    )
    keys, values = draw((6, 2, module.kdim)), draw((6, 2, module.vdim))
    args = draw((5, 2, 8)), keys, values, draw((5, 6))
    check(tmp_path, model, args, batch_axes=(1, 1, 1, None))


def test_a_language_model_whose_weights_are_tied(tmp_path: Path) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            self.embedding = nn.Embedding(20, 8, padding_idx=0)
            self.positions = nn.PositionalEncoding(8, batch_first=True)
            block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
            self.encoder = nn.TransformerEncoder(block, 2, nn.LayerNorm(8))
            self.out = nn.Linear(8, 20)
            self.out.weight = self.embedding.weight

        def forward(self, ids: Any) -> Any:
            x = self.positions(self.embedding(ids))
            x = self.encoder(x, src_key_padding_mask=ids == 0, is_causal=True)
            return self.out(x)

    ag.seed(0)
    model = Model()
    graph = check(tmp_path, model, np.array([[1, 2, 3, 0], [4, 5, 6, 7]]))
    weights = {weight.name: onnx.numpy_helper.to_array(weight) for weight in graph.initializer}
    state = {name: array for name, array in model.state_dict().items() if name != "out.weight"}
    for name, array in state.items():
        np.testing.assert_array_equal(weights[name], array)
    constants = {name for name in weights if name.startswith("/")}
    assert set(weights) - constants - set(state) == {"positions.pe"}  # no part of the state


def test_a_decoder(tmp_path: Path) -> None:
    ag.seed(0)
    block = nn.TransformerDecoderLayer(8, 2, 16, norm_first=True)
    check(tmp_path, nn.TransformerDecoder(block, 2), (draw((4, 2, 8)), draw((5, 2, 8))), 1)


def test_an_image_network_after_training(tmp_path: Path) -> None:
    """In evaluation mode: running statistics, no dropout; the model and its mode do not change."""
    ag.seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3),
        nn.AdaptiveAvgPool2d((2, 3)),
        nn.Flatten(),
        nn.Dropout(),
        nn.Linear(36, 3),
        nn.Softmax(1),
    )
    images = draw((2, 1, 9, 10))
    for _ in range(3):
        model(images)
    before = model.state_dict()
    export(model, images, tmp_path / "model.onnx")
    assert model.training
    assert model[1].training
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    graph = check(tmp_path, model, images)
    names = {weight.name for weight in graph.initializer if not weight.name.startswith("/")}
    assert names == set(before) - {"1.num_batches_tracked"}


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "expm1": ag.expm1,
    "log1p": lambda x: ag.log1p(abs(x)),
    "log2 and log10": lambda x: ag.log2(abs(x)) - ag.log10(abs(x)),
    "trigonometry": lambda x: ag.sin(x) + ag.cos(x) + ag.tan(x / 3) + ag.arctan(x),
    "hyperbolic": lambda x: ag.sinh(x) + ag.cosh(x) + ag.arcsinh(x) + ag.arccosh(1 + x * x),
    "inverse": lambda x: ag.arcsin(F.tanh(x)) * ag.arccos(F.tanh(x)) + ag.arctanh(F.tanh(x)),
    "erf": ag.erf,
    "remainder": lambda x: x % 0.7,
    "power": lambda x: abs(x) ** 0.5 + 2**x - x**2,
    "clip": lambda x: ag.clip(x, -0.5, None),
    "maximum": lambda x: ag.maximum(x, 0.1) / ag.minimum(x, -0.1),
    "logaddexp": lambda x: ag.logaddexp(x, -x),
    "cumsum": lambda x: ag.cumsum(x, 1),
    "sort": lambda x: ag.sort(x, 0),
    "diagonal": lambda x: ag.diagonal(x.reshape(-1, 2, 2), 1, 2, 1),
    "trace": lambda x: ag.trace(x.reshape(-1, 2, 2), axis1=1, axis2=2),
    "triangles": lambda x: ag.tril(x.reshape(-1, 2, 2)) - ag.triu(x.reshape(-1, 2, 2), 1),
    "mean": lambda x: x.mean(),
    "sums": lambda x: x.sum(0) - x.sum((0, 1), keepdims=True),
    "std": lambda x: x.std(1, ddof=1),
    "var": lambda x: x.var(0),
    "extremes": lambda x: x.max(axis=1) - x.min(axis=1),
    "prod": lambda x: x.prod(1),
    "logsumexp": lambda x: ag.logsumexp(x, 1),
    "norm": lambda x: ag.linalg.norm(x, axis=1),
    "indices": lambda x: x[None, :, ..., ::-2] * x[..., 1, None],
    "last elements": lambda x: x[:, -1] + x[-1, -2],
    "slices": lambda x: x[:-1, 3:0:-1] + x[1:, -1:],
    "stack": lambda x: ag.stack([x, 2 * x], -1),
    "pad": lambda x: ag.pad(x, ((1, 2), (0, 1)), constant_values=3),
    "einsum": lambda x: ag.einsum("ij,kj->ik", x, x),
    "matmul": lambda x: x @ x.T,
    "tile and repeat": lambda x: ag.tile(x, (2, 3)) + ag.repeat(ag.repeat(x, 3, 1), 2, 0),
    "roll": lambda x: ag.roll(x, 1, 1),
    "broadcast": lambda x: ag.broadcast_to(x[:, None], (x.shape[0], 3, 4)) + x.shape[1],
    "zeros of the batch": lambda x: ag.broadcast_to(0.0, (2 * x.shape[0] + 1, 4)) + 1,
    "shapes": lambda x: x.reshape(x.shape[0], 2, -1).swapaxes(1, 2).reshape(2, -1, x.shape[0]),
    "comparisons": lambda x: ((x > 0) & ~(x != x)) | (x <= -1),
    "casts": lambda x: (x > 0).astype("float64") + x.astype("float64"),
    "an input": lambda x: (x, x),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name: str, tmp_path: Path) -> None:
    check(tmp_path, Calls(FUNCTIONS[name]), draw((2, 4)), batches=(4,))


def test_gathering_and_scattering(tmp_path: Path) -> None:
    places, values = np.array([[1, 2], [0, 3]], np.int32), draw((2, 2))
    check(tmp_path, Calls(lambda x, i: ag.take_along_axis(x, i, -1)), (draw((2, 4)), places))
    model = Calls(lambda x, i, values: ag.scatter(x, 1, i, values))
    check(tmp_path, model, (draw((2, 4)), places, values))


def test_double_precision(tmp_path: Path) -> None:
    ag.seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.LayerNorm(8), nn.Linear(8, 2)).to(
        "float64"
    )
    # 1e-14 leaves a factor of 50 above float64's eps.
    check(tmp_path, model, draw((2, 5), "float64"), tolerance=1e-14)


def test_names_and_shapes(tmp_path: Path) -> None:
    ag.seed(0)
    model = Calls(lambda part, x, y: (part(x), y.reshape(-1)), nn.Linear(3, 2))
    path = tmp_path / "model.onnx"
    export(model, (draw((1, 3)), draw((4, 1))), path, ["x", "y"], ["out", "flat"], (0, 1))
    graph = onnx.load(path).graph

    def shapes(values: Any) -> dict[str, list[Any]]:
        return {
            value.name: [
                length.dim_param or length.dim_value for length in value.type.tensor_type.shape.dim
            ]
            for value in values
        }

    assert shapes(graph.input) == {"x": ["batch", 3], "y": [4, "batch"]}
    assert shapes(graph.output) == {"out": ["batch", 2], "flat": ["4*batch"]}


def test_a_single_example_suffices(tmp_path: Path) -> None:
    norm = nn.BatchNorm1d(5, track_running_stats=False)  # which refuses a single one
    check(tmp_path, norm, draw((1, 5)), batches=(3,))


def test_a_fixed_batch(tmp_path: Path) -> None:
    x = draw((2, 4))
    check(tmp_path, Calls(lambda x: x / x.shape[0]), x, batch_axes=None, batches=(2,))
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument):
        session.run(None, {"input": x[:1]})


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            lambda x: ag.cumprod(x, 1),
            r"Cumprod has no counterpart in ONNX \(inputs float32\[2, 4\]",
        ),
        (lambda x: F.dropout(x), "Dropout has no counterpart"),
        (lambda x: np.bitwise_and(x > 0, x > 1) ^ 3, "bitwise_xor of bool and int64"),
        (lambda x: ag.where(x > 0, x, 0), "cannot be recorded"),
        (lambda x: x / x.shape[0], "input 1 of Divide is a constant that depends"),
        (lambda x: x[: x.shape[0] - 1], "the index of GetItem depends on the size of the batch"),
        (lambda x: x.var(0, ddof=1), "Var cannot be exported: .* ddof must be 0"),
        (
            lambda x: (x[:, None] * x).reshape(-1),
            "axis 0 of the result of Reshape is 16, 36 and 64",
        ),
        (lambda x: ag.tanh(x) if x.shape[0] == 2 else x, "runs other operations"),
        (lambda x: 3.0, "returns a float"),
        (lambda x: F.softmax(x, (0, 1)), "Softmax cannot be exported: its axis"),
        (lambda x: (x > 0).max(1), "no such operation for these dtypes .*ReduceMax"),
    ],
)
def test_refuses_models(function: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=f"onnx.export: .*{message}"):
        export(Calls(function), draw((2, 4)), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("Resize", lambda x: F.interpolate(x, size=3)),
        ("Resize", lambda x: F.interpolate(x, size=3, mode="linear")),
        ("AdaptiveAvgPool", lambda x: F.adaptive_avg_pool1d(x, 1)),
        ("AvgPool", lambda x: F.avg_pool1d(x, 3, 1, 1, count_include_pad=False)),
        ("AvgPool", lambda x: F.avg_pool1d(x, 3, 5, ceil_mode=True)),
        ("MaxPool", lambda x: F.max_pool1d(x, 3, 5, ceil_mode=True)),
    ],
)
def test_refuses_a_batch_axis_whose_length_an_operation_needs(
    name: str, function: Any, tmp_path: Path
) -> None:
    message = f"{name} cannot be exported: the length of an axis that it works along"
    with pytest.raises(ExportError, match=f"onnx.export: {message}"):
        export(Calls(function), draw((1, 1, 6)), tmp_path / "model.onnx", batch_axes=2)


def test_refuses_a_batch_axis_of_steps_where_sequences_have_lengths(tmp_path: Path) -> None:
    model = Calls(lambda rnn, x, lengths: rnn(x, lengths=lengths)[0], nn.GRU(3, 2))
    given = draw((6, 2, 3)), np.array([6, 3])
    with pytest.raises(ExportError, match="given lengths cannot be exported: the number of steps"):
        export(model, given, tmp_path / "model.onnx", batch_axes=(0, None))


def test_windows_slide_along_a_batch_axis(tmp_path: Path) -> None:
    model = Calls(lambda x: F.max_pool1d(F.avg_pool1d(x, 3, 1, 1), 2, 1))
    check(tmp_path, model, draw((1, 2, 6)), batch_axes=2, batches=(9,))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"model": ag.tanh}, TypeError, "model must be a Module, got a function"),
        ({"input_names": ["a", "b"]}, ValueError, "input_names has 2 names for 1 inputs"),
        ({"output_names": []}, ValueError, "output_names has 0 names for 1 outputs"),
        ({"input_names": ["weight"]}, ValueError, "'weight' is the name of a weight"),
        ({"output_names": ["bias"]}, ValueError, "'bias' is the name of a weight"),
        ({"output_names": ["input"]}, ValueError, "names of inputs and outputs must differ"),
        ({"batch_axes": 2}, ValueError, r"batch axis 2 is out of range for argument 0, of shape"),
        ({"batch_axes": (0, 0)}, ValueError, "batch_axes has 2 axes for 1 arguments"),
        ({"args": draw((0, 3))}, ValueError, r"at least 1, along their batch axes, got \[0\]"),
    ],
)
def test_refuses_arguments(
    options: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    arguments = {"model": nn.Linear(3, 2), "args": draw((2, 3)), **options}
    with pytest.raises(error, match=f"onnx.export: .*{message}"):
        export(path=tmp_path / "model.onnx", **arguments)
    assert not list(tmp_path.iterdir())
