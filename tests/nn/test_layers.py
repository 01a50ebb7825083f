"""Layers and losses: values and gradients against PyTorch's, seeds and refusals."""

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layer_examples import (
    IN_PYTORCH,
    LAYERS,
    WITHOUT_PYTORCH,
    first,
    inputs_of,
    layers_in,
    layers_of_nn,
    make,
)

import agrad as ag
import agrad.nn.functional as F
from agrad import nn, optim
from agrad.random import seed
from agrad.serialization import load, save

# Options in PyTorch's repr that agrad's modules do not have.
FOREIGN_TEXT = [", inplace=False", ", threshold=20.0"]
# PyTorch's repr leaves out options of these, or adds modules that agrad's do not have.
OWN_TEXT = {
    "CosineSimilarity",
    "MaxUnpool1d",
    "MaxUnpool2d",
    "MaxUnpool3d",
    "MultiheadAttention",
    "PairwiseDistance",
    "TransformerDecoder",
    "TransformerEncoder",
    "TransformerEncoderLayer",
}


def test_every_layer_has_an_example() -> None:
    assert layers_in(LAYERS) == layers_of_nn()
    assert layers_in(LAYERS) - layers_in(IN_PYTORCH) == WITHOUT_PYTORCH


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("text", IN_PYTORCH)
def test_layers_are_pytorchs(text: str, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    seed(0)
    rng = np.random.default_rng(0)
    ours, theirs = make(nn, text).to(dtype), make(torch.nn, text).to(getattr(torch, dtype))
    state = {  # positive, as running variances are
        name: np.asarray(np.abs(rng.normal(size=array.shape)), array.dtype)
        for name, array in ours.state_dict().items()
    }
    ours.load_state_dict(state)
    theirs.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})

    values = [3 * x if x.dtype.kind == "f" else x for x in inputs_of(text, dtype, seed=1)]
    wants = [x.dtype.kind == "f" for x in values]
    inputs = [ag.tensor(x, requires_grad=wanted) for x, wanted in zip(values, wants)]
    known_inputs = [torch.tensor(x, requires_grad=wanted) for x, wanted in zip(values, wants)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's on "same" with even kernels, and on indices
        known_y = first(theirs(*known_inputs))
    y = first(ours(*inputs))
    cotangent = rng.normal(size=y.shape).astype(dtype)
    y.backward(cotangent)
    known_y.backward(torch.from_numpy(cotangent))

    # Sums of a dozen terms of size 1 in another order, and a few ulps of exp and tanh: 1e-12 leaves
    # a factor of a few hundred above float64's eps of 2e-16, and 1e-5 above float32's 1e-7. Terms
    # cancel, so differences are relative to the largest element.
    tolerance = 1e-12 if dtype == "float64" else 1e-5
    if any(name in text for name in ("RNN", "GRU", "LSTM", "Transformer")):
        tolerance *= 10  # a dozen steps or layers in a row, whose errors add up
    pairs = [(y.data, known_y)]
    pairs += [(x.grad, known_x.grad) for x, known_x in zip(inputs, known_inputs)]
    pairs += [(p.grad, q.grad) for p, q in zip(ours.parameters(), theirs.parameters())]
    pairs += [(b.data, c) for b, c in zip(ours.buffers(), theirs.buffers())]
    for array, known in pairs:
        assert (array is None) == (known is None)
        if known is not None:
            expected = known.detach().numpy()
            assert array.dtype == expected.dtype
            atol = tolerance * np.abs(expected).max(initial=0)
            np.testing.assert_allclose(array, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("text", [text for text in IN_PYTORCH if not layers_in([text]) & OWN_TEXT])
def test_texts_are_pytorchs(text: str) -> None:
    torch = pytest.importorskip("torch")
    expected = repr(make(torch.nn, text))
    for foreign in FOREIGN_TEXT:
        expected = expected.replace(foreign, "")
    assert repr(make(nn, text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "CrossEntropyLoss()",
        "CrossEntropyLoss(weight=WEIGHT, label_smoothing=0.1)",
        "CrossEntropyLoss(ignore_index=1, reduction='none')",
        "NLLLoss(reduction='sum')",
        "NLLLoss(weight=WEIGHT, ignore_index=1)",
        "MSELoss()",
        "MSELoss(reduction='sum')",
        "BCEWithLogitsLoss()",
        "BCEWithLogitsLoss(weight=WEIGHT, reduction='none', pos_weight=WEIGHT)",
    ],
)
def test_losses_are_pytorchs(text: str) -> None:
    torch = pytest.importorskip("torch")
    weight = np.array([0.5, 1.0, 2.0])
    classes = text.startswith(("Cross", "NLL"))
    values = np.random.default_rng(1).normal(size=(4, 3))
    target: Any = np.array([0, 2, 1, 2]) if classes else np.linspace(0, 1, 12).reshape(4, 3)
    ours = eval(text, vars(nn) | {"WEIGHT": weight})
    theirs = eval(text, vars(torch.nn) | {"WEIGHT": torch.from_numpy(weight)})
    x, known_x = ag.tensor(values, requires_grad=True), torch.tensor(values, requires_grad=True)
    loss, known = ours(x, target), theirs(known_x, torch.from_numpy(target))
    loss.sum().backward()
    known.sum().backward()
    np.testing.assert_allclose(loss.data, known.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(x.grad, known_x.grad.numpy(), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("text", LAYERS)
def test_layers_take_arrays_as_they_take_tensors(text: str) -> None:
    seed(0)
    module = make(nn, text).to("float64")
    values = inputs_of(text, "float64")
    before = [x.copy() for x in values]
    out = first(module(*values))
    assert type(out) is ag.Tensor
    np.testing.assert_array_equal(out.data, first(module(*map(ag.tensor, values))).data)
    for x, same in zip(values, before):
        np.testing.assert_array_equal(x, same)


def test_linear_starts_as_pytorchs() -> None:
    # Both are U(±1/√fan_in): the largest of 20,000 and of 200 draws is near the bound of 0.1.
    seed(0)
    module = nn.Linear(100, 200)
    assert module.weight.shape == (200, 100)
    assert module.weight.dtype == module.bias.dtype == np.float32
    for parameter, size in ((module.weight, 20_000), (module.bias, 200)):
        assert 0.1 * (1 - 20 / size) < np.abs(parameter.data).max() <= np.float32(0.1)
        # standard errors of the mean and of the variance of a uniform distribution
        assert abs(parameter.data.mean()) < 5 * 0.1 / math.sqrt(3 * size)
        assert abs(parameter.data.var() * 300 - 1) < 5 * math.sqrt(0.8 / size)


@pytest.mark.parametrize("text", ["Conv2d(8, 20, (3, 5))", "ConvTranspose1d(40, 20, 5)"])
def test_convolutions_start_as_pytorchs(text: str) -> None:
    torch = pytest.importorskip("torch")
    seed(0)
    ours, theirs = make(nn, text), make(torch.nn, text)
    for name, parameter in ours.named_parameters():
        known = getattr(theirs, name).detach().numpy()
        assert parameter.shape == known.shape
        assert parameter.dtype == known.dtype
        bound = 1 / math.sqrt(math.prod(ours.weight.shape[1:]))
        # of 20 draws and more, the largest is hardly ever below 0.7 of the bound
        assert 0.7 * bound < np.abs(parameter.data).max() <= np.float32(bound)
        assert np.abs(known).max() <= np.float32(bound)


def test_running_statistics_are_saved_loaded_and_converted() -> None:
    x = np.random.default_rng(0).normal(3, 2, size=(50, 4))
    source, target = nn.BatchNorm1d(4, momentum=None), nn.BatchNorm1d(4)
    for part in (x[:25], x[25:]):
        source(part.astype(np.float32))
    assert source.num_batches_tracked.item() == 2
    np.testing.assert_allclose(source.running_mean.data, x.mean(0), rtol=1e-5)
    target.load_state_dict(source.state_dict())
    out = target.eval().to("float64")(x)
    assert out.dtype == np.float64
    assert abs(out.data.mean()) < 1e-6
    np.testing.assert_array_equal(target.running_var.data, source.running_var.data)


@pytest.mark.parametrize("training", [True, False])
def test_without_running_statistics_the_batch_s_own_serve_in_both_modes(training: bool) -> None:
    x = np.random.default_rng(0).normal(3, 2, size=(50, 4))
    norm = nn.BatchNorm1d(4, track_running_stats=False).to("float64").train(training)
    assert not list(norm.buffers())
    for part in (x, 10 * x[:20]):
        expected = (part - part.mean(0)) / np.sqrt(part.var(0) + 1e-5)
        np.testing.assert_allclose(norm(part).data, expected, rtol=1e-10, atol=1e-12)
    with pytest.raises(ValueError, match="training needs more than one element"):
        norm(x[:1])


def test_average_gradient_trains_convolutions_with_batch_norm_and_dropout() -> None:
    """Replays keep masks and statistics: the loss at the end of each update is as predicted."""
    seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
        nn.Conv2d(6, 8, 3, stride=2),
        nn.Tanh(),
        nn.Dropout(0.2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 2),
    )
    rng = np.random.default_rng(0)
    labels = np.arange(32) % 2
    images = rng.normal(size=(32, 1, 10, 10)).astype(np.float32)
    images[labels == 1, :, :, ::2] += 1  # one class has stripes
    optimizer = optim.AverageGradient(optim.Adam(model.parameters(), lr=0.01))
    criterion = nn.CrossEntropyLoss()
    norm = model[1]
    losses = []
    for step in range(30):
        optimizer.zero_grad()
        loss = criterion(model(images), labels)
        statistics = norm.state_dict()
        assert statistics["num_batches_tracked"] == step + 1
        parameters = list(model.parameters())
        updates = {p: 1e-2 * rng.normal(size=p.shape).astype(np.float32) for p in parameters}
        end = loss.average_backward(updates, retain_graph=True)
        foretold = sum(float((p.average_grad * updates[p]).sum()) for p in parameters)
        # rounding of the loss, and of the sums in front of it
        assert float(end) - float(loss.data) == pytest.approx(foretold, abs=1e-5)
        optimizer.zero_grad()
        optimizer.step(loss)
        for name, values in norm.state_dict().items():
            if name not in ("weight", "bias"):
                np.testing.assert_array_equal(values, statistics[name])
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])


def test_the_seed_decides_the_weights() -> None:
    seed(3)
    first = nn.Linear(4, 3).state_dict()
    other = nn.Linear(4, 3).state_dict()
    seed(3)
    again = nn.Linear(4, 3).state_dict()
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
        assert (first[name] != other[name]).any()


def test_dropout_drops_in_training_alone() -> None:
    seed(4)
    dropout = nn.Dropout(0.25)
    x = np.ones(10_000, np.float32)
    out = dropout(x).data
    assert set(np.unique(out)) == {0, np.float32(4 / 3)}
    # five standard errors of a share of 0.25
    assert abs((out == 0).mean() - 0.25) < 5 * math.sqrt(0.25 * 0.75 / len(x))
    assert (dropout(x).data != out).any()
    np.testing.assert_array_equal(dropout.eval()(x).data, x)
    seed(4)
    np.testing.assert_array_equal(dropout.train()(x).data, out)


@pytest.mark.parametrize("kind", [nn.Dropout1d, nn.Dropout2d, nn.Dropout3d])
def test_dropout_of_channels_keeps_or_drops_them_whole(kind: Any) -> None:
    axes = int(kind.__name__[-2])
    rng = np.random.default_rng(0)
    for shape in (500, 3, *[2] * axes), (1500, *[2] * axes):
        seed(4)
        dropout, x = kind(0.25), rng.uniform(1, 2, shape).astype(np.float32)
        leaf = ag.tensor(x, requires_grad=True)
        out = dropout(leaf)
        kept = (out.data != 0).reshape(1500, -1)
        assert (kept.all(axis=1) | ~kept.any(axis=1)).all()
        assert abs(kept.mean() - 0.75) < 5 * math.sqrt(0.25 * 0.75 / 1500)
        mask = kept.reshape(shape) * np.float32(4 / 3)
        np.testing.assert_array_equal(out.data, x * mask)
        out.sum().backward(retain_graph=True)
        np.testing.assert_array_equal(leaf.grad, mask)
        out.sum().average_backward({leaf: x})
        np.testing.assert_array_equal(leaf.average_grad, mask)
        np.testing.assert_array_equal(dropout.eval()(x).data, x)
    captured = ag.capture(kind(0.25))
    draws = [captured(np.ones(shape, np.float32)).data for _ in range(2)]
    assert (draws[0] != draws[1]).any()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.Dropout2d(-1), ValueError, "Dropout2d: p must lie in .*got -1"),
        (
            lambda: nn.Dropout2d()(np.ones((2, 3), np.float32)),
            ValueError,
            r"dropout2d: input must have shape \(N, C, H, W\) or \(C, H, W\), got \(2, 3\)",
        ),
        (lambda: nn.Linear(0, 3), ValueError, "Linear: .*in_features=0 and out_features=3"),
        (lambda: nn.Linear(3, 0), ValueError, "Linear: .*in_features=3 and out_features=0"),
        (lambda: nn.Linear(3, 2)(np.ones((2, 4), np.float32)), ValueError, "linear: .*4"),
        (lambda: nn.Dropout(1.5), ValueError, "Dropout: p must lie in .*got 1.5"),
        (lambda: nn.LayerNorm(3)(np.ones((2, 4), np.float32)), ValueError, "layer_norm: .*4"),
        (lambda: nn.Flatten()(np.ones(())), ValueError, "Flatten: start_dim: axis 1"),
        (
            lambda: nn.Flatten(2, 1)(np.ones((2, 2, 2))),
            ValueError,
            "start_dim=2 is after end_dim=1",
        ),
        (lambda: nn.Unflatten(0, (2, 2))(np.ones(6)), ValueError, r"Unflatten: .*\(6,\)"),
        (lambda: nn.Softmax(), TypeError, "dim"),
        (lambda: nn.Conv2d(3, 4, 3, groups=2), ValueError, "Conv2d: groups.*in_channels=3"),
        (lambda: nn.Conv1d(4, 4, 0), ValueError, "Conv1d: kernel_size .*got 0"),
        (lambda: nn.Conv1d(4, 4, 3, stride=-1), ValueError, "Conv1d: stride .*got -1"),
        (lambda: nn.ConvTranspose2d(4, 4, (3,)), ValueError, "ConvTranspose2d: kernel_size"),
        (lambda: nn.BatchNorm1d(0), ValueError, "BatchNorm1d: .*num_features=0"),
        (
            lambda: nn.BatchNorm2d(3)(np.ones((2, 3), np.float32)),
            ValueError,
            r"BatchNorm2d: input must have shape \(N, C, H, W\) with C = 3, got \(2, 3\)",
        ),
        (lambda: nn.BatchNorm1d(3)(np.ones((1, 3), np.float32)), ValueError, "batch_norm: .*eval"),
        (lambda: nn.GELU("sigmoid")(1.0), ValueError, "gelu: approximate .*'sigmoid'"),
        (
            lambda: nn.GLU()(np.ones((2, 3))),
            ValueError,
            r"glu: axis 1 .*\(2, 3\), has an odd length",
        ),
        (lambda: nn.GLU(dim=2)(np.ones((2, 4))), ValueError, "glu: dim: axis 2"),
        (lambda: nn.PReLU(0), ValueError, "PReLU: num_parameters .*got 0"),
        (lambda: nn.PReLU(3)(np.ones((2, 4), np.float32)), ValueError, r"prelu: weight .*\(3,\)"),
        (lambda: nn.GroupNorm(4, 6), ValueError, "GroupNorm: .*num_groups=4 and num_channels=6"),
        (lambda: nn.GroupNorm(2, 6)(np.ones((2, 4), np.float32)), ValueError, "GroupNorm: .*C = 6"),
        (
            lambda: nn.GroupNorm(4, 4)(np.ones((2, 4), np.float32)),
            ValueError,
            "group_norm: a group",
        ),
        (lambda: nn.InstanceNorm1d(4)(np.ones((2, 3, 5))), ValueError, "InstanceNorm1d: .*C = 4"),
        (
            lambda: nn.InstanceNorm2d(4)(np.ones((2, 4, 1, 1), np.float32)),
            ValueError,
            "instance_norm: a channel of an example needs more than one element",
        ),
        (lambda: nn.ZeroPad2d((1, 2)), ValueError, r"ZeroPad2d: padding .*4 of them.*\(1, 2\)"),
        (lambda: nn.ZeroPad1d(1)(np.ones(3)), ValueError, r"ZeroPad1d: input .*\(3,\)"),
        (lambda: nn.ReflectionPad1d(3)(np.ones((2, 3))), ValueError, r"pad: \(3, 3\) .*axis 1"),
        (lambda: nn.CircularPad1d(-1)(np.ones((2, 3))), ValueError, r"pad: \(-1, -1\) .*axis 1"),
        (lambda: nn.ConstantPad1d(-2, 0.0)(np.ones((2, 3))), ValueError, r"pad: \(-2, -2\)"),
        (lambda: nn.functional.pad([1.0], (1,)), ValueError, r"pad: pad must hold two .*\(1,\)"),
        (lambda: nn.functional.pad([1.0], (1, 1), "edge"), ValueError, "pad: mode .*'edge'"),
        (lambda: nn.Upsample(2, 2)(np.ones((1, 1, 2))), ValueError, "either size or scale_factor"),
        (lambda: nn.Upsample(2)(np.ones((1, 2))), ValueError, r"interpolate: .*got \(1, 2\)"),
        (lambda: nn.Upsample(scale_factor=0.1)(np.ones((1, 1, 2))), ValueError, "leaves no "),
        (
            lambda: nn.Upsample(2, mode="bilinear")(np.ones((1, 1, 2))),
            ValueError,
            r"mode 'bilinear' needs an input of shape \(N, C, H, W\)",
        ),
        (lambda: nn.RMSNorm(3)(np.ones((2, 4), np.float32)), ValueError, "rms_norm: .*4"),
        (lambda: nn.CrossEntropyLoss(reduction="all")([[1.0]], [0]), ValueError, "'all'"),
    ],
)
def test_layers_refuse(make: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_a_saved_model_gives_the_same_outputs(tmp_path: Path) -> None:
    seed(5)
    model, twin = (nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.ReLU()) for _ in range(2))
    x = np.random.default_rng(5).normal(size=(2, 3)).astype(np.float32)
    assert (model(x).data != twin(x).data).any()
    save(tmp_path / "model.safetensors", {"model": model.state_dict()})
    twin.load_state_dict(load(tmp_path / "model.safetensors")["model"])
    np.testing.assert_array_equal(model(x).data, twin(x).data)


@pytest.mark.parametrize(
    ("layer", "options", "shape"),
    [
        (nn.MaxPool1d, [2], (1, 2, 8)),
        (nn.MaxPool2d, [2, 3], (1, 2, 8, 8)),
        (nn.AvgPool2d, [2, 3], (1, 2, 8, 8)),
        (nn.AdaptiveAvgPool2d, [2, 3], (1, 2, 8, 8)),
        (nn.LayerNorm, [2, 3], (4, 2, 3)),
        (nn.RMSNorm, [2, 3], (4, 2, 3)),
        (lambda size: nn.Conv2d(2, 2, size), [2, 3], (1, 2, 8, 8)),
        (lambda shape: nn.Unflatten(1, shape), [2, 3], (4, 6)),
        (lambda slope: nn.LeakyReLU(slope), np.array(0.5), (4, 6)),
        (lambda alpha: nn.ELU(alpha), np.array(0.5), (4, 6)),
    ],
)
def test_the_options_of_a_layer_may_change_after_its_construction(
    layer: Any, options: Any, shape: Any
) -> None:
    module = layer(options)
    x = ag.tensor(np.linspace(-1, 1, math.prod(shape)).reshape(shape))
    before, text = module(x).data, repr(module)
    if isinstance(options, list):
        options[:] = [1] * 5
    else:
        options[...] = 9
    assert repr(module) == text
    np.testing.assert_array_equal(module(x).data, before)


@pytest.mark.parametrize("layer", [nn.CrossEntropyLoss, nn.NLLLoss])
def test_the_class_weights_of_a_loss_may_change_after_its_construction(layer: Any) -> None:
    weight = np.array([1.0, 2.0])
    loss, own = layer(weight), layer(tensor := ag.tensor(weight))
    before = loss([[0.5, -1.0]], [1]).data, own([[0.5, -1.0]], [1]).data
    weight[:] = 9
    after = loss([[0.5, -1.0]], [1]).data, own([[0.5, -1.0]], [1]).data
    assert before == after
    assert own.weight is tensor


@pytest.mark.parametrize("layer", [nn.LayerNorm, nn.RMSNorm])
def test_the_length_to_normalize_may_be_numpys(layer: Any) -> None:
    x = np.arange(8.0, dtype=np.float32).reshape(2, 4)
    np.testing.assert_array_equal(layer(np.int64(4))(x).data, layer(4)(x).data)


def test_instance_norm_of_no_examples() -> None:
    x = ag.tensor(np.zeros((0, 3, 4), np.float32), requires_grad=True)
    out = nn.InstanceNorm1d(3, affine=True)(x)
    out.sum().backward()
    assert out.shape == x.grad.shape == (0, 3, 4)


def test_unpooling_to_a_length_and_of_no_examples() -> None:
    x = np.arange(4.0, dtype=np.float32).reshape(1, 1, 4)
    out, places = F.max_pool1d(x, 2, return_indices=True)
    assert F.max_unpool1d(out, places, 2, output_size=4).tolist() == [[[0.0, 1.0, 0.0, 3.0]]]
    none = np.zeros((0, 3, 2, 2), np.float32)
    assert F.max_unpool2d(none, none.astype(int), 2).shape == (0, 3, 4, 4)
